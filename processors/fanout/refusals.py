"""Refusals of requests, and the problem document (RFC 9457) that explains them."""

from collections.abc import Mapping

import msgspec
from aiohttp import web

from schemas.errors import ErrorCode


class HttpError(Exception):
    """A request that gets no stream and no ticket. The middleware answers it; the detail may be shown."""

    def __init__(self, status: int, code: ErrorCode, detail: str, *, retry_after_s: int | None = None) -> None:
        """Answer *status* with the stable *code*."""
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.retry_after_s = retry_after_s


class _Problem(msgspec.Struct, frozen=True, kw_only=True):
    type: str = "about:blank"
    title: str
    status: int
    code: str
    detail: str
    instance: str


def problem_response(refused: HttpError, *, instance: str, headers: Mapping[str, str]) -> web.Response:
    """Return the answer to a request for *instance*."""
    problem = _Problem(
        title=refused.code.value.replace("_", " ").capitalize(),
        status=refused.status,
        code=refused.code.value,
        detail=refused.detail,
        instance=instance,
    )
    response = web.Response(
        body=msgspec.json.encode(problem), status=refused.status, content_type="application/problem+json"
    )
    response.headers.update(headers)
    if refused.retry_after_s is not None:
        response.headers["Retry-After"] = str(refused.retry_after_s)
    return response
