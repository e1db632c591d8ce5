"""Contract of the job store on Postgres: rows that the test inserts, read as the API shows them, in bounded work."""

import json
import re
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from secrets import token_hex
from typing import Any
from uuid import uuid4

import msgspec
import psycopg
import pytest
from psycopg import sql

from gateway.jobs import postgres as statements
from gateway.jobs.postgres import PostgresJobStore
from gateway.jobs.store import JobListing, JobPlace
from gateway.postgres.pool import PostgresReads
from schemas.jobs.filters import JobFilter
from schemas.jobs.states import AttemptOutcome, JobStatus
from schemas.kafka.places import RecordPlace
from tests.support.jobs import JobServer

START = datetime(2026, 11, 1, tzinfo=UTC)
NEWEST, PENDING, FAILED = JobListing.NEWEST, JobListing.PENDING, JobListing.FAILED
MANY = 30_000  # rows: more than a page looks at
SCAN = re.compile(r"Seq Scan on (jobs|job_ready|job_delayed|job_attempts)\b")


@dataclass(frozen=True, slots=True)
class Rows:
    """A store, and a tenant of the test's own with rows in its tables."""

    store: PostgresJobStore
    owner: psycopg.Connection[Any]
    tenant: str = field(default_factory=lambda: f"t-{token_hex(6)}")
    queue: str = field(default_factory=lambda: f"q-{token_hex(6)}")

    def insert(self, table: str, **values: Any) -> None:
        """Insert one row."""
        columns = sql.SQL(", ").join(map(sql.Identifier, values))
        marks = sql.SQL(", ").join(sql.Placeholder() * len(values))
        insert = sql.SQL("INSERT INTO {} ({}) VALUES ({})")
        self.owner.execute(insert.format(sql.Identifier(table), columns, marks), list(values.values()))

    def job(self, number: int = 0, **changes: Any) -> str:
        """Insert a job that was created *number* seconds after the start; return its id."""
        job_id = str(uuid4())
        moment = START + timedelta(seconds=number)
        values = {
            "job_id": job_id, "tenant_id": self.tenant, "type": "echo", "queue": self.queue, "status": "completed",
            "priority": 5, "parameters": '{ "value" : 1.00 }', "max_attempts": 3, "run_at": moment,
            "content_sha256": b"d" * 32, "created_at": moment,
        }  # fmt: skip
        self.insert("jobs", **(values | changes))
        return job_id

    def ready(self, number: int, *, rank_s: int, lost: int = 0, **changes: Any) -> str:
        """Insert a job that waits for an executor."""
        job_id = self.job(number, status="pending", **changes)
        rank = START + timedelta(seconds=rank_s)
        self.insert(
            "job_ready", job_id=job_id, queue=self.queue, tenant_id=self.tenant, type="echo", rank=rank, lost=lost
        )
        return job_id

    def delayed(self, number: int, *, run_at_s: int) -> str:
        """Insert a job that waits for its time."""
        run_at = START + timedelta(seconds=run_at_s)
        job_id = self.job(number, status="pending", run_at=run_at)
        self.insert("job_delayed", job_id=job_id, queue=self.queue, tenant_id=self.tenant, run_at=run_at)
        return job_id

    def running(self, number: int, **changes: Any) -> str:
        """Insert a job that an executor holds."""
        job_id = self.job(number, status="running")
        values = {
            "job_id": job_id, "attempt_id": str(uuid4()), "executor_id": str(uuid4()), "queue": self.queue,
            "tenant_id": self.tenant, "type": "echo", "deadline_at": START,
        }  # fmt: skip
        self.insert("job_running", **(values | changes))
        return job_id

    async def listed(self, listing: JobListing, *, limit: int = 100, skip: int = 0, **admitted: Any) -> list[str]:
        """Return the ids of one page."""
        page, _ = await self.store.jobs(self.tenant, listing, JobFilter(**admitted), after=None, skip=skip, limit=limit)
        return [each.task_id for each in page]

    async def paged(self, listing: JobListing, *, limit: int, **admitted: Any) -> list[str]:
        """Return the ids of all pages."""
        found: list[str] = []
        after: JobPlace | None = None
        while True:
            page, after = await self.store.jobs(
                self.tenant, listing, JobFilter(**admitted), after=after, skip=0, limit=limit
            )
            assert len(page) <= limit
            found += [each.task_id for each in page]
            if after is None:
                return found


