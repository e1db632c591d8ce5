"""Operations: one action on every job that a filter matches."""

import msgspec
from aiohttp import web

from gateway.http.answers import answer, found, page
from gateway.http.body import read_body
from gateway.http.call import Call
from gateway.http.child.parsing import parse_body
from gateway.http.paging import read_limit
from gateway.jobs.changes import new_id
from gateway.jobs.parameters import job_cursor, read_id, read_job_cursor
from gateway.jobs.parsing.changes import PreparedChange, read_operation
from gateway.jobs.parsing.prepared import check_right
from gateway.jobs.parsing.tasks import ParseChange
from gateway.jobs.parts import JobParts
from gateway.jobs.store import JobListing, JobPlace
from gateway.jobs.views import OperationAnswer, OperationPage
from schemas.access.credentials import Principal
from schemas.jobs.records import StartOperation
from schemas.jobs.rules import OPERATION_JOBS_MAX
from schemas.jobs.states import JobAction

NO_OPERATION = "no such operation"


async def start_operation(parts: JobParts, call: Call) -> web.Response:
    """Cancel, retry or reprioritise all jobs that match: 202; or with dry_run count them: 200."""
    task = ParseChange(body=await read_body(call))
    change: PreparedChange = await parse_body(task, call.credentials, parser=parts.shared.parser)
    asked = read_operation(change.members)
    if asked.action is JobAction.RETRY:
        _check_rights(parts, asked.filter.type, call.principal)
    tenant = call.principal.tenant
    if asked.dry_run:
        total = await parts.store.count(tenant, JobListing.NEWEST, asked.filter, looked_at_max=OPERATION_JOBS_MAX)
        return answer(OperationAnswer(matches=total.count, is_estimate=total.is_estimate))
    command = StartOperation(
        tenant=tenant,
        operation_id=new_id(),
        action=asked.action,
        priority=asked.priority,
        filter=msgspec.json.encode(asked.filter).decode(),
        by=call.principal.key_id,
    )
    place, applied = await parts.changes.apply(command, call.stamp)
    document = OperationAnswer(operation_id=command.operation_id, wal_id=place.wal_id, applied=applied)
    return answer(document, status=202)


async def list_operations(parts: JobParts, call: Call) -> web.Response:
    """List operations, the newest first."""
    query = call.request.query
    operations, more = await parts.store.operations(
        call.principal.tenant, after=read_job_cursor(query), limit=read_limit(query)
    )
    last = JobPlace(operations[-1].created_at, operations[-1].operation_id) if more else None
    document = OperationPage(operations=operations, next_cursor=None if last is None else job_cursor(last))
    return page(call.request, document)


async def show_operation(parts: JobParts, call: Call) -> web.Response:
    """Return one operation and its progress."""
    tenant, operation_id = call.principal.tenant, read_id(call.path["operation_id"], NO_OPERATION)
    operation = await parts.store.operation(tenant, operation_id)
    if operation is None:
        await parts.changes.has_come_to(operation_id)
        operation = await parts.store.operation(tenant, operation_id)
    return answer(found(operation, NO_OPERATION))


def _check_rights(parts: JobParts, type_name: str | None, principal: Principal) -> None:
    """Raise Forbidden unless *principal* may run all that may match: the type of that name, None: any."""
    for name, task_type in parts.types.items():
        if type_name in (None, name):
            check_right(task_type, principal)
