"""Jobs that are stored, or about to be; task types; and the state of all that runs them."""

import msgspec
from aiohttp import web
from msgspec import UNSET

from gateway.errors import LogUnavailable, NotFound, QueueFull
from gateway.http.answers import answer, found, page
from gateway.http.call import Call
from gateway.jobs.handlers.submitting import links_of
from gateway.jobs.health import health_of
from gateway.jobs.parameters import (
    NO_JOB,
    job_cursor,
    read_attempt,
    read_id,
    read_job_filter,
    read_job_page,
    read_queue,
)
from gateway.jobs.parts import JobParts
from gateway.jobs.store import JobListing
from gateway.jobs.views import HiddenJobView, JobPage, TaskTypeList, TaskTypeView, TypeLimits
from schemas.access.credentials import Right
from schemas.jobs.filters import JobFilter
from schemas.jobs.topics import JOB_COMMANDS


async def show_task_status(parts: JobParts, call: Call) -> web.Response:
    """Return one job with its attempts, progress and result, whether it is stored yet or not."""
    tenant, job_id = call.principal.tenant, read_id(call.path["task_id"])
    job = await parts.store.job(tenant, job_id)
    if job is None:
        has_come = await parts.changes.has_come_to(job_id)
        job = await parts.store.job(tenant, job_id)
        if job is None and has_come:
            raise NotFound(NO_JOB)
    if job is None:
        return answer(HiddenJobView(task_id=job_id, links=links_of(job_id)))
    return answer(msgspec.structs.replace(job, links=links_of(job_id)))


async def show_task_log(parts: JobParts, call: Call) -> web.Response:
    """Return what an attempt wrote: the newest that has ended, or the one that is asked for."""
    job_id, number = read_id(call.path["task_id"]), read_attempt(call.request.query)
    log = await parts.store.log(call.principal.tenant, job_id, number)
    return answer(found(log, "no such job, or no such attempt of it has ended"))


async def list_tasks(parts: JobParts, call: Call) -> web.Response:
    """List jobs, the newest first, by cursor or by offset."""
    return await _listed(parts, call, JobListing.NEWEST, read_job_filter(call.request.query))


async def list_pending_tasks(parts: JobParts, call: Call) -> web.Response:
    """List jobs that wait: the next to run first, behind them those that wait for their time."""
    return await _listed(parts, call, JobListing.PENDING, JobFilter(queue=read_queue(call.request.query)))


async def list_failed_tasks(parts: JobParts, call: Call) -> web.Response:
    """List jobs that failed, the newest failure first."""
    return await _listed(parts, call, JobListing.FAILED, JobFilter(queue=read_queue(call.request.query)))


async def list_task_types(parts: JobParts, _call: Call) -> web.Response:
    """List the task types with the JSON Schemas of their parameters."""
    types = [
        TaskTypeView(
            type=each.name,
            queue=each.queue,
            right=each.right,
            limits=TypeLimits(
                soft_limit_s=each.soft_limit_s,
                hard_limit_s=each.hard_limit_s,
                memory_bytes_max=each.memory_bytes_max,
                max_attempts=each.max_attempts,
            ),
            schema=each.schema,
            description=each.description,
        )
        for _, each in sorted(parts.types.items())
    ]
    return answer(TaskTypeList(types=types))


async def show_tasks_health(parts: JobParts, call: Call) -> web.Response:
    """Return the state of background jobs, and what is wrong; with `admin` it counts the jobs of all tenants."""
    return answer(
        health_of(
            intake_lag=await _intake_lag(parts),
            queues=await parts.store.queues(counted_for(call)),
            executors=await parts.store.executors(),
            oldest_snapshot_s=await parts.store.oldest_snapshot_s(),
        )
    )


def counted_for(call: Call) -> str | None:
    """Return the tenant whose jobs the caller sees counted; None: those of all."""
    return None if Right.ADMIN in call.principal.rights else call.principal.tenant


async def _listed(parts: JobParts, call: Call, listing: JobListing, admitted: JobFilter) -> web.Response:
    tenant, asked = call.principal.tenant, read_job_page(call.request.query)
    tasks, last = await parts.store.jobs(
        tenant, listing, admitted, after=asked.after, skip=asked.offset or 0, limit=asked.limit
    )
    total = None if asked.offset is None else await parts.store.count(tenant, listing, admitted)
    document = JobPage(
        tasks=tasks,
        next_cursor=None if last is None or asked.offset is not None else job_cursor(last),
        limit=UNSET if asked.offset is None else asked.limit,
        offset=UNSET if asked.offset is None else asked.offset,
        total_count=UNSET if total is None else total.count,
        total_is_estimate=UNSET if total is None else total.is_estimate,
    )
    return page(call.request, document)


async def _intake_lag(parts: JobParts) -> int | None:
    """Return how many commands wait for intake; None where Kafka does not tell."""
    try:
        progress = parts.follower.progress()
        edges = await parts.shared.log.edges(JOB_COMMANDS.name)
    except (LogUnavailable, QueueFull):
        return None
    committed = {partition: each.committed or 0 for partition, each in progress.items()}
    return sum(max(0, edge.end - max(committed.get(each, 0), edge.first)) for each, edge in edges.items())
