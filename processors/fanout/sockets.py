"""All open websockets: their number bounded, pinged, and ended with their key, their silence or this process."""

import asyncio
import resource
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from time import monotonic
from typing import Self

import structlog
from aiohttp import web

from processors.fanout.backlog import Backlog
from processors.fanout.messages import plain
from processors.fanout.outbox import Outbox
from processors.fanout.refusals import HttpError
from processors.fanout.socket import Ending, Socket
from schemas.access.credentials import Principal
from schemas.errors import ErrorCode
from schemas.process import telemetry

POLL_INTERVAL_S = 0.5
PING_EVERY_S = 20.0
SILENT_S = 60.0
STUCK_S = 30.0  # with something to be sent and nothing taken
RETRY_AFTER_S = 5
STOP_S = 4.0
FILES_RESERVED = 500  # for everything else

log = structlog.get_logger()


class Sockets:
    """The open sockets; an async context manager that closes them on exit."""

    def __init__(
        self,
        *,
        is_key_valid: Callable[[Principal], bool],
        sockets_max: int,
        tenant_sockets_max: int,
        instruments: telemetry.Telemetry,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        """Hold at most so many; *is_key_valid* says whether a key is still in force."""
        self._is_key_valid = is_key_valid
        self._sockets_max = sockets_max
        self._tenant_sockets_max = tenant_sockets_max
        self._clock = clock
        self._backlog = Backlog(cut=self._cut_largest)
        self._open: dict[Socket, Callable[[], None]] = {}  # with what is to be done first when one ends
        self._by_outbox: dict[Outbox, Socket] = {}
        self._admitted: Counter[str] = Counter()  # by tenant; those that are just being opened included
        self._ending: set[Socket] = set()
        self._none = asyncio.Event()
        self._stopping = False
        self._gauge = instruments[telemetry.FANOUT_SOCKETS]
        self._cut = instruments[telemetry.FANOUT_CUT]

    async def __aenter__(self) -> Self:
        """Start to watch them."""
        await self._backlog.__aenter__()
        self._task = asyncio.create_task(self._look_after(), name="sockets")
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close them all, and let none in."""
        self._stopping = True
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task
        for socket in list(self._open):
            self._end(socket, Ending.STOPPING)
        if self._admitted:
            self._none.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(STOP_S):
                    await self._none.wait()
        await self._backlog.__aexit__()

    @contextmanager
    def admitted(self, tenant: str) -> Iterator[None]:
        """
        Keep room for one socket of *tenant*.

        Raises:
            HttpError: there is none.
        """
        if self._stopping:
            raise HttpError(503, ErrorCode.BACKPRESSURE, "this process is about to end", retry_after_s=RETRY_AFTER_S)
        if self._admitted.total() >= self._sockets_max:
            raise HttpError(503, ErrorCode.BACKPRESSURE, "too many websockets are open", retry_after_s=RETRY_AFTER_S)
        if self._admitted[tenant] >= self._tenant_sockets_max:
            detail = f"the tenant has {self._tenant_sockets_max} websockets open"
            raise HttpError(429, ErrorCode.RATE_LIMIT_EXCEEDED, detail, retry_after_s=RETRY_AFTER_S)
        self._admitted[tenant] += 1
        try:
            yield
        finally:
            self._admitted[tenant] -= 1
            if not self._admitted[tenant]:
                del self._admitted[tenant]
            if not self._admitted:
                self._none.set()

    def make(
        self, ws: web.WebSocketResponse, transport: asyncio.Transport, *, principal: Principal, stream: str
    ) -> Socket:
        """Make the socket of an upgraded request; `opened` is to come next."""
        return Socket(
            ws,
            transport,
            principal=principal,
            stream=stream,
            later=self._backlog.add,
            end=self._end,
            clock=self._clock,
        )

    @contextmanager
    def opened(self, socket: Socket, join: Callable[[], Callable[[], None]]) -> Iterator[None]:
        """Look after *socket* within the context: *join* makes it a subscriber, and returns what ends that."""
        self._open[socket] = lambda: None
        self._by_outbox[socket.outbox] = socket
        self._open[socket] = join()
        gauge = self._gauge.labels(socket.stream)
        gauge.inc()
        try:
            yield
        finally:
            self._forget(socket)
            self._ending.discard(socket)
            gauge.dec()

    def check(self) -> None:
        """End those whose keys, or whose clients, are gone, and ping the others."""
        now_s = self._clock()
        standing: dict[Principal, bool] = {}
        for socket in list(self._open):
            if socket.principal not in standing:
                standing[socket.principal] = self._is_key_valid(socket.principal)
            if not standing[socket.principal]:
                self._end(socket, Ending.REVOKED)
            elif now_s - socket.heard_at_s > SILENT_S:
                self._end(socket, Ending.SILENT)
            elif socket.outbox.waits() and now_s - socket.outbox.moved_at_s > STUCK_S:
                self._end(socket, Ending.SLOW_READER)
            elif now_s - socket.pinged_at_s >= PING_EVERY_S:
                socket.pinged_at_s = now_s
                socket.say(plain("ping"))

    async def _look_after(self) -> None:
        while True:
            await asyncio.sleep(POLL_INTERVAL_S)
            self.check()

    def _end(self, socket: Socket, ending: Ending) -> None:
        # May be called while the hub tells: what it goes over must not change under it.
        if socket not in self._ending and socket in self._open:
            self._ending.add(socket)
            self._cut.labels(ending.value.reason).inc()
            asyncio.get_running_loop().call_soon(self._close, socket, ending)

    def _close(self, socket: Socket, ending: Ending) -> None:
        self._forget(socket)
        socket.close(ending)

    def _forget(self, socket: Socket) -> None:
        leave = self._open.pop(socket, None)
        self._by_outbox.pop(socket.outbox, None)
        if leave is not None:
            leave()

    def _cut_largest(self, outbox: Outbox) -> None:
        if (socket := self._by_outbox.get(outbox)) is not None:
            self._end(socket, Ending.SLOW_READER)


def raise_open_file_limit(sockets_max: int) -> None:
    """Raise the limit of open files for so many sockets, as far as the hard limit allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = sockets_max + FILES_RESERVED
    if soft == resource.RLIM_INFINITY or needed <= soft:
        return
    files = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, hard))
    if files < needed:
        log.warning("fewer websockets: the limit on open files is too low (ulimit -Hn)", files=files)
