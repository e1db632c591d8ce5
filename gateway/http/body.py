"""Request bodies, bounded while they are read, in time, and of a format that is taken."""

import asyncio
from collections.abc import Sequence

from aiohttp import StreamReader, web

from gateway.errors import BadBody, BodyTimeout, ClientGone, EventTooLarge
from gateway.http.bodies import DOCUMENTS, Body, MediaType, media_type_of
from gateway.http.budget import BodyBudget
from gateway.http.call import Call
from gateway.http.codings import coding_of


async def read_body(call: Call, taken: Sequence[MediaType] = DOCUMENTS) -> Body:
    """
    Return the body of *call*, which is one of *taken*.

    Raises:
        UnsupportedMediaType: none of them by its header.
        UnsupportedCoding: packed in a way that is not known.
        EventTooLarge: more than the route takes; no more than that is ever held.
        QueueFull: more than there is room for, beside the others that are being read.
        BodyTimeout: not whole within the deadline.
        BadBody: its framing is broken, or the client ended it early.
        ClientGone: the connection is closed.
    """
    request = call.request
    media_type = media_type_of(request.headers.get("Content-Type", ""), taken)
    codings = request.headers.getall("Content-Encoding", ())
    coding = coding_of(codings) if codings else None
    received = await receive(call)
    return Body(received=received, media_type=media_type, coding=coding, bytes_max=call.body.bytes_max)


async def receive(call: Call) -> bytes:
    """
    Return the bytes that were sent, whatever they are.

    Raises:
        EventTooLarge, QueueFull, BodyTimeout, BadBody, ClientGone: see `read_body`.
    """
    request, bytes_max, deadline_s = call.request, call.body.bytes_max, call.body.deadline_s
    content = request.content
    try:
        if content.is_eof():  # it came with the head, as small bodies do: nothing to wait for
            body = content.read_nowait()
            if len(body) > bytes_max:
                raise too_large(bytes_max)
            return body
        if request.headers.get("Expect", "").lower() == "100-continue":
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            request.writer.output_size = 0
        async with asyncio.timeout(deadline_s):
            return await _read(content, bytes_max, call.body.budget)
    except web.RequestPayloadError as error:
        raise BadBody("the body is incomplete or its framing is broken; send the whole request again") from error
    except OSError as error:  # TimeoutError is one too: ours, or the network's
        if request.transport is None:
            raise ClientGone("the client closed the connection before the end of the body") from error
        if isinstance(error, TimeoutError):
            raise BodyTimeout(f"the body was not whole after {deadline_s:g} s") from None
        raise


def too_large(bytes_max: int) -> EventTooLarge:
    """Return the error for a body of more than *bytes_max*."""
    return EventTooLarge(f"a body of at most {bytes_max} bytes")


async def _read(content: StreamReader, bytes_max: int, budget: BodyBudget) -> bytes:
    body = bytearray()
    try:
        while chunk := await content.readany():
            budget.reserve(len(chunk))
            body += chunk
            if len(body) > bytes_max:
                raise too_large(bytes_max)
        return bytes(body)
    finally:
        budget.release(len(body))
