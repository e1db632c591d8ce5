"""The fanout's own address: the streams, and tickets for web pages."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from time import monotonic
from typing import Self

import structlog
from aiohttp import WSCloseCode, web, web_response
from aiohttp.typedefs import Handler

from processors.fanout.access import Access
from processors.fanout.connections import BACKLOG, Connections
from processors.fanout.dashboard import Dashboard
from processors.fanout.hub import Hub
from processors.fanout.messages import Key, plain
from processors.fanout.refusals import HttpError, problem_response
from processors.fanout.socket import CLOSE_S, MESSAGE_BYTES_MAX, Socket
from processors.fanout.sockets import Sockets
from processors.fanout.streams.contract import Stream
from processors.fanout.streams.table import STREAMS
from processors.fanout.subscriber import Subscriber
from processors.fanout.tickets import VALID_S, Tickets, TooManyTickets
from processors.runtime.errors import Unsettled
from schemas.access.credentials import Principal
from schemas.errors import ErrorCode
from schemas.kafka import cursors
from schemas.kafka.cursors import Cursor, CursorInvalid
from schemas.kafka.places import Partition
from schemas.process import telemetry
from schemas.process.http_protocol import HttpRunner

BODY_BYTES_MAX = 1024  # none is read
POLL_INTERVAL_S = 1.0
RETRY_AFTER_S = 30
CODES = {404: ErrorCode.NOT_FOUND, 405: ErrorCode.METHOD_NOT_ALLOWED, 413: ErrorCode.PAYLOAD_TOO_LARGE}

CREDENTIAL_PARAMETERS = ("ticket", "api_key")
STREAM_PARAMETERS = ("cursor", *CREDENTIAL_PARAMETERS)
RESOLVING_PARAMETERS = ("cursor", "resolve", *CREDENTIAL_PARAMETERS)
NAME_SHOWN_MAX = 100  # characters of a parameter's name, in an error message

SWITCH = {"true": True, "false": False}

log = structlog.get_logger()


class Server:
    """The server of the streams; an async context manager."""

    def __init__(
        self,
        hub: Hub,
        sockets: Sockets,
        dashboard: Dashboard,
        *,
        access: Access,
        tickets: Tickets,
        instruments: telemetry.Telemetry,
        host: str,
        port: int,
        connections_max: int,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        """Listen on *host* and *port* within the context."""
        self._hub = hub
        self._sockets = sockets
        self._dashboard = dashboard
        self._access = access
        self._tickets = tickets
        self._refused = instruments[telemetry.FANOUT_REFUSED]
        self._host = host
        self._port = port
        self._connections_of = partial(
            Connections, connections_max=connections_max, instruments=instruments, clock=clock
        )
        web_response.SERVER_SOFTWARE = "tidegate"  # type: ignore[attr-defined]  # it names no other way
        app = web.Application(middlewares=[self._answer], client_max_size=BODY_BYTES_MAX)
        streams: dict[str, Handler] = {each.path: partial(self._follow, each) for each in STREAMS.values()}
        for path, handler in {**streams, "/ws/dashboard": self._watch}.items():
            app.router.add_get(path, handler, allow_head=False)
            app.router.add_get(f"{path}/", handler, allow_head=False)
        for path in ("/ws-tickets", "/ws-tickets/"):
            app.router.add_post(path, self._give_ticket)
            app.router.add_route("OPTIONS", path, self._preflight)
        self._runner = HttpRunner(app, access_log=None, handle_signals=False, shutdown_timeout=CLOSE_S)

    async def __aenter__(self) -> Self:
        """
        Listen.

        Raises:
            Unsettled: the port is taken.
        """
        await self._runner.setup()
        assert self._runner.server is not None, "it was set up"
        self.connections = self._connections_of(self._runner.server)
        try:
            self._listener = await asyncio.get_running_loop().create_server(
                self.connections.accept, self._host, self._port, backlog=BACKLOG
            )
        except OSError as error:
            raise Unsettled(f"cannot listen on {self._host}:{self._port}: {error.strerror}") from error
        self._task = asyncio.create_task(self._look_after(), name="connections")
        return self

    async def __aexit__(self, *_: object) -> None:
        """Listen no more, and end what is open."""
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task
        self._listener.close()
        await self._runner.cleanup()

    async def _look_after(self) -> None:
        while True:
            await asyncio.sleep(POLL_INTERVAL_S)
            self.connections.check()

    async def _follow(self, stream: Stream, request: web.Request) -> web.StreamResponse:
        principal = self._admit(request, RESOLVING_PARAMETERS if stream.resolves else STREAM_PARAMETERS)
        key: Key = (stream.name, principal.tenant, request.match_info.get("name", ""))
        self._access.check_key(key, principal)
        cursor, resolves = _read_cursor(request), _read_resolve(request)
        covers = self._hub.places.covered(key)
        self._check_place(covers, cursor)

        def subscribe(socket: Socket) -> Callable[[], None]:
            subscriber = Subscriber(
                key=key, agents=principal.agents, covers=covers, outbox=socket.outbox, resolves=resolves
            )
            self._hub.join(subscriber, cursor)
            return partial(self._hub.leave, subscriber)

        return await self._serve(request, principal, stream.name, subscribe)

    async def _watch(self, request: web.Request) -> web.StreamResponse:
        principal = self._admit(request, CREDENTIAL_PARAMETERS)  # what is now has no cursor, and no payloads
        if principal.agents is not None:
            raise HttpError(403, ErrorCode.FORBIDDEN, "the dashboard counts all agents, and the key is bound to some")

        def subscribe(socket: Socket) -> Callable[[], None]:
            socket.say(plain("hello"))
            return self._dashboard.join(principal.tenant, socket.outbox)

        return await self._serve(request, principal, "dashboard", subscribe)

    async def _serve(
        self,
        request: web.Request,
        principal: Principal,
        stream: str,
        subscribe: Callable[[Socket], Callable[[], None]],
    ) -> web.StreamResponse:
        ws = web.WebSocketResponse(
            autoping=False, autoclose=False, compress=False, max_msg_size=MESSAGE_BYTES_MAX, timeout=CLOSE_S
        )
        if not ws.can_prepare(request):
            raise HttpError(426, ErrorCode.BAD_REQUEST, "this is a websocket: ask for an upgrade")
        with self._sockets.admitted(principal.tenant):
            await ws.prepare(request)
            if request.transport is None:  # gone meanwhile
                return ws
            socket = self._sockets.make(ws, request.transport, principal=principal, stream=stream)
            try:
                with self._sockets.opened(socket, partial(subscribe, socket)):
                    await socket.listen()
            except Exception:  # a bug of ours; after the upgrade no answer can say so
                log.exception("socket failed", path=request.path)
                await ws.close(code=WSCloseCode.INTERNAL_ERROR)
        return ws

    async def _give_ticket(self, request: web.Request) -> web.Response:
        self._access.check_origin(request)
        _check_parameters(request, ())
        principal = self._access.reader(request, by_url=False)
        try:
            ticket = self._tickets.give(principal)
        except TooManyTickets as error:
            raise HttpError(
                429, ErrorCode.RATE_LIMIT_EXCEEDED, "too many tickets are unused", retry_after_s=RETRY_AFTER_S
            ) from error
        return web.json_response({"ticket": ticket, "expires_in_s": VALID_S}, headers={"Cache-Control": "no-store"})

    async def _preflight(self, request: web.Request) -> web.Response:
        self._access.check_origin(request)
        return web.Response(
            status=204,
            headers={
                "Access-Control-Allow-Methods": "POST",
                "Access-Control-Allow-Headers": "X-API-Key, Authorization",
                "Access-Control-Max-Age": "600",
            },
        )

    def _admit(self, request: web.Request, parameters: Sequence[str]) -> Principal:
        self._access.check_origin(request)
        _check_parameters(request, parameters)  # before a ticket is redeemed: it can be used again in a correct request
        return self._access.reader(request, by_url=True)

    def _check_place(self, covers: Sequence[Partition], cursor: Cursor | None) -> None:
        if cursor is None:
            return
        try:
            self._hub.places.behind(covers, cursor)
        except CursorInvalid as error:
            raise HttpError(400, ErrorCode.BAD_REQUEST, f"cursor: {error}") from error

    @web.middleware
    async def _answer(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Turn errors into answers: the one place. Each ends its connection."""
        self.connections.asked(request.protocol)
        origin = self._access.allowed_origin(request)
        allowed: Mapping[str, str] = {} if origin is None else {"Access-Control-Allow-Origin": origin, "Vary": "Origin"}
        try:
            response = await handler(request)
        except HttpError as refused:
            return self._refuse(request, refused, allowed)
        except web.HTTPException as error:
            code = CODES.get(error.status, ErrorCode.BAD_REQUEST)
            return self._refuse(request, HttpError(error.status, code, error.reason), allowed)
        except Exception:  # whatever it is, its client is told no more than that
            log.exception("request failed", method=request.method, path=request.path)
            return self._refuse(request, HttpError(500, ErrorCode.INTERNAL_ERROR, "an error of ours; it is logged"), {})
        if not response.prepared:
            response.headers.update(allowed)
            response.force_close()
        return response

    def _refuse(self, request: web.Request, refused: HttpError, headers: Mapping[str, str]) -> web.Response:
        self._refused.labels(refused.code.value).inc()
        response = problem_response(refused, instance=request.rel_url.raw_path, headers=headers)
        response.force_close()
        return response


def _check_parameters(request: web.Request, known: Sequence[str]) -> None:
    """Raise HttpError unless each query parameter is one of *known* and is given once. Its value is never shown."""
    names = [name for name, _ in request.query.items()]
    unknown = [name for name in names if name not in known]
    takes = f"this path has {', '.join(known)}" if known else "this path has no query parameters"
    if unknown:
        detail = f"unknown query parameter {unknown[0][:NAME_SHOWN_MAX]!r}; {takes}"
        raise HttpError(422, ErrorCode.VALIDATION_ERROR, detail)
    if len(names) > len(set(names)):
        raise HttpError(
            422, ErrorCode.VALIDATION_ERROR, f"a query parameter is given twice; {takes}, each at most once"
        )


def _read_cursor(request: web.Request) -> Cursor | None:
    try:
        return cursors.decode(request.query["cursor"]) if "cursor" in request.query else None
    except CursorInvalid as error:
        raise HttpError(400, ErrorCode.BAD_REQUEST, f"cursor: {error}") from error


def _read_resolve(request: web.Request) -> bool:
    try:
        return SWITCH[request.query.get("resolve", "false")]
    except KeyError:
        raise HttpError(400, ErrorCode.BAD_REQUEST, "resolve: true or false") from None
