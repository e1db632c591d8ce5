"""
Measurements of documents end to end: from the gateway's receipt of each to the commit that made it live.

Latencies and rates come from the times in the jobs' states, which the deployment took, not from this program's clock:
how often it looks is of no consequence.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import count

from deploy.load.document_texts import made_text
from gateway.client.document_views import DocumentJob
from gateway.client.documents import NewDocument, TidegateDocuments
from gateway.client.errors import Refused, SendAgainLater
from schemas.documents.states import Phase

PERCENTILES = (50, 95, 99)
LOOKED_AT_ONCE = 16
POLL_S = 0.1
SECONDS_MAX = 3600  # of the sustained profile's series


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """The documents of a measurement: each is a chapter of a book that the measurement has for itself."""

    book: str
    words: int  # of each text
    priority: int = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One measured step."""

    documents: int  # that were to be submitted
    accepted: int
    refused: int
    outcomes: dict[str, int]  # how the accepted ones ended
    duration_s: float | None  # from the first receipt to the last end; None: none ended well
    documents_per_s: float | None  # that became live
    latency_ms: dict[str, float]  # percentiles of those that became live, by nearest rank


@dataclass(frozen=True, slots=True, kw_only=True)
class Sustained:
    """One profile at a steady rate."""

    target_per_s: float
    submitting_s: float
    step: Step
    stored_by_second: list[int]  # from the first receipt on
    drained_s: float | None  # from the last receipt to the last end


Sleep = Callable[[float], Awaitable[None]]


async def run_step(client: TidegateDocuments, workload: Workload, *, first: int, documents: int) -> Step:
    """Submit *documents* as fast as they are taken, from text number *first* on; return when each has ended."""
    results = await client.submit_many(_texts(workload, first, documents))
    jobs = await ended([result.job_id for result in results if result.job_id is not None], client)
    return step_of(jobs, documents=documents, refused=sum(result.error is not None for result in results))


async def run_sustained(
    client: TidegateDocuments,
    workload: Workload,
    *,
    first: int,
    rate_per_s: float,
    duration_s: float,
    in_flight_max: int,
    sleep: Sleep = asyncio.sleep,
    clock_s: Callable[[], float] | None = None,
) -> Sustained:
    """
    Submit at *rate_per_s* for *duration_s*, then wait until each has ended.

    A request that is not answered yet does not delay the next one, up to *in_flight_max* of them; beyond that the rate
    is that of the answers, and `accepted` of the step says so.
    """
    now_s = clock_s or asyncio.get_running_loop().time
    began_s, job_ids, refusals = now_s(), list[str](), list[Exception]()
    room, number = asyncio.Semaphore(in_flight_max), 0
    async with asyncio.TaskGroup() as requests:
        for number in count():
            due_s = began_s + number / rate_per_s
            if due_s >= began_s + duration_s or now_s() >= began_s + duration_s:
                break
            if (early_s := due_s - now_s()) > 0:
                await sleep(early_s)
            await room.acquire()
            text = _text(workload, first + number)
            requests.create_task(_submit(client, text, room, job_ids, refusals))
        submitting_s = now_s() - began_s
    jobs = await ended(job_ids, client)
    received = [each.times.submitted_at for each in jobs if each.times is not None]
    ends = [moment for each in jobs if (moment := _stored_at(each)) is not None]
    return Sustained(
        target_per_s=rate_per_s,
        submitting_s=round(submitting_s, 3),
        step=step_of(jobs, documents=number, refused=len(refusals)),
        stored_by_second=by_second(min(received), ends) if received else [],
        drained_s=round((max(ends) - max(received)).total_seconds(), 3) if ends else None,
    )


async def ended(
    job_ids: Sequence[str], client: TidegateDocuments, *, sleep: Sleep = asyncio.sleep
) -> list[DocumentJob]:
    """Return the jobs once each has ended; the oldest are looked at, a few at a time."""
    waiting, found = deque(job_ids), list[DocumentJob]()
    while waiting:
        looked = [waiting.popleft() for _ in range(min(LOOKED_AT_ONCE, len(waiting)))]
        jobs = await asyncio.gather(*(client.get_job_status(job_id) for job_id in looked))
        new = [job for job in jobs if job.has_ended]
        found += new
        waiting.extendleft(job.job_id for job in reversed(jobs) if not job.has_ended)
        if not new:
            await sleep(POLL_S)
    return found


def step_of(jobs: Sequence[DocumentJob], *, documents: int, refused: int) -> Step:
    """Return the figures of *jobs*, all of which have ended."""
    spans = [(job.times.submitted_at, moment) for job in jobs if job.times and (moment := _stored_at(job)) is not None]
    duration_s = (max(end for _, end in spans) - min(start for start, _ in spans)).total_seconds() if spans else None
    return Step(
        documents=documents,
        accepted=len(jobs),
        refused=refused,
        outcomes=dict(Counter(job.phase.value for job in jobs).most_common()),
        duration_s=None if duration_s is None else round(duration_s, 3),
        documents_per_s=round(len(spans) / duration_s, 2) if duration_s else None,
        latency_ms=percentiles_ms([(end - start).total_seconds() for start, end in spans]),
    )


def percentiles_ms(latencies_s: Sequence[float]) -> dict[str, float]:
    """Return percentiles by nearest rank, and the greatest; empty without any latency."""
    ordered = sorted(latencies_s)
    if not ordered:
        return {}
    ranks = {f"p{percent}": -(-len(ordered) * percent // 100) - 1 for percent in PERCENTILES}
    return {name: round(ordered[rank] * 1000, 1) for name, rank in {**ranks, "max": -1}.items()}


def by_second(start: datetime, moments: Sequence[datetime]) -> list[int]:
    """Return how many of *moments* fall into each second from *start* on, `SECONDS_MAX` at most."""
    counted = Counter(min(int((moment - start).total_seconds()), SECONDS_MAX - 1) for moment in moments)
    return [counted[second] for second in range(max(counted, default=-1) + 1)]


async def _submit(
    client: TidegateDocuments,
    text: NewDocument,
    room: asyncio.Semaphore,
    job_ids: list[str],
    refusals: list[Exception],
) -> None:
    try:
        job_ids.append(await client.submit_job(text.book_slug, text.chapter_index, text.text, text.priority))
    except (Refused, SendAgainLater) as error:
        refusals.append(error)
    finally:
        room.release()


def _texts(workload: Workload, first: int, documents: int) -> Iterator[NewDocument]:
    return (_text(workload, number) for number in range(first, first + documents))


def _text(workload: Workload, number: int) -> NewDocument:
    return NewDocument(
        book_slug=workload.book,
        chapter_index=number,
        text=made_text(number, words=workload.words),
        priority=workload.priority,
    )


def _stored_at(job: DocumentJob) -> datetime | None:
    return job.times.ended_at if job.phase is Phase.STORED and job.times is not None else None
