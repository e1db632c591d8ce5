"""Jobs for tests: a Postgres of their own with the tables, rows as intake would write them, and executors."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep
from typing import Any
from uuid import UUID, uuid4

import psycopg
from psycopg.rows import dict_row

from deploy.admin import migrate
from deploy.local import postgres
from processors.jobs.moves import Verdict, change_job
from schemas.jobs.states import JobAction
from tests.faults.processes import free_port

ROOT = Path(__file__).parents[2]
PASSWORD = "abc"
TENANT = "demo"
WITHIN_S = 60.0
TYPES = "tests.support.tasks:TYPES"
HOT_TABLES = ("job_ready", "job_delayed", "job_running")  # an unfinished job is in one of them

INSERT = """
    WITH new AS (
        INSERT INTO jobs (job_id, tenant_id, type, queue, priority, parameters, max_attempts, timeout_s, run_at,
            expires_at, content_sha256, created_at, dedupe_key)
        SELECT coalesce(%(job_id)s, gen_random_uuid()), %(tenant)s, %(type)s, %(queue)s, %(priority)s,
            %(parameters)s::json, %(max_attempts)s, %(timeout_s)s,
            clock_timestamp() + make_interval(secs => %(delay_s)s),
            clock_timestamp() + make_interval(secs => %(expires_s)s), ''::bytea, clock_timestamp(), %(dedupe_key)s
        FROM generate_series(1, %(count)s)
        RETURNING *
    ),
    ready AS (
        INSERT INTO job_ready (job_id, queue, tenant_id, type, rank, expires_at)
        SELECT job_id, queue, tenant_id, type, run_at - make_interval(secs => (priority - 1) * step_s), expires_at
        FROM new JOIN job_queues USING (queue) WHERE %(delay_s)s <= 0
    ),
    delayed AS (
        INSERT INTO job_delayed (job_id, queue, tenant_id, run_at)
        SELECT job_id, queue, tenant_id, run_at FROM new WHERE %(delay_s)s > 0
    )
    SELECT job_id FROM new
"""


class JobServer:
    """A Postgres with the tables, on loopback."""

    def __init__(self, folder: Path, port: int) -> None:
        """Prepare its data in *folder*; `start` runs it."""
        self._program = postgres.prepare(folder / "data", port=port, password=PASSWORD)
        self._log = folder / "postgres.log"
        self.owner = postgres.dsn(port=port, user=postgres.OWNER, password=PASSWORD)
        self.dsn = postgres.dsn(port=port, user="tidegate_executor", password=PASSWORD)
        self.documents = postgres.dsn(port=port, user="tidegate_documents_store", password=PASSWORD)
        self.reader = postgres.dsn(port=port, user="tidegate_gateway", password=PASSWORD)
        self.port = port
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Run it until it answers."""
        account = self._program.account
        ids: dict[str, Any] = {} if account is None else {"user": account.uid, "group": account.gid}
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                self._program.command, cwd=self._program.folder, stdout=log, stderr=log, **ids
            )
        until_s = monotonic() + WITHIN_S
        while not self._program.is_ready():
            assert monotonic() < until_s, self._log.read_text()[-2000:]
            sleep(0.05)

    def set_up(self) -> None:
        """Make the database, its tables and the logins."""
        postgres.create_database(port=self.port, password=PASSWORD)
        migrate.apply(self.owner)
        for user, role in (
            ("tidegate_executor", "tidegate_jobs"),
            ("tidegate_documents_store", "tidegate_documents"),
            ("tidegate_gateway", "tidegate_read"),
        ):
            postgres.create_login(self.owner, user=user, password=PASSWORD, member_of=role)

    def text(self) -> str:
        """Return what it logged."""
        return self._log.read_text(errors="replace")

    def stop(self, number: signal.Signals = signal.SIGQUIT) -> None:
        """End it: at once, as `pg_ctl stop -m immediate` does, or by another signal."""
        assert self.process is not None
        self.process.send_signal(number)
        self.process.wait(WITHIN_S)


