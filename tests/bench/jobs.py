"""
Jobs: executors beside a bare loop, beside a large backlog and a pinned snapshot, and beside Celery.

`make bench BENCH_ONLY=job_claims` and so on; each has a Postgres or a stack of its own.
"""

import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from statistics import median, quantiles
from time import perf_counter, sleep
from typing import Any, LiteralString

import psycopg

from tests.bench.celery_peer import KEY, SIZES, peer, round_of
from tests.bench.extra_process import extra_process
from tests.faults.processes import free_port
from tests.support.jobs import JobServer, Tables, executor
from tests.support.stack import running, tidegate

Load = Callable[..., dict[str, Any]]
Alternate = Callable[..., dict[str, list[Any]]]

JOBS = int(os.environ.get("BENCH_JOBS", "10000"))
FINISHED = int(os.environ.get("BENCH_FINISHED_JOBS", "2000000"))
PAUSED = int(os.environ.get("BENCH_PAUSED_JOBS", "200000"))
PINNED_S = float(os.environ.get("BENCH_PINNED_S", "120"))
PINNED_PER_S = 800
EXECUTORS = 2
PICKUPS = 200
WITHIN_S = 600.0

# What a queue in one table is: rows as wide as ours, an index of what waits, no limits, no history, nothing to run.
BARE_TABLE = """
    CREATE TABLE IF NOT EXISTS bare_jobs (LIKE jobs INCLUDING DEFAULTS, result json, PRIMARY KEY (job_id));
    CREATE INDEX IF NOT EXISTS bare_jobs_pending ON bare_jobs (queue, priority DESC, run_at, job_id)
        WHERE status = 'pending'
"""
BARE_FILL = """
    INSERT INTO bare_jobs (job_id, tenant_id, type, queue, priority, parameters, max_attempts, run_at, content_sha256,
        created_at)
    SELECT gen_random_uuid(), 'demo', 'noop', 'default', 5, '{}', 3, clock_timestamp(), ''::bytea, clock_timestamp()
    FROM generate_series(1, %s)
"""
COMPLETED: LiteralString = "SELECT count(*) FROM jobs WHERE status = 'completed'"
PEER_COMPLETED: LiteralString = "SELECT count(*) FROM peer_jobs WHERE status = 'completed'"
FILL_FINISHED = """
    INSERT INTO jobs (job_id, tenant_id, type, queue, status, priority, parameters, max_attempts, run_at, runs,
        content_sha256, created_at, started_at, finished_at, failed_at)
    SELECT gen_random_uuid(), 'demo', 'noop', 'default', CASE WHEN n %% 50 = 0 THEN 'failed' ELSE 'completed' END, 5,
        '{"value": 1}', 3, now() - n * interval '1 second', 1, ''::bytea, now() - n * interval '1 second', now(),
        now(), CASE WHEN n %% 50 = 0 THEN now() END
    FROM generate_series(1, %s) AS n
"""


