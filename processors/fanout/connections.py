"""
Connections to the streams' port: bounded in number, and cut where no whole request comes in time.

aiohttp bounds neither. A connection has one request: what becomes a websocket is looked after by `Sockets`, and all
others end with their answer.
"""

import asyncio
from collections.abc import Callable

from aiohttp import web

from schemas.errors import ErrorCode
from schemas.process import telemetry

HEAD_S = 10.0
BESIDE_SOCKETS = 200  # those that are about to be websockets, and requests for tickets
BACKLOG = 1024  # a crowd comes back at once when a fanout was started again


class Connections:
    """A factory of connection protocols; it also checks those that have sent no request yet."""

    def __init__(
        self,
        server: web.Server,
        *,
        connections_max: int,
        instruments: telemetry.Telemetry,
        clock: Callable[[], float],
    ) -> None:
        """Hand at most *connections_max* to *server* at a time."""
        self._server = server
        self._connections_max = connections_max
        self._refused = instruments[telemetry.FANOUT_REFUSED]
        self._clock = clock
        self._silent: dict[web.RequestHandler, float] = {}  # since when

    @property
    def count(self) -> int:
        """Return how many are open, websockets among them."""
        return len(self._server.connections)

    def accept(self) -> asyncio.Protocol:
        """Return the protocol of a new connection."""
        if self.count >= self._connections_max:
            self._refused.labels(ErrorCode.BACKPRESSURE.value).inc()
            return _Refusing()
        protocol = self._server()
        self._silent[protocol] = self._clock()
        return protocol

    def asked(self, protocol: web.RequestHandler) -> None:
        """Note that a whole head has come."""
        self._silent.pop(protocol, None)

    def check(self) -> None:
        """Cut those that have not asked for anything in time, and forget those that are gone."""
        now_s = self._clock()
        for protocol, since_s in list(self._silent.items()):
            if protocol.transport is None:
                del self._silent[protocol]
            elif now_s - since_s > HEAD_S:
                del self._silent[protocol]
                self._refused.labels(ErrorCode.REQUEST_TIMEOUT.value).inc()
                protocol.transport.abort()


class _Refusing(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.abort()
