"""A replay of everything in the log: into emptied tables, and over rows that are all there."""

import json
import resource
import subprocess
import sys
from time import perf_counter, sleep
from typing import Any

import psycopg

from deploy.admin import replays
from deploy.local import folders
from schemas.kafka import replays as plans
from schemas.runs.topics import PERSISTENCE
from tests.bench import rows
from tests.bench.rows import Produced
from tests.support.stack import RunningStack, wait_until

EMPTY = "TRUNCATE runs, trace_events, duplicate_events, rejected_events, environment_snapshots, trace_records"
POLL_S = 0.1


def measure(stack: RunningStack, count: int) -> dict[str, Any]:
    """
    Return records a second, once for each kind of table; the first is also what persistence and the bare loop did.
    """
    produced = rows.produce(stack, count, tag="replay")
    live = rows.tidegate_rows_per_s(stack, produced)
    with psycopg.connect(stack.addresses.postgres, autocommit=True) as database:
        database.execute(EMPTY)
        missing = rows_per_s(stack, produced)
        [stored] = database.execute("SELECT count(*) FROM trace_events").fetchone() or [0]
        there = rows_per_s(stack, produced)
    return {
        "records": count,
        "per_s": {"live": live, "replay into empty tables": missing, "replay over what is there": there},
        "ratio": missing / live,
        "stored_again": stored,
        "rss_mib": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024,
    }


def rows_per_s(stack: RunningStack, produced: Produced) -> float:
    """Replay everything; return the records a second between a tenth and the whole of them."""
    known = set((stack.folder / folders.REPLAYS).glob("*.json"))
    command = [sys.executable, "-m", "deploy.cli.app", "replay", "persistence", "--from-start", "--yes", "--json"]
    running = subprocess.Popen([*command, "--dir", str(stack.folder)], stdout=subprocess.PIPE)
    wait_until(lambda: set((stack.folder / folders.REPLAYS).glob("*.json")) > known, timeout_s=30, what="the plan")
    [path] = set((stack.folder / folders.REPLAYS).glob("*.json")) - known
    plan = plans.read(path)
    total = sum(plan.ends.values()) - sum(plan.starts.values())
    assert total >= produced.count
    marks: list[tuple[float, int]] = []
    while not marks or marks[-1][1] < total:
        sleep(POLL_S)
        marks.append((perf_counter(), total - replays.remaining(stack.kafka, PERSISTENCE, plan)))
        assert running.poll() in (None, 0), "the replay failed"
    printed, _ = running.communicate(timeout=60)
    assert json.loads(printed)["records"] == total
    start = next(mark for mark in marks if mark[1] >= total / 10)
    return (marks[-1][1] - start[1]) / (marks[-1][0] - start[0])