@contextmanager
def tables_of_their_own() -> Iterator[tuple[Tables, Path]]:
    """Yield the tables of jobs on a Postgres of their own, and a folder."""
    with tempfile.TemporaryDirectory(prefix="tidegate-bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        server = JobServer(folder, free_port())
        server.start()
        try:
            server.set_up()
            with psycopg.connect(server.owner) as session:
                session.execute(BARE_TABLE.encode())
            yield Tables(server), folder
        finally:
            server.stop()


def claims(alternate: Alternate) -> dict[str, Any]:
    """Return jobs a second through two executors and through two bare loops, and how soon one is picked up."""
    with tables_of_their_own() as (tables, folder), ExitStack() as stack:
        for _ in range(EXECUTORS):
            stack.enter_context(executor(tables, folder, slots=4))
        rounds = alternate(baseline=lambda: _bare_per_s(tables), tidegate=lambda: _executed_per_s(tables, JOBS))
        waits_ms = sorted(_pickup_ms(tables) for _ in range(PICKUPS))
    per_s = {name: median(values) for name, values in rounds.items()}
    return {
        "baseline": "two processes that claim 64 rows of one narrow table and complete them, nothing between",
        "per_s": per_s,
        "rounds": rounds,
        "ratio": per_s["tidegate"] / per_s["baseline"],
        "pickup_median_ms": median(waits_ms),
        "pickup_p95_ms": quantiles(waits_ms, n=20)[-1],
    }


def backlog() -> dict[str, Any]:
    """Return what claims and reads cost with finished and paused jobs, as multiples of what they cost without."""
    with tables_of_their_own() as (tables, _):
        empty = _costs_ms(tables)
        with psycopg.connect(tables.server.owner, autocommit=True) as session:
            session.execute(FILL_FINISHED, [FINISHED])
            tables.insert("noop", count=PAUSED, queue="ari_analysis")
            session.execute("UPDATE job_queues SET paused_at = now() WHERE queue = 'ari_analysis'")
            session.execute("VACUUM ANALYZE")
        full = _costs_ms(tables)
    return {
        "baseline": "the same statements where no other jobs are",
        "finished": FINISHED,
        "paused": PAUSED,
        "empty_ms": empty,
        "full_ms": full,
        "ratios": {name: full[name] / empty[name] for name in empty},
    }


def pinned(alternate: Alternate) -> dict[str, Any]:
    """Return jobs a second at a steady load, with a transaction that keeps its snapshot open and without."""
    with tables_of_their_own() as (tables, folder), ExitStack() as stack:
        for _ in range(EXECUTORS):
            stack.enter_context(executor(tables, folder, slots=4))
        rounds = alternate(
            baseline=lambda: _steady_per_s(tables), tidegate=lambda: _steady_per_s(tables, is_pinned=True)
        )
    per_s = {name: median(values) for name, values in rounds.items()}
    return {
        "baseline": f"the same load, {PINNED_PER_S} jobs a second for {PINNED_S:g} s, without the open transaction",
        "per_s": per_s,
        "rounds": rounds,
        "ratio": per_s["tidegate"] / per_s["baseline"],
    }


def beside_celery(load: Load, alternate: Alternate) -> dict[str, Any]:
    """Return jobs a second over HTTP to their end, and the peer's."""
    folder = Path(tempfile.mkdtemp(prefix="tidegate-peer-"))
    without = [part for name in ("evaluation", "fanout", "maintenance", "events") for part in ("--without", name)]
    try:
        with running(folder, "--ports", "auto", *without) as stack, peer(stack) as address, ExitStack() as second:
            known = stack.addresses
            second.enter_context(extra_process(stack, "executor"))

            def take(url: str, key: str, count: LiteralString) -> dict[str, float]:
                return round_of(stack, lambda: load(url, key, "--jobs", **SIZES[0]), count, 1)

            rounds = alternate(
                peer=lambda: take(address, KEY, PEER_COMPLETED),
                tidegate=lambda: take(known.gateway, known.api_key, COMPLETED),
            )
    finally:
        tidegate("down", "--purge", "--dir", str(folder))
    per_s = {
        name: {what: median(each[what] for each in taken) for what in ("accepted_per_s", "processed_per_s")}
        for name, taken in rounds.items()
    }
    return {
        "baseline": "FastAPI on uvicorn, a row and a Celery task by Redis for each job, two worker processes",
        "per_s": per_s,
        "rounds": rounds,
        "ratio_accepted": per_s["tidegate"]["accepted_per_s"] / per_s["peer"]["accepted_per_s"],
        "ratio_processed": per_s["tidegate"]["processed_per_s"] / per_s["peer"]["processed_per_s"],
    }


def _bare_per_s(tables: Tables) -> float:
    tables.rows("TRUNCATE bare_jobs")
    tables.rows(BARE_FILL, JOBS)
    command = [sys.executable, "-m", "tests.bench.bare_claims", tables.server.owner]
    began_s = perf_counter()
    loops = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(EXECUTORS)]
    seconds = max(float(loop.communicate(timeout=WITHIN_S)[0]) for loop in loops)
    assert perf_counter() - began_s < WITHIN_S
    return JOBS / seconds


def _executed_per_s(tables: Tables, count: int) -> float:
    tables.rows("TRUNCATE jobs, job_attempts, job_results, job_changes")
    began_s = perf_counter()
    tables.insert("noop", count=count)
    tables.wait_all_finished(within_s=WITHIN_S)
    return count / (perf_counter() - began_s)


def _pickup_ms(tables: Tables) -> float:
    sleep(0.02)
    [job_id] = tables.insert("noop")
    tables.wait(job_id, "completed")
    [row] = tables.rows(
        "SELECT extract(epoch FROM started_at - created_at)::float8 * 1000 AS ms FROM jobs WHERE job_id = %s", job_id
    )
    return float(row["ms"])


def _costs_ms(tables: Tables) -> dict[str, float]:
    """Return the median milliseconds of a claim and of the reads behind lists and health."""
    _fill_a_little(tables)
    command = [sys.executable, "-m", "tests.bench.job_costs", tables.dsn, tables.server.reader]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=WITHIN_S)
    return {name: float(text) for name, text in (line.split() for line in done.stdout.splitlines())}


def _fill_a_little(tables: Tables) -> None:
    """Insert what each page of a list shows, so that all pages are alike: 100 jobs that failed, and 100 that wait."""
    tables.rows(FILL_FINISHED.replace("n %% 50", "n %% 1"), 100)
    tables.insert("noop", count=100)


def _steady_per_s(tables: Tables, *, is_pinned: bool = False) -> float:
    """Return jobs completed a second while 800 a second come, for a time."""
    tables.rows("TRUNCATE jobs, job_attempts, job_results, job_changes, job_ready, job_running")
    ended = threading.Event()

    def pin() -> None:
        with suppress(psycopg.Error), psycopg.connect(tables.server.owner) as session:
            session.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            session.execute("SELECT count(*) FROM jobs")
            ended.wait(PINNED_S + 60)

    pinning = threading.Thread(target=pin)
    if is_pinned:
        pinning.start()
    began_s = perf_counter()
    sent = 0
    while (passed_s := perf_counter() - began_s) < PINNED_S:
        if (due := int(passed_s * PINNED_PER_S) - sent) >= PINNED_PER_S // 10:
            tables.insert("noop", count=due)
            sent += due
        sleep(0.02)
    [row] = tables.rows("SELECT count(*) AS count FROM jobs WHERE status = 'completed'")
    seconds = perf_counter() - began_s
    ended.set()
    if is_pinned:
        pinning.join()
    tables.wait_all_finished(within_s=WITHIN_S)
    return float(row["count"] / seconds)
