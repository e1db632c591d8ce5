"""
The gateway's listening sockets: all who wait are let in at each turn of the event loop.

Why not the loop's own server: libuv accepts one connection a turn. A turn of a busy gateway takes as long as all the
requests that have come, so that each of a crowd of new clients would wait for those before it, the last for half a
minute.
"""

import asyncio
import errno
import socket
from collections.abc import Callable
from typing import Self

import structlog

BACKLOG = 1024  # who waits to be let in; beyond it Linux drops what clients send, until they send it again
ARRIVING_MAX = 200  # accepted and not counted yet: well below the files that the process keeps for everything else
RETRY_DELAY_S = 1.0  # after something has run out

_RUN_OUT = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_NO_SUCH_FAMILY = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)  # localhost is ::1 too, also where there is no IPv6

log = structlog.get_logger()


class Listener:
    """A listener at each address of a host; an async context manager."""

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
        try:
            await self._bind()
        except OSError:
            self._close()
            raise
        for listening in self._sockets:
            listening.setblocking(False)
            self._watch(listening)
        return self

    async def __aexit__(self, *_: object) -> None:
        """Listen no more; who was let in stays."""
        for listening in self._sockets:
            self._loop.remove_reader(listening)
        self._close()
        await asyncio.gather(*self._arriving, return_exceptions=True)

    async def _bind(self) -> None:
        missing: OSError | None = None
        for family, _, _, _, address in await self._loop.getaddrinfo(
            self._host, self._port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        ):
            try:
                self._sockets.append(socket.create_server(address, family=family, backlog=BACKLOG))
            except OSError as error:
                if error.errno not in _NO_SUCH_FAMILY:
                    raise
                missing = error
        if missing is not None and not self._sockets:
            raise missing

    def _close(self) -> None:
        for listening in self._sockets:
            listening.close()

    def _watch(self, listening: socket.socket) -> None:
        if listening.fileno() >= 0:  # not closed since
            self._loop.add_reader(listening, self._accept, listening)

    def _accept(self, listening: socket.socket) -> None:
        while len(self._arriving) < ARRIVING_MAX:
            try:
                arrived, _address = listening.accept()
            except OSError as error:  # nobody waits any more, or one has gone meanwhile
                if error.errno in _RUN_OUT:
                    log.warning("cannot accept connections", error=error.strerror)
                    self._loop.remove_reader(listening)
                    self._loop.call_later(RETRY_DELAY_S, self._watch, listening)
                return
            arrived.setblocking(False)
            task = self._loop.create_task(self._loop.connect_accepted_socket(self._make_protocol, arrived))
            self._arriving.add(task)
            task.add_done_callback(self._arrived)

    def _arrived(self, task: asyncio.Task[object]) -> None:
        self._arriving.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.warning("connection not accepted", exc_info=error)
