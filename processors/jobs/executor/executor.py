"""
The life of an executor: claims, slots, beats, and the drain.

A slot runs one job at a time. Jobs are claimed for idle slots, and where tasks are short some more wait here, so that
no slot idles while Postgres answers: never more than the slots work off in a tenth of a second.
"""

import asyncio
import random
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from shutil import rmtree
from time import monotonic
from uuid import UUID

import structlog

from processors.children.processes import ZygoteGone
from processors.jobs.children.processes import ChildProcess
from processors.jobs.context import application_name
from processors.jobs.executor.attempts import Attempt
from processors.jobs.executor.claims import CLAIMED_MAX, Claimed, Claims
from processors.jobs.executor.endings import AttemptEnd, EndingWriter, failed, lost, not_started
from processors.jobs.executor.housekeeping import Housekeeping
from processors.jobs.executor.lease import Held, Lease
from processors.jobs.executor.memory import resident_bytes
from processors.jobs.executor.reports import Reports
from processors.jobs.executor.zygotes import LIGHT, NUMERIC, Zygotes
from processors.postgres.writes import PostgresWrites
from processors.runtime.errors import Transient
from processors.runtime.failpoints import Failpoint, reach
from processors.runtime.health import Health
from schemas.jobs import telemetry
from schemas.jobs.states import AttemptOutcome, EndReason
from schemas.jobs.types import TaskType, TaskTypes
from schemas.process.telemetry import Telemetry

POLL_S = 0.25  # between two claims that found nothing, and up to twice that
BUFFERED_S = 0.1  # of work that waits beside the slots
HELD_BACK_S = 1.0  # that a claimed job may wait for a slot before it is given back
WATCH_EVERY_S = 0.5
LIVE_AFTER_S = 1.0  # attempts that end sooner report nothing
REPORTS_EVERY_S = 1.0
PROMOTE_EVERY_S = 0.25
RECLAIM_EVERY_S = 5.0
TIDY_EVERY_S = 60.0
UNKNOWN_AGAIN_S = 5.0  # a type that this code does not know is left to others, which may
UNKNOWN_PATIENCE_S = 3600.0
STOP_S = 10.0
LOOK_EVERY_S = 0.02
POSTGRES = "postgres"

