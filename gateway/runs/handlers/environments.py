"""Handlers that capture and show the environment of a run."""

from aiohttp import web

from gateway.http.answers import answer, found
from gateway.http.body import read_body
from gateway.http.call import Call
from gateway.http.child.parsing import parse_body
from gateway.runs.handlers.answers import Accepted
from gateway.runs.parsing.bodies import check_run_id
from gateway.runs.parsing.tasks import ParseEnvironment
from gateway.runs.parts import RunParts
from gateway.runs.sealing import seal
from schemas.runs.records import ENVIRONMENT_PART, EnvironmentCaptured


async def capture_environment(parts: RunParts, call: Call) -> web.Response:
    """Store the environment of a run; a later capture replaces an earlier one. Authorised by the key alone."""
    run_id, follower = check_run_id(call.path["run_id"]), parts.waiting.read(call)
    task = ParseEnvironment(body=await read_body(call))
    snapshot = await parse_body(task, call.credentials, parser=parts.shared.parser)
    record = EnvironmentCaptured(
        tenant=call.principal.tenant,
        run_id=run_id,
        environment=snapshot.text,
        environment_sha256=snapshot.sha256,
        captured_at=call.stamp.received_at,
    )
    place = await parts.shared.publisher.publish(seal(record, part=ENVIRONMENT_PART, stamp=call.stamp))
    waited = await parts.waiting.past(follower, place)
    return answer(Accepted(wal_id=place.wal_id, waited=waited), status=202)


async def show_environment(parts: RunParts, call: Call) -> web.Response:
    """Return the newest capture of a run's environment."""
    run_id = check_run_id(call.path["run_id"])
    environment = await parts.store.environment(call.principal.tenant, run_id)
    return answer(found(environment, "no environment: no such run, or none was captured and stored yet"))
