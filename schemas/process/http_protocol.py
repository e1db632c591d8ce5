"""
aiohttp's connection, with an answer for clients that close their writing side once they have sent a request.

aiohttp closes such a connection at once, so that a whole request, sent by `nc -N` or a client that calls
`shutdown(SHUT_WR)`, gets no answer. Every HTTP server of ours uses this protocol instead.
"""

from typing import Any

from aiohttp import EMPTY_PAYLOAD, StreamReader, web


class HttpProtocol(web.RequestHandler):
    """The protocol of one connection."""

    __slots__ = ("_last_body",)

    def __init__(self, server: web.Server, **options: Any) -> None:
        """Attach the connection to *server*; *options* are those of aiohttp's protocol."""
        super().__init__(server, **options)
        self._last_body: StreamReader = EMPTY_PAYLOAD  # of the last request whose head has come

    def data_received(self, data: bytes) -> None:
        """Parse *data*, and remember the body that later bytes belong to."""
        super().data_received(data)
        if self._messages:
            self._last_body = self._messages[-1][1]

    def eof_received(self) -> bool:  # type: ignore[override]  # asyncio's protocol says bool, aiohttp's None
        """
        Keep the connection open (True) until the requests that came before the end are answered.

        A body that the end cuts short can never be whole: reading it raises RequestPayloadError.
        """
        if self._upgraded or self._payload_parser is not None or self._is_idle():
            return False
        if not self._last_body.is_eof():
            self._last_body.set_exception(web.RequestPayloadError("the client closed before the end of the body"))
            self._last_body.feed_eof()
        if self._messages:
            self._request_handler = self._answer_one_of_the_last
        else:
            self.close()  # after the answer that is being made
        return True

    def log_exception(self, *args: Any, **options: Any) -> None:
        """Log an error, unless its cause is that the client went away or broke off a body."""
        if not isinstance(options.get("exc_info"), ConnectionError | web.RequestPayloadError):
            super().log_exception(*args, **options)

    def _is_idle(self) -> bool:
        return not self._messages and (self._waiter is not None or self._request_count == 0)

    async def _answer_one_of_the_last(self, request: web.BaseRequest) -> web.StreamResponse:
        assert self._manager is not None, "a connection that is lost handles no further requests"
        if not self._messages:
            self.close()  # after this answer
        return await self._manager.request_handler(request)


class HttpServer(web.Server):
    """aiohttp's server, whose connections have our protocol."""

    def __call__(self) -> web.RequestHandler:
        """Return the protocol of a new connection."""
        return HttpProtocol(self, loop=self._loop, **self._kwargs)


class HttpRunner(web.AppRunner):
    """aiohttp's runner of an application, with our server."""

    async def _make_server(self) -> web.Server:
        made = await super()._make_server()
        return HttpServer(
            made.request_handler,
            request_factory=made.request_factory,
            handler_cancellation=made.handler_cancellation,
            loop=made._loop,  # noqa: SLF001  # aiohttp has no public way to choose the protocol
            **made._kwargs,  # noqa: SLF001
        )
