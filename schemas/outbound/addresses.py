"""
The addresses that a receiver may have. Pure.

An endpoint's owner may name any host: without this, a webhook would reach what only our own network should (SSRF). The
check is made on the address that a socket is about to connect to (`connector.py`), so that neither an address written
as a number nor a name that resolves differently the second time gets past it.
"""

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from urllib.parse import SplitResult, urlsplit

PORTS = frozenset({443, 8443})
URL_CHARACTERS_MAX = 2048

# Global by the registry's letter, but they lead elsewhere: relays and tunnels to any IPv4 address, and what
# older releases of the standard library count as global.
_NEVER = tuple(
    ip_network(each)
    for each in (
        "192.0.0.0/24",
        "192.88.99.0/24",  # 6to4 relays
        "64:ff9b:1::/48",  # NAT64 of one's own network
        "2001::/23",  # protocol assignments, Teredo among them
        "2002::/16",  # 6to4
        "3fff::/20",  # documentation
        "5f00::/16",  # segment routing
        "fec0::/10",  # site-local
    )
)
_NAT64 = ip_network("64:ff9b::/96")


def is_internal(text: str) -> bool:
    """Return True if an address, as a socket has it, is not of the public network, or is no address at all."""
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return True
    return _is_internal(address)


def _is_internal(address: IPv4Address | IPv6Address) -> bool:
    if isinstance(address, IPv6Address):
        embedded = address.ipv4_mapped
        if address in _NAT64:
            embedded = IPv4Address(int(address) & 0xFFFFFFFF)
        if embedded is not None:
            return _is_internal(embedded)
    return (
        not address.is_global
        or address.is_multicast
        or address.is_reserved
        or any(address.version == network.version and address in network for network in _NEVER)
    )


def url_fault(url: str, *, internal_allowed: bool) -> str | None:
    """Return what is wrong with an endpoint's URL; None if it may be sent to."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return "no URL"
    if len(url) > URL_CHARACTERS_MAX or not url.isascii() or not url.isprintable() or " " in url:
        return f"at most {URL_CHARACTERS_MAX} printable ASCII characters"
    if parts.username is not None or parts.password is not None:
        return "credentials belong into headers, not into the URL"
    if not parts.hostname:
        return "no host"
    return None if internal_allowed else _public_fault(parts, port)


def _public_fault(parts: SplitResult, port: int | None) -> str | None:
    if parts.scheme != "https":
        return "not https"
    if (port or 443) not in PORTS:
        return f"port {port} is none of {', '.join(map(str, sorted(PORTS)))}"
    return None
