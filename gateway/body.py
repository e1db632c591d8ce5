"""Request bodies: bounded while they are read, in time, and of a format that is taken; then judged off the loop."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import TypeVar, TypeVarTuple

import msgspec
from aiohttp import StreamReader, web

from gateway.context import Call
from gateway.errors import BadBody, BodyTimeout, EventTooLarge, UnsupportedMediaType
from gateway.intake import toon
from gateway.intake.codings import Coding, coding_of, inflate
from gateway.onethread import OneThread

# A larger body is judged on a thread: the worst of this size take 10 to 20 ms, and 10 MiB can take many seconds.
INLINE_BYTES_MAX = 16 * 1024
TOON_INLINE_BYTES_MAX = 4 * 1024  # some milliseconds; its decoder is Python
TOON_WAITING_MAX = 8  # larger TOON bodies, the one being translated included

Verdict = TypeVar("Verdict")
Arguments = TypeVarTuple("Arguments")


class MediaType(StrEnum):
    """What a body may be, by its Content-Type."""

    JSON = "application/json"
    TOON = "text/toon"
    APPLICATION_TOON = "application/toon"
    NDJSON = "application/x-ndjson"
    APPLICATION_NDJSON = "application/ndjson"
    JSONL = "application/jsonl"


TOONS = (MediaType.TOON, MediaType.APPLICATION_TOON)
LINES = (MediaType.NDJSON, MediaType.APPLICATION_NDJSON, MediaType.JSONL)  # a JSON document a line
DOCUMENTS = (MediaType.JSON, *TOONS)  # the forms of one document
BATCHES = (*DOCUMENTS, *LINES)  # the forms of a list of documents


class Body(msgspec.Struct, frozen=True, kw_only=True):
    """A body as it came, of a format that is taken."""

    received: bytes
    media_type: MediaType
    coding: Coding | None  # None: not packed
    bytes_max: int  # holds as it is received, once it is inflated, and as JSON

    def text(self) -> bytes:
        """What was sent, inflated. Blocks unless it is small. Raises as `inflate`."""
        return self.received if self.coding is None else inflate(self.received, self.coding, bytes_max=self.bytes_max)

    def json(self) -> bytes:
        """The JSON text that was sent or stood for. Blocks unless it is small. Raises as `text` and `json_of`."""
        text = self.text()
        return toon.json_of(text, bytes_max=self.bytes_max) if self.media_type in TOONS else text


async def read_body(call: Call, taken: Sequence[MediaType] = DOCUMENTS) -> Body:
    """
    Return the body of *call*, which is one of *taken*.

    Raises:
        UnsupportedMediaType: none of them by its header.
        UnsupportedCoding: packed in a way that is not known.
        EventTooLarge: more than the route takes; no more than that is ever held.
        BodyTimeout: not whole within the deadline.
        BadBody: its framing is broken.
    """
    request = call.request
    media_type = _media_type(request.headers.get("Content-Type", ""), taken)
    codings = request.headers.getall("Content-Encoding", ())
    coding = coding_of(codings) if codings else None
    received = await receive(call)
    return Body(received=received, media_type=media_type, coding=coding, bytes_max=call.body_bytes_max)


async def receive(call: Call) -> bytes:
    """
    Return the bytes that were sent, whatever they are.

    Raises:
        EventTooLarge, BodyTimeout, BadBody: see `read_body`.
    """
    request, bytes_max, deadline_s = call.request, call.body_bytes_max, call.parts.deadlines.body_s
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
        async with asyncio.timeout(deadline_s):
            return await _read(content, bytes_max)
    except TimeoutError:
        raise BodyTimeout(f"the body was not whole after {deadline_s:g} s") from None
    except web.RequestPayloadError as error:
        raise BadBody("the body's framing is broken") from error


async def judged(body: Body, judge: Callable[[bytes, *Arguments], Verdict], *arguments: *Arguments) -> Verdict:
    """
    Return what *judge* makes of the JSON text in *body* and the *arguments*; on a thread unless the body is small.

    Raises:
        QueueFull: too many large TOON bodies wait already.
        Exception: whatever `Body.json` and *judge* raise.
    """
    if (small := _if_small(body)) is not None:
        return judge(small.json(), *arguments)
    if body.media_type not in TOONS:
        # Inflated there too: what waits for a thread stays packed.
        return await asyncio.to_thread(lambda: judge(body.json(), *arguments))
    json = await _TOON_TRANSLATION.run(body.json)
    return await asyncio.to_thread(judge, json, *arguments)


def too_large(bytes_max: int) -> EventTooLarge:
    """The error for a body of more than *bytes_max*."""
    return EventTooLarge(f"a body of at most {bytes_max} bytes")


# Work in Python: several threads would do it no faster, and in several times the memory.
_TOON_TRANSLATION = OneThread(
    "toon", waiting_max=TOON_WAITING_MAX, full="too many large TOON bodies wait; JSON is not concerned"
)


def _if_small(body: Body) -> Body | None:
    inline_bytes_max = TOON_INLINE_BYTES_MAX if body.media_type in TOONS else INLINE_BYTES_MAX
    if len(body.received) > inline_bytes_max:
        return None
    if body.coding is None:
        return body
    if body.coding is Coding.BR:  # it fills its window, up to 16 MiB, before it gives out a first chunk
        return None
    try:
        inflated = inflate(body.received, body.coding, bytes_max=min(inline_bytes_max, body.bytes_max))
    except EventTooLarge:
        return None
    return msgspec.structs.replace(body, received=inflated, coding=None)


async def _read(content: StreamReader, bytes_max: int) -> bytes:
    body = bytearray()
    while chunk := await content.readany():
        body += chunk
        if len(body) > bytes_max:
            raise too_large(bytes_max)
    return bytes(body)


def _media_type(given: str, taken: Sequence[MediaType]) -> MediaType:
    found = _MEDIA_TYPES.get(given)
    if found is None:
        name, _, parameters = given.partition(";")
        found = _MEDIA_TYPES.get(name.strip().lower())
        if parameters.strip().lower().replace('"', "") not in ("", "charset=utf-8"):
            found = None
    if found is None or found not in taken:
        raise UnsupportedMediaType(f"Content-Type is to be {' or '.join(taken)}, in UTF-8")
    return found


_MEDIA_TYPES: Mapping[str, MediaType] = {media_type.value: media_type for media_type in MediaType}
