"""Many events of one run in one request, each with its own result."""

import asyncio
from collections.abc import Sequence
from typing import Annotated, Literal, NamedTuple

import msgspec
from aiohttp import web
from msgspec import UNSET, Meta, UnsetType

from gateway.errors import RETRYABLE, HttpError, problem_of
from gateway.http.answers import answer, limited
from gateway.http.bodies import BATCHES
from gateway.http.body import read_body
from gateway.http.call import Call
from gateway.http.child.parsing import parse_body_with_fresh_credentials
from gateway.limits.throttle import Charge
from gateway.runs.handlers.answers import Sequencing, Waited, WalId, sequencing
from gateway.runs.handlers.events import acknowledged, origin_of, submit
from gateway.runs.parsing.bodies import BATCH_EVENTS_MAX, check_run_id
from gateway.runs.parsing.prepared import PreparedBatch, PreparedEvent
from gateway.runs.parsing.tasks import ParseBatch
from gateway.runs.parts import RunParts
from gateway.runs.sequence.sequencer import Submission
from schemas.errors import ErrorCode, Fault
from schemas.kafka.places import RecordPlace

BatchStatus = Literal["accepted", "duplicate", "rejected", "skipped", "retry"]


class EventResult(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The outcome of one event of a batch."""

    status: Annotated[
        BatchStatus,
        Meta(
            description="rejected: never send it as it is; skipped: it comes after one that was rejected; "
            "retry: send it again later, the same"
        ),
    ]
    seq: Annotated[int | None, Meta(description="Missing where the event could not be read")] = None
    wal_id: WalId | None = None
    sequence: Sequencing | UnsetType = UNSET
    code: ErrorCode | None = None
    detail: str | None = None
    errors: Sequence[Fault] = ()
    expected_seq: int | None = None


class BatchAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of each event, in the order they were sent; with 207 not all of them are in the log."""

    results: Sequence[EventResult]
    waited: Waited | UnsetType = UNSET


class EventOutcome(NamedTuple):
    """The outcome of a valid event."""

    result: EventResult
    place: RecordPlace | None
    refusal: HttpError | None


async def accept_batch(parts: RunParts, call: Call) -> web.Response:
    """Accept events of one run, in order, up to the first that is refused: 202 if none is, else 207."""
    run_id, follower = check_run_id(call.path["run_id"]), parts.waiting.read(call)
    parts.shared.throttle.check_admission(BATCH_EVENTS_MAX)
    task = ParseBatch(body=await read_body(call, BATCHES), origin=origin_of(call, run_id))
    batch = await parse_body_with_fresh_credentials(
        task,
        call.credentials,
        parts.shared.credentials,
        parser=parts.shared.parser,
        refuses=lambda found: found.refusal is not None and found.refusal.is_by_credentials,
    )
    charge, submitted = await submit(parts, call, run_id, batch.events)
    outcomes = await _outcomes(list(zip(batch.events, submitted, strict=False)), charge)
    results = _results(batch, outcomes, ended_by=submitted[-1] if submitted else None, of_toon=task.body.is_toon)
    if (first := outcomes[0].refusal if outcomes else None) and all(result.status == "retry" for result in results):
        raise first
    places = [each.place for each in outcomes if each.place is not None]
    document = BatchAnswer(results=results, waited=await parts.waiting.past(follower, places[-1]) if places else UNSET)
    whole = all(result.status in ("accepted", "duplicate") for result in results)
    return limited(answer(document, status=202 if whole else 207), charge)


async def _outcomes(
    submitted: Sequence[tuple[PreparedEvent, Submission | HttpError]], charge: Charge
) -> Sequence[EventOutcome]:
    outcomes: list[EventOutcome] = []
    for event, submission in submitted:  # one report brings most of them: nearly always there is nothing to wait for
        outcomes.append(await _outcome(event, submission, charge))
        if outcomes[-1].refusal is not None:
            break
    # Who is overdue has a second more: together, since one after the other they would hold the answer for minutes.
    rest = submitted[len(outcomes) :]
    return outcomes + await asyncio.gather(*(_outcome(event, submission, charge) for event, submission in rest))


async def _outcome(event: PreparedEvent, submission: Submission | HttpError, charge: Charge) -> EventOutcome:
    seq = event.identity.seq
    try:
        if isinstance(submission, HttpError):
            raise submission
        place = await acknowledged(submission, event, charge)
    except HttpError as refusal:
        return EventOutcome(_refused(refusal, seq), None, refusal)
    result = EventResult(status=submission.status, seq=seq, wal_id=place.wal_id, sequence=sequencing(submission))
    return EventOutcome(result, place, None)


def _results(
    batch: PreparedBatch, outcomes: Sequence[EventOutcome], *, ended_by: Submission | HttpError | None, of_toon: bool
) -> Sequence[EventResult]:
    results = [each.result for each in outcomes]
    if batch.refusal is not None and not isinstance(ended_by, HttpError):
        results.append(_refused(batch.refusal.error(), None, of_toon=of_toon))
    rest: BatchStatus = "retry" if isinstance(ended_by, RETRYABLE) else "skipped"
    return results + [EventResult(status=rest)] * (batch.event_count - len(results))


def _refused(refusal: Exception, seq: int | None, *, of_toon: bool = False) -> EventResult:
    problem = problem_of(refusal, of_toon=of_toon)
    return EventResult(
        status="retry" if isinstance(refusal, RETRYABLE) else "rejected",
        seq=seq,
        code=problem.code,
        detail=problem.detail,
        errors=problem.faults,
        expected_seq=problem.expected_seq,
    )
