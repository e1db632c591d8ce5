"""The door for Segment's and RudderStack's libraries: a batch of calls, or one."""

from dataclasses import replace

from aiohttp import hdrs, web

from gateway.errors import Problem
from gateway.events.handlers.submitting import origin_of, submit_all
from gateway.events.parsing.segment import CallType
from gateway.events.parsing.tasks import ParseSegmentCalls
from gateway.events.parts import UserEventParts
from gateway.events.views import SegmentAnswer, SegmentRefusal
from gateway.http.answers import answer, found, limited
from gateway.http.bodies import MediaType
from gateway.http.body import read_body
from gateway.http.call import Call
from schemas.errors import ErrorCode
from schemas.process.telemetry import EVENTS_REFUSED

TAKEN = (MediaType.JSON,)
RETRY_AFTER_S_MAX = 30  # libraries hold all their events for so long

# Segment knows one status for a body that no attempt will make acceptable.
_NOT_TAKEN = frozenset(
    {ErrorCode.BAD_REQUEST, ErrorCode.PAYLOAD_TOO_LARGE, ErrorCode.UNSUPPORTED_MEDIA_TYPE, ErrorCode.VALIDATION_ERROR}
)


async def accept_segment_batch(parts: UserEventParts, call: Call) -> web.Response:
    """Accept a batch of Segment's protocol; events that are refused are listed, and the others are in the log."""
    return await _accept(parts, call, None)


async def accept_segment_call(parts: UserEventParts, call: Call) -> web.Response:
    """Accept one call of Segment's protocol, which is in the log unless it is listed as refused."""
    given = call.path["call_type"]
    call_type = found(next((each for each in CallType if each == given), None), "no such call")
    return await _accept(parts, call, call_type)


def as_segment(problem: Problem) -> Problem:
    """
    Return a refusal as Segment's libraries expect it.

    They drop a batch at any status of 400 to 499 but 408 and 429, and wait for as long as `Retry-After` says.
    """
    headers = dict(problem.headers)
    if hdrs.RETRY_AFTER in headers:
        headers[hdrs.RETRY_AFTER] = str(min(int(headers[hdrs.RETRY_AFTER]), RETRY_AFTER_S_MAX))
    if problem.code is ErrorCode.UNAUTHENTICATED:
        headers[hdrs.WWW_AUTHENTICATE] = 'Basic realm="tidegate"'
    return replace(
        problem,
        status=web.HTTPBadRequest.status_code if problem.code in _NOT_TAKEN else problem.status,
        headers=list(headers.items()),
        message=problem.detail,
    )


async def _accept(parts: UserEventParts, call: Call, call_type: CallType | None) -> web.Response:
    task = ParseSegmentCalls(body=await read_body(call, TAKEN), call_type=call_type, origin=origin_of(call))
    # One event that the log does not take fails the request: a library sends all of it again, and none is stored twice.
    results, _, charge = await submit_all(parts, call, task, is_whole=True)
    refused = [
        SegmentRefusal(index=index, code=result.code, detail=result.detail, errors=result.errors)
        for index, result in enumerate(results)
        if result.code is not None
    ]
    for refusal in refused:
        parts.shared.telemetry[EVENTS_REFUSED].labels(refusal.code.value).inc()
    return limited(answer(SegmentAnswer(task_id=task.origin.task_id, refused=refused)), charge)
