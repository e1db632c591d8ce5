"""Commands as changes of the tables of jobs, on a real Postgres."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest

from processors.jobs.intake.measures import Measures
from processors.jobs.intake.operations import ITEMS_A_TIME, Operations
from processors.jobs.intake.schedules import Scheduler
from processors.jobs.intake.store import CommandStore
from processors.postgres.writes import PostgresWrites
from processors.runtime.batch import RawRecord
from processors.runtime.contract import Arrival, Outcome, Tally
from processors.runtime.errors import LogRewritten, Transient
from schemas.errors import Poison, Reason, Rejection
from schemas.jobs.builtin import BUILTIN_TYPES
from schemas.jobs.codec import COMMAND_CODEC
from schemas.jobs.records import (
    ChangeJob,
    ChangeQueue,
    ChangeSchedule,
    Command,
    StartOperation,
    SubmitJob,
    key_of,
    scheduled_job_id,
)
from schemas.jobs.states import JobAction, QueueAction, ScheduleAction
from schemas.jobs.telemetry import OF_INTAKE
from schemas.jobs.topics import JOB_COMMANDS
from schemas.process.telemetry import Telemetry
from tests.support.jobs import Tables

TENANT = "demo"
NOW_MS = int(datetime.now(UTC).timestamp() * 1000)
DONE, DUPLICATE, REDELIVERY, REJECTED = Outcome.DONE, Outcome.DUPLICATE, Outcome.REDELIVERY, Outcome.REJECTED
JSON_TYPES = {each.name: each for each in BUILTIN_TYPES}


def submit(job_id: str | None = None, **changes: Any) -> SubmitJob:
    fields = {
        "tenant": TENANT,
        "job_id": job_id or str(uuid4()),
        "type": "echo",
        "queue": "default",
        "priority": 5,
        "parameters": '{"value": 1.0}',
        "max_attempts": 3,
        "submitted_by": "key",
        "content_sha256": bytes(32),
    }
    return SubmitJob(**(fields | changes))


def change(action: JobAction, job_id: str, *, command_id: str | None = None, **changes: Any) -> ChangeJob:
    fields = {"tenant": TENANT, "job_id": job_id, "command_id": command_id or str(uuid4()), "by": "key"}
    return ChangeJob(action=action, **(fields | changes))


def arrivals(commands: Sequence[Command], first: int = 0, rejection: Rejection | None = None) -> list[Arrival[Command]]:
    return [
        Arrival(
            RawRecord(JOB_COMMANDS.name, 0, offset, NOW_MS, key_of(each), COMMAND_CODEC.encode(each), ()),
            {},
            each,
            rejection,
            is_sealed=True,
        )
        for offset, each in enumerate(commands, first)
    ]


@pytest.fixture
async def writes(tables: Tables) -> AsyncIterator[PostgresWrites]:
    async with PostgresWrites(tables.dsn, connections_max=4, application="test") as opened:
        yield opened


@pytest.fixture
def store(writes: PostgresWrites) -> CommandStore:
    return CommandStore(writes)


def outcomes(tables: Tables) -> list[tuple[str, str, str | None]]:
    rows = tables.rows("SELECT kind, outcome, detail FROM job_commands ORDER BY kafka_offset")
    return [(row["kind"], row["outcome"], row["detail"]) for row in rows]


async def test_a_submission_becomes_a_ready_job_with_its_change(store: CommandStore, tables: Tables) -> None:
    command = submit(tags=("a", "b"), metadata='{"order": 7}', user_id="u", priority=10)
    assert await store.apply(arrivals([command])) == Tally({(DONE, None): 1})
    job = tables.job(UUID(command.job_id))
    assert (job["status"], job["tags"], job["metadata"], job["version"]) == ("pending", ["a", "b"], {"order": 7}, 1)
    [ready] = tables.rows("SELECT rank, queue FROM job_ready")
    assert ready["rank"] == job["run_at"] - timedelta(minutes=9)
    [changed] = tables.rows("SELECT status, version FROM job_changes")
    assert changed == {"status": "pending", "version": 1}
    [text] = tables.rows("SELECT parameters::text FROM jobs")
    assert text["parameters"] == '{"value": 1.0}'


async def test_a_later_time_delays_a_job_and_a_past_one_does_not(store: CommandStore, tables: Tables) -> None:
    later, past = submit(run_at_ms=NOW_MS + 3_600_000), submit(run_at_ms=NOW_MS - 3_600_000)
    await store.apply(arrivals([later, past]))
    assert [str(row["job_id"]) for row in tables.rows("SELECT job_id FROM job_delayed")] == [later.job_id]
    assert [str(row["job_id"]) for row in tables.rows("SELECT job_id FROM job_ready")] == [past.job_id]


async def test_commands_that_come_again_change_nothing(store: CommandStore, tables: Tables) -> None:
    command = submit()
    slice_ = arrivals([command, change(JobAction.CANCEL, command.job_id)])
    await store.apply(slice_)
    before = tables.job(UUID(command.job_id))
    assert await store.apply(slice_) == Tally({(REDELIVERY, None): 2})
    assert tables.job(UUID(command.job_id)) == before


async def test_the_same_submission_at_another_place_is_a_duplicate(store: CommandStore, tables: Tables) -> None:
    command = submit()
    tally = await store.apply(arrivals([command, command]))
    assert tally == Tally({(DONE, None): 1, (DUPLICATE, None): 1})
    assert await store.apply(arrivals([command], 2)) == Tally({(DUPLICATE, None): 1})
    assert len(tables.rows("SELECT 1 FROM job_ready")) == 1


@pytest.mark.parametrize("other", [{"content_sha256": bytes([1]) * 32}, {"tenant": "other"}])
async def test_other_content_under_one_id_is_rejected_with_its_bytes(
    store: CommandStore, tables: Tables, other: dict[str, Any]
) -> None:
    command = submit()
    conflicting = submit(command.job_id, **other)
    tally = await store.apply(arrivals([command, conflicting]))
    assert tally == Tally({(DONE, None): 1, (REJECTED, Reason.CONFLICT): 1})
    [kept] = tables.rows("SELECT reason, value FROM job_rejections")
    assert COMMAND_CODEC.decode(kept["value"]) == conflicting
    assert await store.apply(arrivals([command, conflicting])) == Tally({(REDELIVERY, None): 2})


async def test_a_rejected_record_is_kept_and_a_replay_applies_it_once_it_is_valid(
    writes: PostgresWrites, tables: Tables
) -> None:
    command, why = submit(), Rejection(reason=Reason.UNKNOWN_TENANT, detail="no tenant 'demo'")
    assert await CommandStore(writes).apply(arrivals([command], rejection=why)) == Tally(
        {(REJECTED, Reason.UNKNOWN_TENANT): 1}
    )
    assert await CommandStore(writes).apply(arrivals([command])) == Tally({(REDELIVERY, None): 1})
    assert tables.rows("SELECT 1 FROM jobs") == []
    tables.rows("GRANT tidegate_replay TO tidegate_executor")
    try:
        assert await CommandStore(writes, replays=True).apply(arrivals([command])) == Tally({(DONE, None): 1})
    finally:
        tables.rows("REVOKE tidegate_replay FROM tidegate_executor")
    assert tables.job(UUID(command.job_id))["status"] == "pending"
    assert tables.rows("SELECT 1 FROM job_rejections") == []


async def test_a_log_that_was_written_again_stops_the_partition(store: CommandStore) -> None:
    await store.apply(arrivals([submit()]))
    with pytest.raises(LogRewritten):
        await store.apply(arrivals([submit()]))
    [sent_back] = arrivals([submit()])
    raw = msgspec.structs.replace(sent_back.raw, attempt=1)
    with pytest.raises(Poison):
        await store.apply([msgspec.structs.replace(sent_back, raw=raw)])


async def test_of_one_dedupe_key_one_unfinished_job_runs_and_the_others_are_aliases(
    store: CommandStore, tables: Tables
) -> None:
    first, second, other = submit(dedupe_key="k"), submit(dedupe_key="k"), submit(dedupe_key="k", tenant="other")
    await store.apply(arrivals([first, second, other]))
    alias = tables.job(UUID(second.job_id))
    assert (alias["status"], alias["reason"], str(alias["duplicate_of"])) == ("cancelled", "duplicate", first.job_id)
    third = submit(dedupe_key="k")
    await store.apply(arrivals([third], 3))
    assert str(tables.job(UUID(third.job_id))["duplicate_of"]) == first.job_id
    assert len(tables.rows("SELECT 1 FROM job_ready")) == 2
    await store.apply(arrivals([change(JobAction.CANCEL, first.job_id)], 4))
    fourth = submit(dedupe_key="k")
    await store.apply(arrivals([fourth], 5))
    assert tables.job(UUID(fourth.job_id))["status"] == "pending"
    await store.apply(arrivals([change(JobAction.RETRY, first.job_id), change(JobAction.RETRY, second.job_id)], 6))
    assert outcomes(tables)[-2:] == [
        ("retry", "refused", "another unfinished job has its dedupe key"),
        ("retry", "refused", "the job is an alias of another one"),
    ]
    tables.check_invariants()


async def test_two_workers_that_take_one_dedupe_key_agree(writes: PostgresWrites, tables: Tables) -> None:
    stores = [CommandStore(writes) for _ in range(4)]
    slices = [arrivals([submit(dedupe_key=f"k{n}") for n in range(20)], 100 * number) for number in range(4)]

    async def apply(store: CommandStore, slice_: list[Arrival[Command]]) -> None:
        while True:
            try:
                await store.apply(slice_)
            except Transient:
                continue
            return

    await asyncio.gather(*(apply(*pair) for pair in zip(stores, slices, strict=True)))
    assert len(tables.rows("SELECT 1 FROM jobs WHERE status = 'pending'")) == 20
    assert len(tables.rows("SELECT 1 FROM jobs WHERE reason = 'duplicate'")) == 60
    tables.check_invariants()


@pytest.mark.parametrize("changes", [{}, {"run_at_ms": NOW_MS + 3_600_000}])
async def test_a_waiting_job_is_cancelled_at_once(store: CommandStore, tables: Tables, changes: dict[str, Any]) -> None:
    command = submit(dedupe_key="k", **changes)
    await store.apply(arrivals([command, change(JobAction.CANCEL, command.job_id)]))
    job = tables.job(UUID(command.job_id))
    assert (job["status"], job["version"], job["finished_at"] is None) == ("cancelled", 2, False)
    assert tables.rows("SELECT job_id FROM job_ready UNION SELECT job_id FROM job_delayed") == []
    assert tables.rows("SELECT 1 FROM job_dedupe_keys") == []
    [audit] = tables.rows("SELECT by, action, target FROM audit_log")
    assert audit == {"by": "key", "action": "job.cancel", "target": command.job_id}


async def test_a_cancelled_job_runs_again_when_asked_and_a_pending_one_is_not_touched(
    store: CommandStore, tables: Tables
) -> None:
    command = submit()
    retry = change(JobAction.RETRY, command.job_id)
    await store.apply(arrivals([command, retry, change(JobAction.CANCEL, command.job_id)]))
    await store.apply(arrivals([change(JobAction.RETRY, command.job_id), change(JobAction.CANCEL, command.job_id)], 3))
    job = tables.job(UUID(command.job_id))
    assert (job["status"], job["generation"], job["version"]) == ("cancelled", 2, 4)
    assert [each[1] for each in outcomes(tables)] == ["stored", "refused", "stored", "stored", "stored"]


async def test_another_priority_is_another_rank(store: CommandStore, tables: Tables) -> None:
    command = submit(priority=1)
    await store.apply(arrivals([command, change(JobAction.REPRIORITISE, command.job_id, priority=10)]))
    [row] = tables.rows("SELECT run_at - rank AS ahead FROM job_ready JOIN jobs USING (job_id)")
    assert row["ahead"] == timedelta(minutes=9)
    assert tables.job(UUID(command.job_id))["priority"] == 10


async def test_changes_of_what_is_not_there_or_not_the_tenants_are_refused(store: CommandStore, tables: Tables) -> None:
    command = submit(tenant="other")
    await store.apply(arrivals([command, change(JobAction.CANCEL, command.job_id)]))
    assert outcomes(tables)[-1] == ("cancel", "refused", "no such job")
    assert tables.job(UUID(command.job_id))["status"] == "pending"


async def test_a_change_that_a_client_repeats_is_applied_once(store: CommandStore, tables: Tables) -> None:
    command = submit()
    cancel = change(JobAction.CANCEL, command.job_id)
    tally = await store.apply(arrivals([command, cancel, cancel]))
    assert tally == Tally({(DONE, None): 2, (DUPLICATE, None): 1})
    assert len(tables.rows("SELECT 1 FROM audit_log")) == 1


async def test_queues_are_paused_resumed_and_limited(store: CommandStore, tables: Tables) -> None:
    def queue(action: QueueAction, name: str = "default", **more: Any) -> ChangeQueue:
        return ChangeQueue(tenant=TENANT, queue=name, command_id=str(uuid4()), action=action, by="key", **more)

    await store.apply(arrivals([queue(QueueAction.PAUSE, reason="upgrade", until_ms=NOW_MS + 60_000)]))
    [row] = tables.rows("SELECT * FROM job_queues WHERE queue = 'default'")
    assert (row["pause_reason"], row["paused_by"], row["paused_at"] is None) == ("upgrade", "key", False)
    await store.apply(
        arrivals(
            [
                queue(QueueAction.RESUME),
                queue(QueueAction.CONFIGURE, "test-new", max_running=3, step_s=1.0),
                queue(QueueAction.PAUSE, "test-none"),
            ],
            1,
        )
    )
    [row] = tables.rows("SELECT paused_at FROM job_queues WHERE queue = 'default'")
    assert row["paused_at"] is None
    [row] = tables.rows("SELECT max_running, step_s FROM job_queues WHERE queue = 'test-new'")
    assert row == {"max_running": 3, "step_s": 1.0}
    assert outcomes(tables)[-1] == ("queue", "refused", "no such queue")


def schedule(action: ScheduleAction, schedule_id: str, **definition: Any) -> ChangeSchedule:
    text = msgspec.json.encode({"name": "n", "type": "echo", **definition}).decode() if definition else None
    fields = {"tenant": TENANT, "schedule_id": schedule_id, "command_id": str(uuid4()), "by": "key"}
    return ChangeSchedule(action=action, definition=text, **fields)


async def test_a_due_schedule_fires_one_job_whoever_looks(
    store: CommandStore, writes: PostgresWrites, tables: Tables
) -> None:
    schedule_id, submitted = str(uuid4()), []
    await store.apply(arrivals([schedule(ScheduleAction.PUT, schedule_id, cron="*/5 * * * *")]))
    due_at = datetime.now(UTC).replace(second=0, microsecond=0) - timedelta(minutes=17)
    tables.rows("UPDATE job_schedules SET next_at = %s", due_at)

    async def submit_jobs(jobs: Sequence[SubmitJob]) -> None:
        submitted.extend(jobs)

    schedulers = [Scheduler(writes, JSON_TYPES, submit_jobs, fired=lambda _count: None) for _ in range(4)]
    await asyncio.gather(*(each.fire() for each in schedulers))
    [job] = submitted
    [row] = tables.rows("SELECT last_fired_at, next_at, last_job_id FROM job_schedules")
    nominal_ms = int(row["last_fired_at"].timestamp() * 1000)
    assert job.job_id == scheduled_job_id(schedule_id, nominal_ms) == str(row["last_job_id"])
    assert row["next_at"] > datetime.now(UTC)


async def test_a_schedule_that_could_not_be_marked_submits_the_same_job_again(
    store: CommandStore, writes: PostgresWrites, tables: Tables
) -> None:
    await store.apply(arrivals([schedule(ScheduleAction.PUT, str(uuid4()), cron="0 0 1 1 *")]))
    tables.rows("UPDATE job_schedules SET next_at = now()")
    submitted: list[SubmitJob] = []

    async def submit_and_fail(jobs: Sequence[SubmitJob]) -> None:
        submitted.extend(jobs)
        if len(submitted) == 1:
            raise Transient("killed before the commit")

    scheduler = Scheduler(writes, JSON_TYPES, submit_and_fail, fired=lambda _count: None)
    with pytest.raises(Transient):
        await scheduler.fire()
    await scheduler.fire()
    assert submitted[0] == submitted[1]
    assert await store.apply(arrivals(submitted, 10)) == Tally({(DONE, None): 1, (DUPLICATE, None): 1})


async def test_schedules_are_paused_resumed_run_and_deleted(store: CommandStore, tables: Tables) -> None:
    schedule_id = str(uuid4())
    await store.apply(
        arrivals(
            [
                schedule(ScheduleAction.PUT, schedule_id, cron="0 0 1 1 *"),
                schedule(ScheduleAction.PUT, str(uuid4()), cron="0 0 1 1 *"),
                schedule(ScheduleAction.PUT, str(uuid4()), cron="61 * * * *"),
                schedule(ScheduleAction.PAUSE, schedule_id),
                schedule(ScheduleAction.RUN, schedule_id),
                schedule(ScheduleAction.RESUME, schedule_id),
                schedule(ScheduleAction.RUN, schedule_id),
            ]
        )
    )
    assert [each[1] for each in outcomes(tables)] == [
        *("stored", "refused", "refused", "stored", "refused", "stored", "stored")
    ]
    [row] = tables.rows("SELECT next_at <= now() AS due FROM job_schedules")
    assert row["due"]
    await store.apply(arrivals([schedule(ScheduleAction.DELETE, schedule_id)], 10))
    assert tables.rows("SELECT 1 FROM job_schedules") == []


async def test_an_operation_covers_the_jobs_that_matched_when_it_began(
    store: CommandStore, writes: PostgresWrites, tables: Tables
) -> None:
    jobs = [submit(tags=("old",)) for _ in range(ITEMS_A_TIME + 10)]
    operation = StartOperation(
        tenant=TENANT,
        operation_id=str(uuid4()),
        action=JobAction.CANCEL,
        filter='{"tag": "old", "created_from": "2026-01-01T00:00:00Z"}',
        by="key",
    )
    later = submit(tags=("old",))
    await store.apply(arrivals([*jobs, submit(), submit(tenant="other", tags=("old",)), operation, later]))
    await store.apply(arrivals([change(JobAction.CANCEL, jobs[0].job_id)], 1000))
    operations = Operations(writes)
    while await operations.go_on():
        pass
    [row] = tables.rows("SELECT job_count, done_count, refused_count, finished_at IS NULL AS open FROM job_operations")
    assert row == {"job_count": len(jobs), "done_count": len(jobs) - 1, "refused_count": 1, "open": False}
    assert len(tables.rows("SELECT 1 FROM jobs WHERE status = 'pending'")) == 3
    assert tables.job(UUID(later.job_id))["status"] == "pending"


async def test_depths_and_ages_are_measured(store: CommandStore, writes: PostgresWrites) -> None:
    instruments = Telemetry(OF_INTAKE)
    await store.apply(arrivals([submit(), submit(), submit(run_at_ms=NOW_MS + 3_600_000)]))
    await Measures(writes, instruments).measure()

    def value(name: str) -> float:
        return instruments.registry.get_sample_value(name, {"queue": "default"}) or 0.0

    assert (value("tidegate_jobs_ready"), value("tidegate_jobs_delayed"), value("tidegate_jobs_running")) == (2, 1, 0)
    assert value("tidegate_jobs_oldest_ready_seconds") > 0
    assert value("tidegate_job_executors") == 0
