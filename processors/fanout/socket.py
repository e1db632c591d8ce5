"""One websocket: what its client sends, within bounds, and how it ends."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Literal

import msgspec
from aiohttp import WSMessage, WSMsgType, web

from processors.fanout.messages import Message, closing_frame, plain
from processors.fanout.outbox import Outbox
from schemas.access.credentials import Principal

MESSAGE_BYTES_MAX = 64 * 1024  # of a client; none needs more than a few
CLIENT_MESSAGES_BURST = 50
CLIENT_MESSAGES_PER_S = 5.0
CLOSE_S = 3.0  # for the client to take the last bytes and to answer the close; then its connection is cut

_ENDED = (WSMsgType.CLOSE, WSMsgType.CLOSING, WSMsgType.CLOSED, WSMsgType.ERROR)


@dataclass(frozen=True, slots=True)
class Close:
    """A close code (RFC 6455, 7.4) and the metric's word for it."""

    code: int
    reason: str


class Ending(Enum):
    """The reason why this side closes a socket."""

    STOPPING = Close(1001, "stopping")
    NOT_TEXT = Close(1003, "not_text")
    FLOOD = Close(1008, "flood")
    SILENT = Close(4400, "silent")
    REVOKED = Close(4401, "revoked")
    SLOW_READER = Close(4408, "slow_reader")


class _FromClient(msgspec.Struct, frozen=True):
    type: Literal["ping", "pong"]


class Socket:
    """An open websocket."""

    def __init__(
        self,
        ws: web.WebSocketResponse,
        transport: asyncio.Transport,
        *,
        principal: Principal,
        stream: str,
        later: Callable[[Outbox], None],
        end: Callable[["Socket", Ending], None],
        clock: Callable[[], float],
    ) -> None:
        """Send by *transport*; *end* is called, at any moment, for what this socket finds wrong with its client."""
        self.principal = principal
        self.stream = stream
        self.outbox = Outbox(transport, later=later, overflows=lambda: end(self, Ending.SLOW_READER), clock=clock)
        self.heard_at_s = self.pinged_at_s = clock()
        self._closing = False
        self._ws = ws
        self._transport = transport
        self._end = end
        self._clock = clock
        self._budget = float(CLIENT_MESSAGES_BURST)
        self._budget_at_s = clock()

    async def listen(self) -> None:
        """Take what the client sends until the socket ends."""
        while True:
            message = await self._ws.receive()
            if message.type in _ENDED:
                return
            if self._closing:
                continue
            if not self._admits_one():
                self._end(self, Ending.FLOOD)
            elif message.type is WSMsgType.PING:
                await self._ws.pong(message.data)
            elif message.type is WSMsgType.PONG:
                self.heard_at_s = self._clock()
            else:
                self._take(message)

    def say(self, message: Message) -> None:
        """Send *message* behind what waits."""
        self.outbox.put(message)
        self.outbox.flush()

    def close(self, ending: Ending) -> None:
        """
        Send the close code after the queued messages; the client's close frame, or a bounded time, ends the connection.

        aiohttp's close is not used. It ends the connection while `listen` runs, often before a client has read why.
        """
        cursor = self.outbox.cursor
        self.outbox.close()
        self._closing = True
        if self._transport.is_closing():
            return
        if ending is Ending.SLOW_READER:
            self._transport.write(plain("slow_reader", cursor=cursor).frame)
        self._transport.write(closing_frame(ending.value.code, ending.value.reason))
        asyncio.get_running_loop().call_later(CLOSE_S, self._transport.abort)

    def _take(self, message: WSMessage) -> None:
        if message.type is not WSMsgType.TEXT:
            self._end(self, Ending.NOT_TEXT)
            return
        try:
            kind = msgspec.json.decode(message.data, type=_FromClient).type
        except (msgspec.DecodeError, UnicodeError):
            return  # of a later version of the protocol, or nonsense: it counts, and that is all
        self.heard_at_s = self._clock()
        if kind == "ping":
            self.say(plain("pong"))

    def _admits_one(self) -> bool:
        now_s = self._clock()
        regained = (now_s - self._budget_at_s) * CLIENT_MESSAGES_PER_S
        self._budget = min(self._budget + regained, float(CLIENT_MESSAGES_BURST)) - 1
        self._budget_at_s = now_s
        return self._budget >= 0