@pytest.fixture
def owner(job_server: JobServer) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(job_server.owner, autocommit=True) as session:
        yield session


@pytest.fixture
async def rows(job_server: JobServer, owner: psycopg.Connection[Any]) -> AsyncIterator[Rows]:
    async with PostgresReads(job_server.owner) as reads:
        made = Rows(PostgresJobStore(reads), owner)
        made.insert("job_queues", queue=made.queue)
        yield made
    owner.execute("DELETE FROM job_queues WHERE queue = %s", [made.queue])


async def test_a_job_is_shown_with_its_attempts_and_result(rows: Rows) -> None:
    job_id = rows.job(metadata='{"a": 1}', tags=["x", "y"], user_id="u", summary='{"n": 2}', traceparent="00-a")
    attempts = [str(uuid4()), str(uuid4())]
    for number, attempt_id in enumerate(attempts, start=1):
        rows.insert(
            "job_attempts", attempt_id=attempt_id, job_id=job_id, tenant_id=rows.tenant, number=number, generation=1,
            executor_id=str(uuid4()), outcome="failed" if number == 1 else "completed", log="x" * 10_000,
            claimed_at=START, started_at=START, finished_at=START + timedelta(seconds=2), traceback="at line 1",
        )  # fmt: skip
    rows.insert("job_results", job_id=job_id, attempt_id=attempts[1], result='{ "n" : 1.50 }')
    shown = await rows.store.job(rows.tenant, job_id)
    assert shown is not None
    assert (shown.status, bytes(shown.parameters), bytes(shown.result or b"")) == (  # type: ignore[arg-type]
        JobStatus.COMPLETED, b'{ "value" : 1.00 }', b'{ "n" : 1.50 }'
    )  # fmt: skip
    assert (shown.tags, shown.user_id, shown.traceparent, shown.created_at) == (["x", "y"], "u", "00-a", START)
    assert (bytes(shown.metadata or b""), bytes(shown.summary or b"")) == (b'{"a": 1}', b'{"n": 2}')
    assert [each.number for each in shown.attempt_history] == [2, 1]
    first = shown.attempt_history[1]
    assert (first.outcome, first.traceback, first.duration_s) == (AttemptOutcome.FAILED, "at line 1", 2.0)
    assert len(first.log_tail or "") == 8 * 1024
    log = await rows.store.log(rows.tenant, job_id, None)
    assert log is not None
    assert (log.attempt, len(log.log)) == (2, 10_000)
    assert await rows.store.log(rows.tenant, job_id, 3) is None


async def test_a_result_expires_and_a_job_without_one_says_nothing(rows: Rows) -> None:
    done = await rows.store.job(rows.tenant, rows.job())
    assert done is not None
    assert done.result_expired is True
    waiting = await rows.store.job(rows.tenant, rows.ready(0, rank_s=0))
    assert waiting is not None
    assert json.loads(msgspec.json.encode(waiting)).keys().isdisjoint({"result", "result_expired"})


async def test_a_running_job_shows_progress_and_the_wish_to_cancel_it(rows: Rows) -> None:
    shown = await rows.store.job(rows.tenant, rows.running(0, fraction=0.5, message="half", cancelled_by="key"))
    assert shown is not None
    assert shown.progress is not None
    assert (shown.progress.fraction, shown.progress.message, shown.cancel_requested) == (0.5, "half", True)


async def test_a_position_counts_those_before_it(rows: Rows) -> None:
    ids = [rows.ready(number, rank_s=-number) for number in range(3)]
    shown = [await rows.store.job(rows.tenant, each) for each in ids]
    assert [each and each.position for each in shown] == [2, 1, 0]


