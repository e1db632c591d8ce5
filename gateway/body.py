"""Request bodies: bounded while they are read, in time, and of a format that is taken; then judged off the loop."""

import asyncio
from collections.abc import Callable
from typing import TypeVar, TypeVarTuple

import msgspec
from aiohttp import StreamReader, web

from gateway.context import Call
from gateway.errors import BadBody, BodyTimeout, EventTooLarge, UnsupportedMediaType
from gateway.intake.codings import Coding, coding_of, inflate

BODY_TIMEOUT_S = 30.0
# A larger body is judged on a thread: 10 MiB take up to a second.
INLINE_BYTES_MAX = 64 * 1024
JSON = "application/json"

Verdict = TypeVar("Verdict")
Arguments = TypeVarTuple("Arguments")


class Body(msgspec.Struct, frozen=True, kw_only=True):
    """A body as it came, of a format that is taken."""

    received: bytes
    coding: Coding | None  # None: not packed
    bytes_max: int  # holds before and after inflating

    def json(self) -> bytes:
        """The JSON text in it. Blocks unless it is small. Raises as `inflate`."""
        if self.coding is None:
            return self.received
        return inflate(self.received, self.coding, bytes_max=self.bytes_max)


async def read_body(call: Call) -> Body:
    """
    Return the body of *call*.

    Raises:
        UnsupportedMediaType: not JSON by its header, or packed in a way that is not known.
        EventTooLarge: more than the route takes; no more than that is ever held.
        BodyTimeout: not whole within `BODY_TIMEOUT_S`.
        BadBody: its framing is broken.
    """
    request = call.request
    _check_format(request)
    codings = request.headers.getall("Content-Encoding", ())
    coding = coding_of(codings) if codings else None
    received = await _receive(request, call.body_bytes_max)
    return Body(received=received, coding=coding, bytes_max=call.body_bytes_max)


async def judged(body: Body, judge: Callable[[bytes, *Arguments], Verdict], *arguments: *Arguments) -> Verdict:
    """Return what *judge* makes of the JSON text in *body* and the *arguments*; on a thread unless it is small."""
    if (small := _small_json(body)) is not None:
        return judge(small, *arguments)
    # Inflated there too: what waits for a thread stays packed.
    return await asyncio.to_thread(lambda: judge(body.json(), *arguments))


def too_large(bytes_max: int) -> EventTooLarge:
    """The error for a body of more than *bytes_max*."""
    return EventTooLarge(f"a body of at most {bytes_max} bytes")


def _small_json(body: Body) -> bytes | None:
    if len(body.received) > INLINE_BYTES_MAX:
        return None
    if body.coding is None:
        return body.received
    if body.coding is Coding.BR:  # it fills its window, up to 16 MiB, before it gives out a first chunk
        return None
    try:
        return inflate(body.received, body.coding, bytes_max=min(INLINE_BYTES_MAX, body.bytes_max))
    except EventTooLarge:
        return None


async def _receive(request: web.BaseRequest, bytes_max: int) -> bytes:
    content = request.content
    if content.is_eof():  # it came with the head, as small bodies do: nothing to wait for
        body = content.read_nowait()
        if len(body) > bytes_max:
            raise too_large(bytes_max)
        return body
    try:
        if request.headers.get("Expect", "").lower() == "100-continue":
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            request.writer.output_size = 0
        async with asyncio.timeout(BODY_TIMEOUT_S):
            return await _read(content, bytes_max)
    except TimeoutError:
        raise BodyTimeout(f"the body was not whole after {BODY_TIMEOUT_S:.0f} s") from None
    except web.RequestPayloadError as error:
        raise BadBody("the body's framing is broken") from error


async def _read(content: StreamReader, bytes_max: int) -> bytes:
    body = bytearray()
    while chunk := await content.readany():
        body += chunk
        if len(body) > bytes_max:
            raise too_large(bytes_max)
    return bytes(body)


def _check_format(request: web.BaseRequest) -> None:
    given = request.headers.get("Content-Type", "")
    if given != JSON:
        media_type, _, parameters = given.partition(";")
        charset = parameters.strip().lower().replace('"', "")
        if media_type.strip().lower() != JSON or charset not in ("", "charset=utf-8"):
            raise UnsupportedMediaType(f"Content-Type is to be {JSON}, in UTF-8")
