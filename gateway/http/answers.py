"""Answers as JSON."""

from typing import Protocol, TypeVar

import msgspec
from aiohttp import web
from multidict import CIMultiDict

from gateway.errors import NotFound
from gateway.limits.limits import rate_limit, rate_limit_policy
from gateway.limits.throttle import Charge

Thing = TypeVar("Thing")


class Page(Protocol):
    """A document that is a page of a list."""

    @property
    def next_cursor(self) -> str | None:
        """Return where the next page begins; None on the last."""


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


def limited(response: web.Response, charge: Charge) -> web.Response:
    """Add the rest of the limits to *response*, if there are any."""
    if (quota := charge.tightest) is not None:
        response.headers["RateLimit"] = rate_limit(quota)
        response.headers["RateLimit-Policy"] = rate_limit_policy(quota)
    return response


def page(request: web.BaseRequest, document: Page) -> web.Response:
    """Answer with a page; `Link` (RFC 8288) names the next one."""
    response = answer_text(_ENCODER.encode(document))
    if document.next_cursor is not None:
        # Relative to the URL that was asked for, whatever path prefix a proxy has put before ours.
        target = request.rel_url.update_query(cursor=document.next_cursor)
        response.headers["Link"] = f'<?{target.raw_query_string}>; rel="next"'
    return response
