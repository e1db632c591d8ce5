"""
The gateway's listening sockets: all who wait are let in at each turn of the event loop.

Why not the loop's own server: libuv accepts one connection a turn. A turn of a busy gateway takes as long as all the
requests that have come, so that each of a crowd of new clients would wait for those before it, the last for half a
minute.
"""

import asyncio
import socket
from collections.abc import Callable
from typing import Self

import structlog

BACKLOG = 1024  # who waits to be let in; beyond it Linux drops what clients send, until they send it again
AGAIN_S = 1.0  # after the process has run out of files

log = structlog.get_logger()


class Listener:
    """Listens at each address of a host; an async context manager."""

    def __init__(self, make_protocol: Callable[[], asyncio.Protocol], *, host: str, port: int) -> None:
        """Give each connection a protocol."""
        self._make_protocol = make_protocol
        self._host = host
        self._port = port
        self._sockets: list[socket.socket] = []
        self._arriving: set[asyncio.Task[object]] = set()

    async def __aenter__(self) -> Self:
        """Listen. Raises OSError where that cannot be."""
        self._loop = asyncio.get_running_loop()
        for family, _, _, _, address in await self._loop.getaddrinfo(
            self._host, self._port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        ):
            self._sockets.append(socket.create_server(address, family=family, backlog=BACKLOG))
        for listening in self._sockets:
            listening.setblocking(False)
            self._watch(listening)
        return self

    async def __aexit__(self, *_: object) -> None:
        """Listen no more; who was let in stays."""
        for listening in self._sockets:
            self._loop.remove_reader(listening)
            listening.close()
        await asyncio.gather(*self._arriving, return_exceptions=True)

    def _watch(self, listening: socket.socket) -> None:
        if listening.fileno() >= 0:  # not closed since
            self._loop.add_reader(listening, self._accept, listening)

    def _accept(self, listening: socket.socket) -> None:
        for _ in range(BACKLOG):
            try:
                arrived, _address = listening.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError as error:
                log.warning("no connection can be accepted", why=error.strerror)
                self._loop.remove_reader(listening)
                self._loop.call_later(AGAIN_S, self._watch, listening)
                return
            arrived.setblocking(False)
            task = self._loop.create_task(self._loop.connect_accepted_socket(self._make_protocol, arrived))
            self._arriving.add(task)
            task.add_done_callback(self._arriving.discard)
