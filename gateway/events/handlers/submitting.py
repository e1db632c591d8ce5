"""The steps that every endpoint for user events shares: parse the request, publish its events, report each outcome."""

from collections.abc import Sequence

from gateway.errors import RETRYABLE, HttpError, problem_of
from gateway.events.parsing.prepared import PreparedUserEvent, PreparedUserEvents, UserEventOrigin
from gateway.events.parsing.tasks import ParseBinaryEvent, ParseSegmentCalls, ParseUserEvent, ParseUserEvents
from gateway.events.parts import UserEventParts
from gateway.events.views import UserEventResult
from gateway.http.bodies import MediaType
from gateway.http.call import Call
from gateway.http.child.parsing import parse_body
from gateway.limits.throttle import Charge
from schemas.events.rules import BATCH_EVENTS_MAX
from schemas.ids import uuid7
from schemas.kafka.places import RecordPlace


def taken_by(parts: UserEventParts, media_types: Sequence[MediaType]) -> Sequence[MediaType]:
    """Return the types of bodies that are taken: *media_types*, and where web pages may send, what they can send."""
    return (*media_types, MediaType.TEXT) if parts.shared.origins else media_types


def origin_of(call: Call) -> UserEventOrigin:
    """Return the origin of the events of *call*."""
    return UserEventOrigin(principal=call.principal, stamp=call.stamp, task_id=str(uuid7(call.stamp.received_at)))


async def submit_one(
    parts: UserEventParts, call: Call, task: ParseUserEvent | ParseBinaryEvent
) -> tuple[PreparedUserEvent, RecordPlace, Charge]:
    """
    Return the event of *task*, its place in the log, and what was charged.

    Raises:
        HttpError, Invalid, NotJson: it is not accepted, or is not known to be in the log.
    """
    event = await parse_body(task, call.credentials, parser=parts.shared.parser)
    charge, (outcome,) = await parts.intake.submit([event], task.origin, call.credentials)
    if isinstance(outcome, HttpError):
        raise outcome
    return event, outcome, charge


async def submit_all(
    parts: UserEventParts, call: Call, task: ParseUserEvents | ParseSegmentCalls, *, is_whole: bool = False
) -> tuple[Sequence[UserEventResult], Sequence[RecordPlace], Charge]:
    """
    Return the result of each event of *task*, the places of those in the log, and what was charged.

    All are validated before the first is written.

    Raises:
        HttpError, Invalid, NotJson: none is accepted, for a reason that all share; or, where the request *is_whole*,
            one of them has to be sent again.
    """
    parts.intake.throttle.check_admission(BATCH_EVENTS_MAX)
    batch: PreparedUserEvents = await parse_body(task, call.credentials, parser=parts.shared.parser)
    valid = [each.event for each in batch.events if each.event is not None]
    charge, outcomes = await parts.intake.submit(valid, task.origin, call.credentials)
    submitted = iter(zip(valid, outcomes, strict=True))
    results = [
        _refused(each.refusal.error()) if each.refusal is not None else _result(*next(submitted))
        for each in batch.events
    ]
    later = [outcome for outcome in outcomes if isinstance(outcome, RETRYABLE)]
    if later and (is_whole or len(later) == len(results)):
        raise later[0]
    return results, [each for each in outcomes if isinstance(each, RecordPlace)], charge


def _result(event: PreparedUserEvent, outcome: RecordPlace | HttpError) -> UserEventResult:
    if isinstance(outcome, HttpError):
        return _refused(outcome, event_id=event.event_id)
    return UserEventResult(status="accepted", event_id=event.event_id, wal_id=outcome.wal_id)


def _refused(error: Exception, *, event_id: str | None = None) -> UserEventResult:
    problem = problem_of(error)
    return UserEventResult(
        status="retry" if isinstance(error, RETRYABLE) else "rejected",
        event_id=event_id,
        code=problem.code,
        detail=problem.detail,
        errors=problem.faults,
    )
