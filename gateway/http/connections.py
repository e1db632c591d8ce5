"""
Connections: bounded in number, and cut when their clients dawdle.

aiohttp bounds neither: half a head may take as long as an idle connection, and an answer that nobody reads is kept
for ever. One look at all connections every few seconds is enough, and costs a request nothing.
"""

import asyncio
import resource
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, cast

import structlog
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError, LineTooLong

from gateway.errors import ClientGone, Malformed, problem_of
from gateway.http.problems import problem_response
from gateway.http.trace import trace_id_of, traceparent_of
from schemas.process.http_protocol import HttpProtocol
from schemas.process.telemetry import HTTP_CONNECTIONS, HTTP_CONNECTIONS_CUT, HTTP_REQUESTS, Telemetry

log = structlog.get_logger()

CONNECTIONS_MAX = 10_000
FILES_RESERVED = 500  # file descriptors that the process needs for everything else
UNMATCHED = "unmatched"  # the route that is counted for what no route has
IDLE_GRACE_S = 1.0  # beyond what a client is told: a request that it sends at the last moment is answered
LOOKS_PER_DEADLINE = 4  # a client has up to a fourth more time than it is given


@dataclass(frozen=True, slots=True, kw_only=True)
class Deadlines:
    """Deadlines of a client, in seconds."""

    head_s: float = 10.0  # from the opening of the connection, later from the first byte
    body_s: float = 30.0
    idle_s: float = 30.0  # between requests, told in Keep-Alive; 0: each answer ends its connection
    unread_s: float = 30.0  # without taking a byte of what is answered
    linger_s: float = 10.0  # with the rest of a body that is refused already


DEADLINES = Deadlines()


class Cut(StrEnum):
    """The reason why a connection was cut."""

    NO_ROOM = "no_room"
    HEAD = "head"
    UNREAD = "unread"


class Connections(web.Server):
    """aiohttp's server with a bound on its connections and an eye on them."""

    def __init__(
        self,
        handler: Any,
        *,
        deadlines: Deadlines,
        connections_max: int,
        telemetry: Telemetry,
        **options: Any,
    ) -> None:
        """Hand requests to *handler*; *options* are those of aiohttp's protocol."""
        super().__init__(handler, **options)
        self.deadlines = deadlines
        self._options = options
        self._connections_max = connections_max
        self._open: dict[Connection, asyncio.Transport] = {}
        self._gauge = telemetry[HTTP_CONNECTIONS]
        self._cut = telemetry[HTTP_CONNECTIONS_CUT]
        self.refusals = telemetry[HTTP_REQUESTS]
        self._next_look: asyncio.TimerHandle | None = None  # while there are connections

    def __call__(self) -> "Connection":
        """Return the protocol of a new connection."""
        return Connection(self, loop=self._loop, **self._options)

    def has_room(self) -> bool:
        """Return True if one more connection may be open."""
        return len(self._open) < self._connections_max

    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        """Keep an eye on a connection from now on."""
        super().connection_made(handler, transport)
        self._open[cast(Connection, handler)] = transport
        self._gauge.inc()
        if self._next_look is None:
            self._schedule()

    def connection_lost(self, handler: web.RequestHandler, exc: BaseException | None = None) -> None:
        """Forget a connection."""
        super().connection_lost(handler, exc)
        if self._open.pop(cast(Connection, handler), None) is not None:
            self._gauge.dec()

    def cut(self, transport: asyncio.Transport, reason: Cut) -> None:
        """End a connection without waiting for its client."""
        self._cut.labels(reason.value).inc()
        transport.abort()

    def _schedule(self) -> None:
        wait_s = min(self.deadlines.head_s, self.deadlines.unread_s) / LOOKS_PER_DEADLINE
        self._next_look = self._loop.call_later(wait_s, self._look)

    def _look(self) -> None:
        now_s = self._loop.time()
        for connection, transport in list(self._open.items()):
            if (reason := connection.overdue(transport, now_s)) is not None:
                self.cut(transport, reason)
        if self._open:
            self._schedule()
        else:
            self._next_look = None


class Connection(HttpProtocol):
    """The protocol of one connection, which remembers what its client is late with."""

    __slots__ = ("_head_since_s", "_progress", "_progress_at_s", "_server")

    def __init__(self, server: Connections, **options: Any) -> None:
        """Attach the connection to *server*."""
        super().__init__(server, **options)
        self._server = server
        self._head_since_s: float | None = None  # None: no head is awaited
        self._progress = (0, 0)
        self._progress_at_s = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to wait for the first head, if there is room."""
        if not self._server.has_room():
            self.force_close()
            self._server.cut(cast(asyncio.Transport, transport), Cut.NO_ROOM)
            return
        self._head_since_s = self._progress_at_s = self._loop.time()
        super().connection_made(transport)

    def data_received(self, data: bytes) -> None:
        """Take bytes of a head or of a body, and note whether a head is whole."""
        parsed = self._request_count
        super().data_received(data)
        if self._request_count != parsed:
            self._head_since_s = None
        elif self._head_since_s is None and self._waiter is not None:  # idle until now
            self._head_since_s = self._loop.time()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002  # it quotes what was sent
    ) -> web.StreamResponse:
        """Handle errors raised before or after the request handler; the answer, a problem, ends the connection."""
        if isinstance(exc, ClientGone):
            raise exc
        if request.writer.output_size > 0:
            raise ConnectionError("part of an answer is sent already")
        trace_id = trace_id_of(traceparent_of(None))
        if isinstance(exc, HttpProcessingError):
            detail = "a line of the head is too long" if isinstance(exc, LineTooLong) else "no well-formed HTTP request"
            problem = problem_of(Malformed(detail))
        else:
            log.error("answer failed", trace_id=trace_id, status=status, exc_info=exc)
            problem = problem_of(RuntimeError())
        self._server.refusals.labels("", UNMATCHED, str(problem.status)).inc()
        response = problem_response(problem, instance=request.rel_url.raw_path, trace_id=trace_id)
        response.force_close()
        return response

    def overdue(self, transport: asyncio.Transport, now_s: float) -> Cut | None:
        """Return the reason to close the connection; None if it may stay open."""
        deadlines = self._server.deadlines
        unsent_bytes = transport.get_write_buffer_size()
        answers = self._request_count - len(self._messages)
        # As many bytes as before may be others, where another answer has begun meanwhile.
        if not unsent_bytes or answers != self._progress[0] or unsent_bytes < self._progress[1]:
            self._progress_at_s = now_s
        self._progress = (answers, unsent_bytes)
        if now_s - self._progress_at_s > deadlines.unread_s:
            return Cut.UNREAD
        if self._head_since_s is not None and now_s - self._head_since_s > deadlines.head_s:
            return Cut.HEAD
        return None


def raise_open_file_limit(connections_max: int) -> int:
    """Raise the limit of open files for so many connections, and return the number of connections it allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    files = files_within(connections_max + FILES_RESERVED, soft=soft, hard=hard)
    if files != soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, hard))
    return connections_max if files == resource.RLIM_INFINITY else max(1, min(connections_max, files - FILES_RESERVED))


def files_within(needed: int, *, soft: int, hard: int) -> int:
    """Return the soft limit on open files by which *needed* may be open, or as many as *hard* lets."""
    if soft == resource.RLIM_INFINITY or needed <= soft:
        return soft
    return needed if hard == resource.RLIM_INFINITY else min(needed, hard)