END_SESSIONS = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE application_name = ANY(%s) AND usename = current_user
"""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutorBounds:
    """The bounds of an executor."""

    slots: int
    drain_s: float
    beat_s: float
    child_runs_max: int
    child_bytes_max: int


class Executor:
    """The parts of an executor at work."""

    def __init__(
        self,
        *,
        types: TaskTypes,
        queues: Sequence[str],
        bounds: ExecutorBounds,
        folder: Path,
        writes: PostgresWrites,
        zygotes: Zygotes,
        claims: Claims,
        lease: Lease,
        endings: EndingWriter,
        housekeeping: Housekeeping,
        reports: Reports,
        health: Health,
        instruments: Telemetry,
    ) -> None:
        """Put the parts together; `run` begins."""
        self._types = types
        self._queues = queues
        self._bounds = bounds
        self._folder = folder
        self._writes = writes
        self._zygotes = zygotes
        self._claims = claims
        self._lease = lease
        self._endings = endings
        self._housekeeping = housekeeping
        self._reports = reports
        self._health = health
        self._instruments = instruments
        self._buffer: deque[Claimed] = deque()
        self._buffered_since_s = 0.0
        self._running: dict[UUID, Attempt] = {}  # by attempt
        self._starting: set[UUID] = set()  # taken by a slot, and not in a child yet
        self._suspects: set[UUID] = set()  # attempts of jobs whose executor was lost
        self._moving = 0  # claims and returns of jobs that are under way
        self._filled = asyncio.Condition()
        self._wanted = asyncio.Event()  # a claim may find something
        self._beat_wanted = asyncio.Event()
        self._is_draining = False
        self._median_s: float | None = None  # of attempts, about
        for state in ("busy", "idle"):
            self._instruments[telemetry.JOB_SLOTS].labels(state).set_function(lambda state=state: self._slots(state))

    async def run(self, stop: asyncio.Event, hurry: asyncio.Event) -> bool:
        """
        Work until *stop* is set and the drain is over, at once when *hurry* is set.

        Return True if nothing was left behind; a part that fails raises its error.
        """
        await self._beat()
        self._health.mark_assigned()
        loops = [
            asyncio.create_task(work, name=name)
            for name, work in (
                ("beats", self._go_on_beating()),
                ("claims", self._go_on_claiming()),
                ("endings", self._endings.run()),
                ("freed", self._go_on_after_endings()),
                ("watch", self._go_on_watching()),
                ("held up", self._repeat(WATCH_EVERY_S, self._give_back_held_up)),
                ("reports", self._repeat(REPORTS_EVERY_S, self._store_reports)),
                ("promote", self._go_on_promoting()),
                ("reclaim", self._repeat(RECLAIM_EVERY_S, self._reclaim)),
                ("tidy", self._repeat(TIDY_EVERY_S, self._housekeeping.tidy)),
                *((f"slot {number}", self._slot()) for number in range(self._bounds.slots)),
            )
        ]
        stopping = asyncio.create_task(self._drain(stop, hurry), name="drain")
        try:
            done, _ = await asyncio.wait({*loops, stopping}, return_when=asyncio.FIRST_COMPLETED)
            for task in done - {stopping}:
                await task  # it never ends by itself but by an error
            return await stopping
        finally:
            for task in (*loops, stopping):
                task.cancel()
            await asyncio.wait({*loops, stopping}, timeout=STOP_S)
            await self._zygotes.close()

    def wake(self, payload: str) -> None:
        """Note what Postgres notified: a queue that has work, or this executor, which holds a job to be cancelled."""
        if payload in self._queues:
            self._wanted.set()
        elif payload == str(self._lease.executor_id):
            self._beat_wanted.set()

    def _slots(self, state: str) -> int:
        busy = len(self._running) + len(self._starting)
        return busy if state == "busy" else self._bounds.slots - busy

    # Claims.

    async def _go_on_claiming(self) -> None:
        while True:
            self._wanted.clear()
            count = 0 if self._is_draining or self._lease.is_doubtful else self._claimable()
            found = await self._claim(count) if count > 0 else ()
            if count <= 0 or len(found) < count:
                pause_s = POLL_S * (1 + random.random())  # noqa: S311  # spreads load
                with suppress(TimeoutError):
                    async with asyncio.timeout(pause_s):
                        await self._wanted.wait()

    async def _go_on_after_endings(self) -> None:
        while True:
            await self._endings.stored.wait()
            self._endings.stored.clear()
            if self._claims.meets_limits:
                self._wanted.set()

    async def _claim(self, count: int) -> Sequence[Claimed]:
        self._moving += 1
        try:
            found = await self._claims.claim(count, takes_suspect=not self._suspects)
            self._health.mark_resumed(POSTGRES)
            if found:
                reach(Failpoint.AFTER_CLAIM)
                await (self._give_back(found) if self._is_draining else self._buffer_up(found))
        except Transient as reason:
            self._away(str(reason))
            return ()
        finally:
            self._moving -= 1
        for claimed in found:
            self._instruments[telemetry.JOBS_CLAIMED].labels(claimed.queue).inc()
        return found

    def _claimable(self) -> int:
        """Return how many jobs to claim now: for idle slots, and some more where tasks are short."""
        busy = len(self._running) + len(self._starting)
        ahead = 0
        if self._median_s is not None:
            ahead = min(CLAIMED_MAX, int(BUFFERED_S / max(self._median_s, 1e-4)) * self._bounds.slots)
        room = self._bounds.slots - busy + ahead - len(self._buffer)
        # A claim costs the same for one job and for many: while some wait here, there is time to gather room.
        if self._buffer and room < min(CLAIMED_MAX, ahead + self._bounds.slots) // 2:
            return 0
        return min(room, CLAIMED_MAX)

    async def _buffer_up(self, found: Sequence[Claimed]) -> None:
        self._suspects |= {each.attempt_id for each in found if each.is_suspect}
        async with self._filled:
            if not self._buffer:
                self._buffered_since_s = monotonic()
            self._buffer.extend(found)
            self._filled.notify_all()

    async def _give_back(self, jobs: Sequence[Claimed], *, delay_s: float = 0.0) -> None:
        """Return jobs to their queues; at the latest when Postgres answers again."""
        self._suspects -= {each.attempt_id for each in jobs}
        self._moving += 1
        try:
            await self._claims.give_back(jobs, delay_s=delay_s)
        except Transient as reason:
            log.warning("claimed jobs could not be given back", count=len(jobs), error=str(reason))
            for each in jobs:
                self._endings.put(not_started(each))
        finally:
            self._moving -= 1

    # Slots.

    async def _slot(self) -> None:
        child: ChildProcess | None = None
        child_class = ""
        while True:
            claimed = await self._next()
            try:
                declared = self._types.get(claimed.type)
                if self._lease.is_doubtful:  # others may run it by now
                    self._end(not_started(claimed))
                    continue
                if declared is None:
                    await self._leave_unknown(claimed)
                    continue
                wanted = NUMERIC if declared.is_numeric else LIGHT
                if child is not None and (child_class != wanted or not self._is_good(child)):
                    self._retire(child)
                    child = None
                if child is None:
                    child, child_class = await self._zygotes.child(wanted), wanted
                await self._run(claimed, declared, child)
            except ZygoteGone as error:
                self._end(lost(claimed, error=str(error)))
                raise
            finally:
                self._starting.discard(claimed.attempt_id)

    async def _next(self) -> Claimed:
        async with self._filled:
            await self._filled.wait_for(lambda: self._buffer)
            claimed = self._buffer.popleft()
            self._buffered_since_s = monotonic()
            self._starting.add(claimed.attempt_id)
        if len(self._buffer) < self._bounds.slots:
            self._wanted.set()
        return claimed

    def _is_good(self, child: ChildProcess) -> bool:
        return not (child.died.is_set() or child.is_retiring or child.runs >= self._bounds.child_runs_max)

    def _retire(self, child: ChildProcess) -> None:
        if not child.died.is_set():
            child.retire()
            self._instruments[telemetry.CHILDREN_ENDED].labels("retired").inc()

    async def _run(self, claimed: Claimed, declared: TaskType, child: ChildProcess) -> None:
        folder = self._folder / str(claimed.attempt_id)
        attempt = Attempt(claimed, declared, child, folder=folder)
        self._instruments[telemetry.JOB_WAIT].labels(claimed.queue).observe(
            max(0.0, (datetime.now(UTC) - claimed.ready_at).total_seconds())
        )
        self._running[claimed.attempt_id] = attempt
        self._starting.discard(claimed.attempt_id)
        try:
            ending = await attempt.run()
            duration_s = asyncio.get_running_loop().time() - attempt.started_s
            if attempt.was_killed or child.died.is_set():
                self._instruments[telemetry.CHILDREN_ENDED].labels(ending.reason or ending.outcome).inc()
                await self._clean_up(attempt)
            elif folder.exists():
                await asyncio.to_thread(rmtree, folder, ignore_errors=True)
            self._instruments[telemetry.ATTEMPT_DURATION].labels(claimed.type).observe(duration_s)
            self._median_s = duration_s if self._median_s is None else _nearer_median(self._median_s, duration_s)
            self._end(ending)
        finally:
            del self._running[claimed.attempt_id]  # not before its end is known: a drain waits for it

    def _end(self, ending: AttemptEnd) -> None:
        self._suspects.discard(ending.claimed.attempt_id)
        self._instruments[telemetry.ATTEMPTS_ENDED].labels(
            ending.claimed.type, ending.outcome, ending.reason or ""
        ).inc()
        self._endings.put(ending)

    async def _clean_up(self, attempt: Attempt) -> None:
        """End what a killed process has left: its temporary files, and its sessions in Postgres."""
        await asyncio.to_thread(rmtree, attempt.folder, ignore_errors=True)
        with suppress(Transient):  # they end by themselves within a second, when Postgres looks for their client
            async with self._writes.transaction() as (connection, _):
                await connection.execute(END_SESSIONS, [[application_name(attempt.attempt_id)]])

    async def _leave_unknown(self, claimed: Claimed) -> None:
        """Leave a job of a type that this code does not know to others; after a long time it fails."""
        waited_s = (datetime.now(UTC) - claimed.run_at).total_seconds()
        if waited_s < UNKNOWN_PATIENCE_S:
            await self._give_back([claimed], delay_s=UNKNOWN_AGAIN_S)
            return
        error = f"no executor of the queue {claimed.queue} knows the type {claimed.type}"
        self._end(
            failed(claimed, None, is_final=True, reason=EndReason.UNKNOWN_TYPE, error_type="UnknownType", error=error)
        )

    # Beats, and what they tell.

    async def _go_on_beating(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._bounds.beat_s):
                    await self._beat_wanted.wait()
            self._beat_wanted.clear()
            try:
                await self._beat()
            except Transient as reason:
                self._away(str(reason))

    async def _beat(self) -> None:
        known = set(self._running) | {each.attempt_id for each in self._buffer}
        busy = len(self._running) + len(self._starting)
        held = await self._lease.renew(busy=busy, is_draining=self._is_draining)
        await self._obey(known, held)

    async def _obey(self, known: set[UUID], held: Sequence[Held]) -> None:
        """Cancel what is to be cancelled, and kill what is no longer ours: another executor may run the job."""
        of_ours = {each.attempt_id: each for each in held}
        waiting = [each for each in self._buffer if each.attempt_id in known]
        gone = [each for each in waiting if each.attempt_id not in of_ours]
        cancelled = [each for each in waiting if each not in gone and of_ours[each.attempt_id].is_cancelled]
        for each in (*gone, *cancelled):
            self._buffer.remove(each)
        self._suspects -= {each.attempt_id for each in gone}
        for attempt_id in known & set(self._running):
            attempt = self._running[attempt_id]
            if attempt_id not in of_ours:
                log.warning("an attempt is no longer this executor's; it is killed", attempt_id=str(attempt_id))
                attempt.kill(AttemptOutcome.LOST)
            elif of_ours[attempt_id].is_cancelled:
                attempt.cancel()
        if cancelled:
            await self._give_back(cancelled)  # which ends them, since they are to be cancelled

    def _away(self, reason: str) -> None:
        self._housekeeping.note_failure()
        self._health.mark_waiting(POSTGRES, reason)

    async def _go_on_watching(self) -> None:
        while True:
            await asyncio.sleep(WATCH_EVERY_S)
            if self._lease.is_doubtful:
                self._fence()
            self._zygotes.kill_orphans()
            await self._watch_memory()

    def _fence(self) -> None:
        """Kill every task: others will soon believe that this executor is gone, and run its jobs."""
        if self._running:
            log.error("the lease cannot be renewed; running tasks are killed", count=len(self._running))
        for attempt in self._running.values():
            attempt.kill(AttemptOutcome.LOST)

    async def _give_back_held_up(self) -> None:
        """Give back what waits for a slot while all of them are busy with long tasks."""
        if self._buffer and monotonic() - self._buffered_since_s > HELD_BACK_S:
            held_up = list(self._buffer)
            self._buffer.clear()
            self._median_s = None  # tasks are not as short as they were
            await self._give_back(held_up)

    async def _watch_memory(self) -> None:
        now_s = asyncio.get_running_loop().time()
        watched = [each for each in self._running.values() if now_s - each.started_s >= WATCH_EVERY_S / 2]
        if not watched:
            return
        sizes = await asyncio.to_thread(resident_bytes, [each.child.pid for each in watched])
        for attempt in watched:
            size_bytes = sizes[attempt.child.pid]
            attempt.peak_bytes = max(attempt.peak_bytes or 0, size_bytes)
            if size_bytes > attempt.declared.memory_bytes_max:
                attempt.kill(EndReason.MEMORY_LIMIT)
            elif size_bytes > self._bounds.child_bytes_max:
                attempt.child.is_retiring = True  # after its task

    # What is done for all.

    async def _repeat(self, every_s: float, work: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await work()
            except Transient as reason:
                log.debug("put off", error=str(reason))
            await asyncio.sleep(every_s * (1 + 0.1 * random.random()))  # noqa: S311  # spreads load

    async def _go_on_promoting(self) -> None:
        while True:
            more = False
            with suppress(Transient):
                more = await self._housekeeping.promote()
            await asyncio.sleep(0 if more else PROMOTE_EVERY_S * (1 + random.random()))  # noqa: S311  # spreads load

    async def _reclaim(self) -> None:
        while await self._housekeeping.reclaim():
            pass

    async def _store_reports(self) -> None:
        now_s = asyncio.get_running_loop().time()
        await self._reports.store([each for each in self._running.values() if now_s - each.started_s >= LIVE_AFTER_S])

    # The end.

    async def _drain(self, stop: asyncio.Event, hurry: asyncio.Event) -> bool:
        await stop.wait()
        log.info("draining", running=len(self._running), drain_s=self._bounds.drain_s)
        self._is_draining = True
        self._health.problem = "the executor drains: it takes no more jobs"
        self._wanted.set()
        self._beat_wanted.set()
        buffered = list(self._buffer)
        self._buffer.clear()
        if buffered:
            await self._give_back(buffered)
        await _until(lambda: not self._is_busy() or hurry.is_set(), within_s=self._bounds.drain_s)
        if not await _until(self._interrupt_running, within_s=STOP_S):
            return False
        try:
            await self._lease.leave()
        except Transient:
            return False
        return True

    def _interrupt_running(self) -> bool:
        """Interrupt what runs, and what has just begun to; return True once nothing is left."""
        for attempt in self._running.values():
            attempt.interrupt()
        return not (self._is_busy() or self._endings.pending)

    def _is_busy(self) -> bool:
        return bool(self._running or self._starting or self._buffer or self._moving)


async def _until(holds: Callable[[], bool], *, within_s: float) -> bool:
    """Wait until *holds* returns True, for a bounded time; return what it returned last."""
    until_s = monotonic() + within_s
    while not holds() and monotonic() < until_s:  # noqa: ASYNC110  many things end what is waited for
        await asyncio.sleep(LOOK_EVERY_S)
    return holds()


def _nearer_median(estimate_s: float, measured_s: float) -> float:
    """Return an estimate of a median after one more measurement: a tenth up or down, whatever its size."""
    return estimate_s * (1.1 if measured_s > estimate_s else 1 / 1.1)