class Tables:
    """The tables of jobs, as tests fill and read them."""

    def __init__(self, server: JobServer) -> None:
        """Use the owner's rights."""
        self.server = server

    @property
    def dsn(self) -> str:
        """Return the DSN of an executor."""
        return self.server.dsn

    def rows(self, statement: str, *values: object) -> list[dict[str, Any]]:
        """Return the rows of *statement*, or none where it returns none."""
        with psycopg.connect(self.server.owner, autocommit=True, row_factory=dict_row) as session:
            done = session.execute(statement, values or None)
            return done.fetchall() if done.description else []

    def clear(self) -> None:
        """Leave no row behind."""
        self.rows(
            "TRUNCATE jobs, job_ready, job_delayed, job_running, job_attempts, job_results, job_changes, job_reports, "
            "executors, job_dedupe_keys, job_schedules, job_operations, job_operation_items, audit_log, job_commands, "
            "job_rejections"
        )
        self.rows("DELETE FROM job_queues WHERE queue LIKE 'test%'")
        self.rows(
            "UPDATE job_queues SET paused_at = NULL, paused_until = NULL, max_running = NULL, "
            "max_running_per_tenant = NULL, step_s = 60"
        )

    def insert(
        self,
        task_type: str,
        parameters: Mapping[str, object] | None = None,
        *,
        count: int = 1,
        job_id: UUID | None = None,
        tenant: str = TENANT,
        queue: str = "default",
        priority: int = 5,
        max_attempts: int = 3,
        timeout_s: float | None = None,
        delay_s: float = 0.0,
        expires_s: float | None = None,
        dedupe_key: str | None = None,
        notifies: bool = True,
    ) -> list[UUID]:
        """Insert jobs as intake would; return their ids."""
        asked = {
            "job_id": job_id,
            "tenant": tenant,
            "type": task_type,
            "queue": queue,
            "priority": priority,
            "parameters": json.dumps(parameters or {}),
            "max_attempts": max_attempts,
            "timeout_s": timeout_s,
            "delay_s": delay_s,
            "expires_s": expires_s,
            "dedupe_key": dedupe_key,
            "count": count,
        }
        with psycopg.connect(self.server.owner) as session:
            found = [row[0] for row in session.execute(INSERT, asked)]
            if notifies:
                session.execute("SELECT pg_notify('tidegate_jobs', %s)", [queue])
        return found

    def job(self, job_id: UUID) -> dict[str, Any]:
        """Return the row of a job."""
        return self.rows("SELECT * FROM jobs WHERE job_id = %s", job_id)[0]

    def attempts(self, job_id: UUID) -> list[dict[str, Any]]:
        """Return the attempts of a job, the first one first."""
        return self.rows("SELECT * FROM job_attempts WHERE job_id = %s ORDER BY number, finished_at", job_id)

    def result(self, job_id: UUID) -> Any:
        """Return the result of a job."""
        return self.rows("SELECT result FROM job_results WHERE job_id = %s", job_id)[0]["result"]

    def wait(self, job_id: UUID, *statuses: str, within_s: float = WITHIN_S) -> dict[str, Any]:
        """Return the row of a job once its status is one of *statuses*."""
        until_s = monotonic() + within_s
        while (row := self.job(job_id))["status"] not in statuses:
            assert monotonic() < until_s, f"{row['type']} is {row['status']}, not {statuses}: {self.attempts(job_id)}"
            sleep(0.05)
        return row

    def wait_until(self, statement: str, *values: object, within_s: float = WITHIN_S) -> None:
        """Wait until the first column of the first row of *statement* is true."""
        until_s = monotonic() + within_s
        while not next(iter(self.rows(statement, *values)[0].values())):
            assert monotonic() < until_s, statement
            sleep(0.05)

    def wait_all_finished(self, *, within_s: float = WITHIN_S) -> None:
        """Wait until no job is pending or running."""
        hot = " UNION ALL ".join(f"(SELECT 1 FROM {table} LIMIT 1)" for table in HOT_TABLES)
        self.wait_until(f"SELECT NOT EXISTS ({hot})", within_s=within_s)

    def change(self, action: JobAction, job_id: UUID, *, priority: int | None = None, tenant: str = TENANT) -> Verdict:
        """Change a job as intake does."""

        async def changed() -> Verdict:
            session = await psycopg.AsyncConnection.connect(self.server.dsn)
            async with session, session.cursor() as cursor:
                return await change_job(cursor, action, job_id, tenant=tenant, by="test", priority=priority)

        return asyncio.run(changed())

    def check_invariants(self) -> None:
        """Check what must hold of all rows whenever nothing is under way."""
        hot = {table: {row["job_id"] for row in self.rows(f"SELECT job_id FROM {table}")} for table in HOT_TABLES}
        by_status: dict[str, set[UUID]] = {}
        for row in self.rows("SELECT job_id, status, runs FROM jobs"):
            by_status.setdefault(row["status"], set()).add(row["job_id"])
        assert by_status.get("pending", set()) == hot["job_ready"] | hot["job_delayed"]
        assert by_status.get("running", set()) == hot["job_running"]
        assert not hot["job_ready"] & hot["job_delayed"]
        wrong = self.rows(
            "SELECT job_id, runs, count(attempt_id) FROM jobs LEFT JOIN job_attempts USING (job_id) "
            "WHERE status NOT IN ('running') GROUP BY job_id HAVING runs <> count(attempt_id)"
        )
        assert wrong == []  # each run has an attempt
        twice = self.rows(
            "SELECT job_id FROM job_attempts WHERE outcome = 'completed' GROUP BY job_id HAVING count(*) > 1"
        )
        assert twice == []
        held = self.rows("SELECT job_id FROM job_dedupe_keys JOIN jobs USING (job_id) WHERE finished_at IS NOT NULL")
        assert held == []


