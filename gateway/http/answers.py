"""Answers as JSON."""

from typing import TypeVar

import msgspec
from aiohttp import web
from multidict import CIMultiDict

from gateway.errors import NotFound

Thing = TypeVar("Thing")

_HEADERS = CIMultiDict({"Content-Type": "application/json"})
_ENCODER = msgspec.json.Encoder()


def answer(document: msgspec.Struct, *, status: int = 200) -> web.Response:
    """Answer with *document* as JSON."""
    return answer_text(_ENCODER.encode(document), status=status)


def answer_text(body: bytes, *, status: int = 200) -> web.Response:
    """Answer with a JSON text as it is."""
    return web.Response(body=body, status=status, headers=_HEADERS.copy())


def found(thing: Thing | None, otherwise: str) -> Thing:
    """Return *thing*. Raises NotFound, which says *otherwise*, where the tenant has none."""
    if thing is None:
        raise NotFound(otherwise)
    return thing
