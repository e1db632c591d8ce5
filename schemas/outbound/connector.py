"""Connections to receivers: none to an internal address, unless that is allowed."""

import errno
import socket

import aiohttp
from aiohttp.connector import AddrInfoType

from schemas.outbound.addresses import is_internal


class AddressRefused(OSError):
    """The receiver's name stands for an address of an internal network."""


def connector(*, internal_allowed: bool) -> aiohttp.TCPConnector:
    """Return a connector that looks at each address right before it connects to it."""
    return aiohttp.TCPConnector(
        limit=0,  # the endpoint's concurrency is the bound
        ttl_dns_cache=10,
        socket_factory=None if internal_allowed else outward_socket,
    )


def outward_socket(address: AddrInfoType) -> socket.socket:
    """
    Return a socket for *address*, which aiohttp is about to connect.

    Raises:
        AddressRefused: it is internal.
    """
    family, kind, protocol, _, place = address
    host = str(place[0])
    if is_internal(host):
        raise AddressRefused(errno.EACCES, f"{host} is an internal address")
    return socket.socket(family, kind, protocol)