async def test_pages_go_on_without_gaps(rows: Rows) -> None:
    ids = [rows.job(number // 2) for number in range(7)]  # two of one time
    assert await rows.listed(NEWEST) == sorted(ids, key=lambda each: (ids.index(each) // 2, each), reverse=True)
    assert await rows.paged(NEWEST, limit=2) == await rows.listed(NEWEST)
    assert await rows.listed(NEWEST, skip=5) == (await rows.listed(NEWEST))[5:]
    assert (await rows.store.count(rows.tenant, NEWEST, JobFilter())).count == 7


async def test_filters_leave_out_what_they_do_not_name(rows: Rows) -> None:
    failed = rows.job(1, status="failed", failed_at=START)
    tagged = rows.job(2, tags=["a", "b"], type="x/y")
    of_user = rows.job(3, user_id="u", metadata='{"order": {"id": 17, "more": true}}')
    running = rows.running(4)
    assert await rows.listed(NEWEST, status=JobStatus.FAILED) == [failed]
    assert await rows.listed(NEWEST, status=JobStatus.RUNNING) == [running]
    assert await rows.listed(NEWEST, tag="b") == await rows.listed(NEWEST, type="x/y") == [tagged]
    assert await rows.listed(NEWEST, user_id="u") == [of_user]
    assert await rows.listed(NEWEST, metadata={"order": {"id": 17}}) == [of_user]
    assert await rows.listed(NEWEST, metadata={"order": {"id": 18}}) == []
    assert await rows.listed(NEWEST, queue="none") == []
    assert await rows.listed(NEWEST, created_from=START + timedelta(seconds=3)) == [running, of_user]
    assert await rows.listed(NEWEST, created_to=START + timedelta(seconds=2)) == [failed]
    total = await rows.store.count(rows.tenant, NEWEST, JobFilter(tag="a"))
    assert (total.count, total.is_estimate) == (1, False)


async def test_pending_jobs_go_by_rank_and_delayed_ones_follow(rows: Rows) -> None:
    second, first = rows.ready(0, rank_s=2), rows.ready(1, rank_s=1)
    suspect = rows.ready(2, rank_s=3, lost=1)
    later, sooner = rows.delayed(3, run_at_s=200), rows.delayed(4, run_at_s=100)
    rows.running(5)
    expected = [first, second, suspect, sooner, later]
    assert await rows.listed(PENDING) == expected
    assert await rows.paged(PENDING, limit=2) == expected
    assert await rows.listed(PENDING, queue=rows.queue, skip=1, limit=2) == expected[1:3]
    assert await rows.listed(PENDING, queue="none") == []
    assert (await rows.store.count(rows.tenant, PENDING, JobFilter())).count == 5
    assert await rows.store.unfinished(rows.tenant, count_max=100) == 6
    assert await rows.store.unfinished(rows.tenant, count_max=4) == 4


async def test_failed_jobs_go_by_their_failure(rows: Rows) -> None:
    ids = [rows.job(number, status="failed", failed_at=START - timedelta(seconds=number)) for number in range(3)]
    rows.job(9)
    assert await rows.listed(FAILED) == await rows.paged(FAILED, limit=1) == ids
    assert (await rows.store.count(rows.tenant, FAILED, JobFilter())).count == 3


async def test_nobody_reads_the_jobs_of_another(rows: Rows) -> None:
    job_id = rows.ready(0, rank_s=0, dedupe_key="k")
    rows.insert("job_dedupe_keys", tenant_id=rows.tenant, type="echo", dedupe_key="k", job_id=job_id)
    held = await rows.store.holders(rows.tenant, [("echo", "k"), ("echo", "other"), ("x", "k")])
    assert {key: brief.job_id for key, brief in held.items()} == {("echo", "k"): job_id}
    assert await rows.store.holders("other", [("echo", "k")]) == {}
    assert await rows.store.job("other", job_id) is None
    assert await rows.store.brief("other", job_id) is None
    assert await rows.store.log("other", job_id, None) is None
    for listing in JobListing:
        page, _ = await rows.store.jobs("other", listing, JobFilter(), after=None, skip=0, limit=100)
        assert job_id not in [each.task_id for each in page]
    mine = next(each for each in await rows.store.queues(rows.tenant) if each.queue == rows.queue)
    others = next(each for each in await rows.store.queues("other") if each.queue == rows.queue)
    assert (mine.ready, others.ready) == (1, 0)
    brief = await rows.store.brief(rows.tenant, job_id)
    assert brief is not None
    assert (brief.content_sha256, brief.status, brief.created_at) == (b"d" * 32, JobStatus.PENDING, START)


async def test_queues_count_what_waits_and_who_serves(rows: Rows) -> None:
    rows.ready(0, rank_s=0)
    rows.ready(1, rank_s=0, lost=1)
    rows.delayed(2, run_at_s=100)
    rows.running(3)
    executor = {"host": "h", "pid": 1, "version": "1", "types": ["echo"], "slots": 2}
    ids = [str(uuid4()), str(uuid4())]
    rows.insert("executors", executor_id=ids[0], queues=[rows.queue], **executor)
    old = datetime.now(UTC) - timedelta(seconds=40)
    rows.insert("executors", executor_id=ids[1], queues=[rows.queue], beat_at=old, **executor)
    for tenant in (rows.tenant, None):
        queue = next(each for each in await rows.store.queues(tenant) if each.queue == rows.queue)
        assert (queue.ready, queue.delayed, queue.running, queue.executors) == (2, 1, 1, 1)
        assert (queue.paused, queue.step_s, queue.max_running) == (False, 60.0, None)
        assert 0 <= (queue.oldest_ready_s or 0) < 60
    silent = {each.executor_id: each.silent_s for each in await rows.store.executors()}
    assert silent[ids[0]] < 30 < silent[ids[1]] < 600
    pause = "UPDATE job_queues SET paused_at = now(), paused_until = now() + %s WHERE queue = %s"
    for until_s, is_paused in ((60, True), (-60, False)):
        rows.owner.execute(pause, [timedelta(seconds=until_s), rows.queue])
        queue = next(each for each in await rows.store.queues(None) if each.queue == rows.queue)
        assert queue.paused is is_paused
    assert rows.queue in await rows.store.queue_names()


async def test_schedules_and_operations(rows: Rows) -> None:
    ids = [str(uuid4()), str(uuid4())]
    for name, schedule_id in zip("ab", ids, strict=True):
        definition = json.dumps({"name": name, "cron": "0 3 * * *", "type": "echo"})
        rows.insert(
            "job_schedules", schedule_id=schedule_id, tenant_id=rows.tenant, name=name, definition=definition,
            created_by="key",
        )  # fmt: skip
        rows.insert(
            "job_operations", operation_id=schedule_id, tenant_id=rows.tenant, action="cancel", filter="{}",
            job_count=2, started_by="key", created_at=START + timedelta(seconds=ord(name)),
        )  # fmt: skip
    page, more = await rows.store.schedules(rows.tenant, after=None, limit=1)
    assert ([each.name for each in page], more, len(page[0].next_times)) == (["a"], True, 5)
    assert [each.name for each in (await rows.store.schedules(rows.tenant, after="a", limit=1))[0]] == ["b"]
    assert await rows.store.schedule(rows.tenant, ids[0]) is not None
    assert await rows.store.schedule("other", ids[0]) is None
    listed, more = await rows.store.operations(rows.tenant, after=None, limit=1)
    assert ([each.operation_id for each in listed], more) == ([ids[1]], True)
    rest, more = await rows.store.operations(rows.tenant, after=JobPlace(listed[0].created_at, ids[1]), limit=1)
    assert ([each.operation_id for each in rest], more) == ([ids[0]], False)
    assert await rows.store.operation(rows.tenant, ids[0]) is not None
    assert await rows.store.operation("other", ids[0]) is None


async def test_commands_have_outcomes(rows: Rows) -> None:
    job_id = rows.running(0)
    partition = 1_000_000 + int(token_hex(2), 16)  # of no log
    values = {"kafka_partition": partition, "tenant_id": rows.tenant}
    for offset, (command_id, kind, target, outcome, detail) in enumerate(
        [
            (f"job_{job_id}", "submit", job_id, "stored", None),
            (f"job_{job_id}", "submit", job_id, "duplicate", None),
            (f"jcm_{uuid4()}", "cancel", job_id, "refused", "the job is completed"),
            (f"jcm_{uuid4()}", "queue", rows.queue, "stored", None),
        ]
    ):
        rows.insert(
            "job_commands", kafka_offset=offset, command_id=command_id, kind=kind, target=target, outcome=outcome,
            detail=detail, **values,
        )  # fmt: skip
    rows.insert(
        "job_rejections", kafka_offset=4, target="x", reason="invalid_event", detail="/type", value=b"",
        received_at=START, **values,
    )  # fmt: skip
    found = [
        await rows.store.effect(rows.tenant, RecordPlace("jobs.commands", partition, offset), None)
        for offset in range(6)
    ]
    assert [each and (each.outcome, each.detail) for each in found] == [
        ("stored", "job is running"),
        ("duplicate", "job is running"),
        ("rejected", "refused: the job is completed"),
        ("stored", None),
        ("rejected", "refused: invalid_event: /type"),
        None,
    ]
    place = RecordPlace("jobs.commands", partition, 0)
    assert await rows.store.effect("other", place, None) is None
    assert await rows.store.effect(rows.tenant, place, "jcm_another") is None


async def test_work_is_bounded_however_much_there_is(rows: Rows) -> None:
    """Neither finished jobs nor a paused backlog may be read through: plans are looked at, the generic ones too."""
    rows.owner.execute(
        """
        INSERT INTO jobs (job_id, tenant_id, type, queue, status, priority, parameters, max_attempts, run_at,
                          content_sha256, created_at)
        SELECT gen_random_uuid(), %(tenant)s, 'echo', %(queue)s, CASE WHEN n %% 2 = 0 THEN 'completed' ELSE 'pending'
               END, 5, '{}', 3, now(), '', %(start)s::timestamptz + n * interval '1 ms'
        FROM generate_series(1, %(many)s) AS n
        """,
        {"tenant": rows.tenant, "queue": rows.queue, "start": START, "many": MANY},
    )
    rows.owner.execute(
        "INSERT INTO job_ready (job_id, queue, tenant_id, type, rank) "
        "SELECT job_id, queue, tenant_id, type, created_at FROM jobs WHERE tenant_id = %s AND status = 'pending'",
        [rows.tenant],
    )
    rows.owner.execute("ANALYZE jobs, job_ready, job_delayed")
    found = await rows.store.count(rows.tenant, NEWEST, JobFilter())
    assert (found.count, found.is_estimate) == (10_000, True)
    assert (await rows.store.count(rows.tenant, PENDING, JobFilter())).is_estimate
    page, last = await rows.store.jobs(rows.tenant, NEWEST, JobFilter(type="no/such"), after=None, skip=0, limit=10)
    assert page == []
    assert last is not None, "it goes on behind what was looked at"
    assert await rows.paged(NEWEST, limit=10, type="no/such") == []
    queue = next(each for each in await rows.store.queues(rows.tenant) if each.queue == rows.queue)
    assert queue.ready == 10_000

    asked: dict[str, Any] = {
        "tenant": rows.tenant, "status": None, "type": "no/such", "queue": None, "user_id": None, "tag": None,
        "reason": None, "dedupe_key": None, "metadata": "{}", "from": "-infinity",
        "before": "infinity", "after": START, "after_id": str(uuid4()),
        "skip": 0, "limit": 11, "ends_at": 11, "looked_at_max": 1000, "lease_s": 30.0, "tenants": 10,
        "job_id": str(uuid4()), "rank": START, "log_tail": 10,
    }  # fmt: skip
    for mode in ("force_custom_plan", "force_generic_plan"):
        rows.owner.execute("SELECT set_config('plan_cache_mode', %s, false)", [mode])
        for name in (
            "JOB", "BRIEF", "ATTEMPTS", "NEWEST", "NEWEST_RUNNING", "LAST_LOOKED_AT", "PENDING", "FAILED",
            "COUNT_NEWEST", "COUNT_FAILED", "QUEUES_OF_TENANT", "QUEUES_OF_ALL",
        ):  # fmt: skip
            statement = getattr(statements, name)
            plan = "\n".join(row[0] for row in rows.owner.execute(f"EXPLAIN {statement}".encode(), asked, prepare=True))
            for scanned in SCAN.findall(plan):
                assert scanned in ("job_delayed", "job_attempts"), f"{name}, {mode}:\n{plan}"  # small here
