"""The problem document (RFC 9457) of an error."""

from collections.abc import Sequence

import msgspec
from aiohttp import web

from gateway.errors import STATUS, Problem
from schemas.errors import ErrorCode, Fault


class ProblemDocument(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The reason why a request failed (RFC 9457). Act on `code`, which is stable."""

    type: str
    title: str
    status: int
    code: ErrorCode
    detail: str
    instance: str
    trace_id: str
    errors: Sequence[Fault] = ()
    expected_seq: int | None = None  # with SEQUENCE_ERROR
    error: str | None = None  # of POST /events: the detail once more, as its clients expect it
    message: str | None = None  # of Segment's protocol: the same


def problem_response(problem: Problem, *, instance: str, trace_id: str) -> web.Response:
    """Return the answer that shows *problem*."""
    document = ProblemDocument(
        type=f"/docs#{problem.code.value}",
        title=STATUS[problem.code][1],
        status=problem.status,
        code=problem.code,
        detail=problem.detail,
        instance=instance,
        trace_id=trace_id,
        errors=problem.faults,
        expected_seq=problem.expected_seq,
        error=problem.error,
        message=problem.message,
    )
    headers = {"Content-Type": "application/problem+json", **dict(problem.headers)}
    return web.Response(body=msgspec.json.encode(document), status=problem.status, headers=headers)
