"""Runs: listed, shown, closed; whether one is whole, and the trace record of a closed one."""

from aiohttp import web

from gateway.errors import LogUnavailable
from gateway.http.answers import answer, answer_text, found, page
from gateway.http.body import read_body
from gateway.http.call import Call
from gateway.http.child.parsing import parse_body
from gateway.http.paging import read_limit, read_time
from gateway.runs.handlers.answers import Accepted, RunPage, sequencing
from gateway.runs.parameters import read_agent, read_run_cursor, read_status, run_cursor
from gateway.runs.parsing.bodies import check_run_id
from gateway.runs.parsing.tasks import ParseFinalization
from gateway.runs.parts import RunParts
from gateway.runs.sealing import seal
from gateway.runs.store import RunFilter
from schemas.kafka.partitioner import partition_of
from schemas.runs.records import FINALIZED_PART, RunFinalized
from schemas.runs.topics import PERSISTENCE


async def list_runs(parts: RunParts, call: Call) -> web.Response:
    """List the tenant's runs, the newest first, a page at a time."""
    query = call.request.query
    admitted = RunFilter(
        agent=read_agent(query),
        status=read_status(query),
        started_from=read_time(query, "from"),
        started_before=read_time(query, "to"),
    )
    after, limit = read_run_cursor(query), read_limit(query)
    runs, more = await parts.store.runs(call.principal.tenant, admitted, after=after, limit=limit)
    return page(call.request, RunPage(runs=runs, next_cursor=run_cursor(runs[-1]) if more else None))


async def show_run(parts: RunParts, call: Call) -> web.Response:
    """Return one run."""
    run_id = check_run_id(call.path["run_id"])
    return answer(found(await parts.store.run(call.principal.tenant, run_id), "no such run"))


async def show_trace(parts: RunParts, call: Call) -> web.Response:
    """Return the trace record, once the run is finalized and its events are stored."""
    run_id = check_run_id(call.path["run_id"])
    trace = await parts.store.trace(call.principal.tenant, run_id)
    return answer_text(found(trace, "no trace record: no such run, or it is not finalized and stored yet").encode())


async def show_integrity(parts: RunParts, call: Call) -> web.Response:
    """Return the completeness of a run: missing, repeated, rejected and signed events."""
    run_id = check_run_id(call.path["run_id"])
    home = _home_partition(parts, run_id)
    shown = await parts.store.integrity(call.principal.tenant, run_id, home_partition=home)
    return answer(found(shown, "no such run"))


def _home_partition(parts: RunParts, run_id: str) -> int | None:
    """Return the partition that the run's key belongs in; None while Kafka does not say how many there are."""
    try:
        count = len(parts.shared.followers[PERSISTENCE.name].progress())
    except LogUnavailable:
        return None
    return partition_of(run_id.encode(), count) if count else None


async def finalize_run(parts: RunParts, call: Call) -> web.Response:
    """Close a run; events that follow it in the log are rejected. Authorised by the key alone."""
    run_id, follower = check_run_id(call.path["run_id"]), parts.waiting.read(call)
    task = ParseFinalization(body=await read_body(call))
    body = await parse_body(task, call.credentials, parser=parts.shared.parser)
    record = RunFinalized(
        tenant=call.principal.tenant,
        run_id=run_id,
        status=body.status,
        event_count=body.event_count,
        finalized_at=call.stamp.received_at,
    )
    sealed = seal(record, part=FINALIZED_PART, stamp=call.stamp)
    submission = await parts.sequencer.close((record.tenant, run_id), body.status, sealed)
    place = await submission.acknowledged()
    document = Accepted(
        status=submission.status,
        wal_id=place.wal_id,
        sequence=sequencing(submission),
        waited=await parts.waiting.past(follower, place),
    )
    return answer(document, status=202)
