"""
User events beside FastAPI, Celery, Redis and Postgres: accepted a second, and accepted and processed a second.

`make bench BENCH_ONLY=celery_peer`. It needs `redis-server` and installs the peer in build/peers. Each has one process
that takes requests and the same Postgres; the peer's worker has two processes, ours a group that stores rows and one
that calls a function for each event.
"""

import os
import subprocess
import sys
import tempfile
import venv
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from shutil import which
from statistics import median
from time import perf_counter
from typing import Any, LiteralString

import psycopg

from tests.faults.processes import free_port
from tests.support.stack import RunningStack, running, tidegate, wait_until

FOLDER = Path("build/peers")
REQUIREMENTS = Path(__file__).parent / "peers/requirements.txt"
KEY = "peer-key"
WORKERS = 2
DONE_S = 300.0
TABLE = """
    CREATE TABLE IF NOT EXISTS peer_events (
        id text PRIMARY KEY, user_id text NOT NULL, type text NOT NULL, payload jsonb NOT NULL,
        occurred_at timestamptz NOT NULL, received_at timestamptz NOT NULL DEFAULT now(),
        status text NOT NULL DEFAULT 'pending', processed_at timestamptz, result jsonb
    );
    CREATE INDEX IF NOT EXISTS peer_events_of_user ON peer_events (user_id, received_at);
    CREATE INDEX IF NOT EXISTS peer_events_pending ON peer_events (received_at) WHERE status = 'pending'
;
    CREATE TABLE IF NOT EXISTS peer_jobs (
        id uuid PRIMARY KEY, type text NOT NULL, parameters jsonb NOT NULL, status text NOT NULL DEFAULT 'pending',
        created_at timestamptz NOT NULL DEFAULT now(), started_at timestamptz, finished_at timestamptz, result jsonb
    );
    CREATE INDEX IF NOT EXISTS peer_jobs_by_status ON peer_jobs (status, created_at)
"""
PEER_PROCESSED: LiteralString = "SELECT count(*) FROM peer_events WHERE status = 'processed'"
PROCESSED: LiteralString = "SELECT count(*) FROM events WHERE status = 'processed'"
TYPES = Path(__file__).parent / "peers/types.toml"
BATCH = 100
SIZES: dict[int, dict[str, int]] = {0: {"connections": 64}, BATCH: {"connections": 4, "batch": BATCH}}

Load = Callable[..., dict[str, Any]]
Alternate = Callable[..., dict[str, list[Any]]]


@contextmanager
def peer(stack: RunningStack) -> Iterator[str]:
    """Run the peer on the stack's Postgres; yields the address of its API."""
    assert which("redis-server"), "redis-server is not installed"
    python = installed(FOLDER, REQUIREMENTS)
    with psycopg.connect(stack.addresses.postgres, autocommit=True) as session:
        session.execute(TABLE.encode())
    redis_port, port = free_port(), free_port()
    environ = {
        **os.environ,
        "PEER_POSTGRES": stack.addresses.postgres,
        "PEER_REDIS": f"redis://127.0.0.1:{redis_port}/0",
        "PEER_KEY": KEY,
        "PYTHONPATH": str(Path(__file__).parent / "peers"),
    }
    programs = (
        ("redis-server", "--port", str(redis_port), "--save", "", "--appendonly", "yes", "--dir", str(stack.folder)),
        (
            *(str(python), "-m", "celery", "-A", "celery_shop:celery_app", "worker"),
            *("--concurrency", str(WORKERS), "--loglevel", "WARNING"),
        ),
        (
            *(str(python), "-m", "uvicorn", "celery_shop:app", "--port", str(port), "--no-access-log"),
            *("--log-level", "warning", "--loop", "uvloop"),
        ),
    )
    with ExitStack() as running, (stack.folder / "peer.log").open("wb") as log:
        for command in programs:
            process = subprocess.Popen(command, env=environ, stdout=log, stderr=log)
            running.callback(process.wait)
            running.callback(process.terminate)
        wait_until(lambda: _answers(port), timeout_s=60, what="the peer's API")
        yield f"http://127.0.0.1:{port}"


def installed(folder: Path, requirements: Path) -> Path:
    """Return the interpreter of a peer, after installing its *requirements* in *folder* where it is missing."""
    python = folder / "bin/python"
    if not python.exists():
        venv.create(folder, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", "-r", requirements], check=True)
    return python.absolute()


def _answers(port: int) -> bool:
    done = subprocess.run(
        [sys.executable, "-c", f"import socket; socket.create_connection(('127.0.0.1', {port}), 1)"],
        check=False,
        capture_output=True,
    )
    return done.returncode == 0


def measure(load: Load, alternate: Alternate) -> dict[str, Any]:
    """Return what both accept and process a second, by *load* in rounds that *alternate*."""
    folder = Path(tempfile.mkdtemp(prefix="tidegate-peer-"))
    environ = os.environ | {"TIDEGATE_EVENT_TYPES": str(TYPES.absolute())}
    try:
        without = ("--without", "evaluation", "--without", "fanout", "--without", "maintenance")
        with running(folder, "--ports", "auto", *without, environ=environ) as stack, peer(stack) as address:
            known = stack.addresses

            def take(url: str, key: str, count: LiteralString, batch: int) -> dict[str, float]:
                return round_of(stack, lambda: load(url, key, "--user-events", **SIZES[batch]), count, max(1, batch))

            rounds = alternate(
                peer=lambda: take(address, KEY, PEER_PROCESSED, 0),
                tidegate=lambda: take(known.gateway, known.api_key, PROCESSED, 0),
                peer_batches=lambda: take(address, KEY, PEER_PROCESSED, BATCH),
                tidegate_batches=lambda: take(known.gateway, known.api_key, PROCESSED, BATCH),
            )
    finally:
        tidegate("down", "--purge", "--dir", str(folder))
    per_s = {
        name: {what: median(each[what] for each in taken) for what in ("accepted_per_s", "processed_per_s")}
        for name, taken in rounds.items()
    }
    return {
        "baseline": "FastAPI on uvicorn, a row and a Celery task by Redis for each request, two worker processes",
        "per_s": per_s,
        "ratio_processed": per_s["tidegate"]["processed_per_s"] / per_s["peer"]["processed_per_s"],
        "ratio_processed_batches": (
            per_s["tidegate_batches"]["processed_per_s"] / per_s["peer_batches"]["processed_per_s"]
        ),
        "refused": {name: sum(each["refused"] for each in taken) for name, taken in rounds.items()},
    }


def round_of(
    stack: RunningStack, load: Callable[[], dict[str, Any]], count: LiteralString, batch: int
) -> dict[str, float]:
    """Return what one load came to: accepted while it lasted, and processed until the last of it was."""
    with psycopg.connect(stack.addresses.postgres, autocommit=True) as session:

        def processed() -> int:
            (found,) = session.execute(count).fetchone() or (0,)
            return int(found)

        before, began_s = processed(), perf_counter()
        found = load()
        accepted = found["answered"] * batch
        wait_until(lambda: processed() - before >= accepted, timeout_s=DONE_S, what="what was accepted to be processed")
        seconds = perf_counter() - began_s
    return {
        "accepted_per_s": accepted / found["seconds"],
        "processed_per_s": accepted / seconds,
        "refused": found["refused"],
    }
