"""Request bodies: bounded while they are read, in time, and of a format that is taken."""

import asyncio

from aiohttp import StreamReader, web

from gateway.context import Call
from gateway.errors import BadBody, BodyTimeout, EventTooLarge, UnsupportedMediaType

BODY_TIMEOUT_S = 30.0
JSON = "application/json"


async def read_json_body(call: Call) -> bytes:
    """
    Return the body's bytes.

    Raises:
        UnsupportedMediaType: not JSON by its header, or content-encoded.
        EventTooLarge: more than the route takes; no more than that is ever held.
        BodyTimeout: not whole within `BODY_TIMEOUT_S`.
        BadBody: its framing is broken.
    """
    request, bytes_max = call.request, call.body_bytes_max
    _check_format(request)
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


def too_large(bytes_max: int) -> EventTooLarge:
    """The error for a body of more than *bytes_max*."""
    return EventTooLarge(f"a body of at most {bytes_max} bytes")


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
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise UnsupportedMediaType("Content-Encoding is not taken here: send the body as it is")