class ExecutorProcess:
    """An executor that a test started."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path, management: str) -> None:
        """Wrap *process*."""
        self.process = process
        self.log = log
        self.management = management

    @property
    def pid(self) -> int:
        """Return its pid."""
        return self.process.pid

    def tree(self) -> list[int]:
        """Return the pids of all that it has started."""
        found, waiting = [], [self.pid]
        while waiting:
            for listed in Path(f"/proc/{waiting.pop()}/task").glob("*/children"):
                for pid in listed.read_text().split():
                    found.append(int(pid))
                    waiting.append(int(pid))
        return found

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def wait(self, within_s: float = WITHIN_S) -> int:
        """Return its exit code once it has ended."""
        return self.process.wait(within_s)

    def text(self) -> str:
        """Return what it logged."""
        return self.log.read_text(errors="replace")


@contextmanager
def executor(
    tables: Tables,
    folder: Path,
    *,
    queues: Sequence[str] = ("default",),
    slots: int = 2,
    types: str = TYPES,
    environ: Mapping[str, str] = os.environ,
    ready: bool = True,
    variant: str = "",
    **settings: object,
) -> Iterator[ExecutorProcess]:
    """
    Run an executor, or a *variant* of it; *settings* are its own by name: beat_s=0.5 is TIDEGATE_EXECUTOR_BEAT_S.
    """
    name = uuid4().hex[:8]
    log = folder / f"executor-{name}.log"
    port = free_port()
    environment = {
        **environ,
        "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), environ.get("PYTHONPATH", "")])),
        "TIDEGATE_POSTGRES": tables.dsn,
        "TIDEGATE_JOB_TYPES": types,
        "TIDEGATE_MANAGEMENT_PORT": str(port),
        "TIDEGATE_EXECUTOR_SLOTS": str(slots),
        **{f"TIDEGATE_EXECUTOR_{key.upper()}": str(value) for key, value in settings.items()},
    }
    before = {row["executor_id"] for row in tables.rows("SELECT executor_id FROM executors")} if ready else set()
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", *_program(variant), "executor", "--queue", *queues],
            stdout=out,
            stderr=out,
            env=environment,
            cwd=folder,
        )
    running = ExecutorProcess(process, log, f"http://127.0.0.1:{port}")
    try:
        if ready:
            until_s = monotonic() + WITHIN_S
            while not {row["executor_id"] for row in tables.rows("SELECT executor_id FROM executors")} - before:
                assert process.poll() is None, running.text()
                assert monotonic() < until_s, running.text()
                sleep(0.05)
        yield running
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGCONT)
            process.kill()
        process.wait(WITHIN_S)


def _program(variant: str) -> tuple[str, ...]:
    return ("tests.faults.variants", variant, "processors") if variant else ("processors",)
