"""More than the machine can take: some of it is accepted and kept, the rest is told when to come again."""

import json
import os
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from deploy.admin.reach import is_ready
from tests.faults.database import slow_database
from tests.faults.processes import for_a_while, own_process, resident_mib
from tests.support.stack import RunningStack, wait_until

SECONDS = 60
CONNECTIONS = 800  # each sends again at once, whatever it was answered
ROW_S = 0.05  # to store one, over few connections: a machine that takes less than one client can send
TIMES = 20  # what is offered, to what is stored meanwhile
LAG_MAX = 2_000  # records: what persistence has not committed yet is soon more
CALM_CONNECTIONS, CALM_PAUSE_S = 4, 0.2
RESIDENT_MAX_MIB = 300
P99_MAX_S = 2.0
NORMAL_WITHIN_S = 5.0
STORED_WITHIN_S = 120.0


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_a_flood_is_held_down_and_what_was_accepted_is_kept(stack: RunningStack, tmp_path: Path) -> None:
    limits = {"TIDEGATE_ADMISSION_LAG_MAX": str(LAG_MAX)}
    before = stored(stack)
    with slow_database(stack, row_s=ROW_S), own_process(stack, tmp_path, "gateway", environ=limits) as gateway:
        gateway.wait_ready()
        flood = subprocess.Popen(
            load(stack, gateway.url, connections=CONNECTIONS, seconds=SECONDS), stdout=subprocess.PIPE
        )
        peak_mib, unready = 0, 0
        while flood.poll() is None:
            peak_mib = max(peak_mib, resident_mib(gateway.pid))
            unready += not gateway.is_ready()
            for_a_while(1.0)
        found = json.loads(flood.communicate()[0])
        stored_meanwhile = stored(stack) - before
        print(f"flood: {found}, {stored_meanwhile} stored meanwhile, at most {peak_mib} MiB")  # noqa: T201
        assert found["answered"] > 0
        assert found["answered"] + found["busy"] > TIMES * stored_meanwhile > 0
        assert found["busy"] > 0, "nothing was held down"
        assert found["refused"] == 0, "the rest is 429 with Retry-After"
        assert found["p99_s"] < P99_MAX_S
        assert (peak_mib < RESIDENT_MAX_MIB, unready) == (True, 0)
        wait_until(
            lambda: answers_normally(stack, gateway.url), timeout_s=NORMAL_WITHIN_S, what="the gateway to be normal"
        )
        wait_until(
            lambda: stored(stack) - before >= found["answered"], timeout_s=STORED_WITHIN_S, what="what was accepted"
        )
    assert is_ready(stack.addresses.management["persistence"])


def load(stack: RunningStack, url: str, *, connections: int, seconds: float, pause_s: float = 0.0) -> list[str]:
    """Return the command that puts load on *url*."""
    given = ["--url", url, "--api-key", stack.addresses.api_key, "--connections", str(connections)]
    return [sys.executable, "-m", "tests.bench.load", *given, "--seconds", str(seconds), "--pause", str(pause_s)]


def answers_normally(stack: RunningStack, url: str) -> bool:
    """Return whether all events are taken at once that come at a pace for which the database is fast enough."""
    ordinary = load(stack, url, connections=CALM_CONNECTIONS, seconds=1.0, pause_s=CALM_PAUSE_S)
    done = subprocess.run(ordinary, stdout=subprocess.PIPE, check=True, env=os.environ)
    found = json.loads(done.stdout)
    return bool(found["answered"] > 0 and found["busy"] == 0)


def stored(stack: RunningStack) -> int:
    """Return how many events of floods are stored."""
    with psycopg.connect(stack.addresses.postgres) as database:
        row = database.execute("SELECT count(*) FROM trace_events WHERE run_id LIKE 'bench-%'").fetchone()
    return row[0] if row else 0
