"""
`make bench`: Tidegate against its baselines, on one stack, in one run.

Absolute figures say little on a shared machine; the ratios are what is kept. Rounds of baseline and subject alternate,
so that a slow minute hits both. Results go to bench-results/ as JSON.
"""

import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

from joserfc import jwk

from schemas.events.topics import EVENTS
from tests.bench import celery_peer, document_peer, documents, jobs, replay, rows, slow_agent, streams
from tests.bench.document_stack import rss_mib as highest_rss_mib
from tests.bench.stored import RUN_EVENT_ROWS, USER_EVENT_ROWS, StoredRows
from tests.faults.checker import wait_for_no_lag
from tests.support.issuing import bearer, issuing
from tests.support.lag import wait_until_handled
from tests.support.stack import RunningStack, running, tidegate, wait_until
from tests.support.user_events import UserEventClient

ROUNDS = int(os.environ.get("BENCH_ROUNDS", "3"))
SECONDS = float(os.environ.get("BENCH_SECONDS", "8"))
REPLAY_RECORDS = int(os.environ.get("BENCH_REPLAY_RECORDS", "1000000"))
RECORDS = int(os.environ.get("BENCH_RECORDS", "200000"))
ONLY = os.environ.get("BENCH_ONLY", "").split()  # empty: every benchmark
CONNECTIONS = 64
BATCH_EVENTS = 100
BATCH_CONNECTIONS = 8
QUIET_SHARE = 20  # the latency is taken at a twentieth of the full load
# Before the gateway is measured. In the first half minute the broker's JVM compiles what is used most, on the same two
# cores, and takes three times as much of them for each record as it does afterwards.
WARM_UP_LOADS = 4


def load(
    url: str, api_key: str, *more: str, connections: int = CONNECTIONS, pause_s: float = 0.0, batch: int = 0
) -> dict[str, Any]:
    """Put load on *url* from a process of its own."""
    arguments = ["--url", url, "--api-key", api_key, "--connections", str(connections), "--seconds", str(SECONDS)]
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.load", *arguments, "--pause", str(pause_s), "--batch", str(batch), *more],
        check=True, stdout=subprocess.PIPE, timeout=SECONDS + 60,
    )  # fmt: skip
    return dict(json.loads(done.stdout))


def load_gateway(stack: RunningStack, *more: str, **options: Any) -> dict[str, Any]:
    """Put load on the gateway while the groups that store rows, which have nothing to catch up with, are held still."""
    wait_for_no_lag(stack)
    wait_until_handled(stack, EVENTS)
    with stopped(stack, "persistence"), stopped(stack, "events"):
        return load(stack.addresses.gateway, stack.addresses.api_key, *more, **options)


def warm_up(stack: RunningStack, **options: Any) -> None:
    """Put load on the gateway until it and the broker run as they do for the rest of the day."""
    for _ in range(WARM_UP_LOADS):
        load_gateway(stack, **options)


@contextmanager
def bare_handler(loop: str = "asyncio") -> Iterator[str]:
    """Yield the baseline server; yields its address."""
    command = [sys.executable, "-m", "tests.bench.bare_handler", loop]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        yield server.stdout.readline().strip()
    finally:
        server.kill()
        server.wait()


def single_posts(stack: RunningStack) -> dict[str, Any]:
    """Single POSTs with 64 connections, then the latency at a twentieth of that load."""
    api_key = stack.addresses.api_key
    with bare_handler() as bare, bare_handler("uvloop") as bare_uvloop:
        warm_up(stack)
        full = alternate(
            baseline=lambda: load(bare, api_key),
            baseline_uvloop=lambda: load(bare_uvloop, api_key),
            tidegate=lambda: load_gateway(stack),
        )
        per_s = {name: median(each["answered"] / each["seconds"] for each in rounds) for name, rounds in full.items()}
        # Four connections, each pausing so long that together they come to a twentieth of the gateway's full load.
        connections = 4
        pause_s = connections * QUIET_SHARE / per_s["tidegate"]
        quiet = alternate(
            baseline=lambda: load(bare, api_key, connections=connections, pause_s=pause_s),
            tidegate=lambda: load_gateway(stack, connections=connections, pause_s=pause_s),
        )
    latency_ms = {name: median(each["median_s"] for each in rounds) * 1000 for name, rounds in quiet.items()}
    return {
        "baseline": "bare aiohttp handler that reads the body and answers 202, on asyncio's loop; the same on uvloop",
        "conditions": "gateway and broker running, persistence held still",
        "per_s": per_s,
        "ratio": per_s["tidegate"] / per_s["baseline"],
        "ratio_uvloop": per_s["tidegate"] / per_s["baseline_uvloop"],
        "refused": sum(each["refused"] for each in full["tidegate"]),
        "quiet_median_ms": latency_ms,
        "quiet_median_above_baseline_ms": latency_ms["tidegate"] - latency_ms["baseline"],
        "rss_mib": rss_mib(stack, "gateway"),
    }


def batch_posts(stack: RunningStack) -> dict[str, Any]:
    """Batches of 100 beside single POSTs and beside the bare handler's requests."""
    api_key = stack.addresses.api_key
    with bare_handler() as bare:
        warm_up(stack, connections=BATCH_CONNECTIONS, batch=BATCH_EVENTS)
        rounds = alternate(
            baseline=lambda: load(bare, api_key),
            single=lambda: load_gateway(stack),
            batch=lambda: load_gateway(stack, connections=BATCH_CONNECTIONS, batch=BATCH_EVENTS),
        )
    per_s = {name: median(each["answered"] / each["seconds"] for each in taken) for name, taken in rounds.items()}
    per_s["batch"] *= BATCH_EVENTS
    return {
        "baseline": "events/s in single POSTs of 64 connections; requests/s of the bare handler",
        "per_s": per_s,
        "ratio": per_s["batch"] / per_s["single"],
        "ratio_bare": per_s["batch"] / per_s["baseline"],
        "refused": sum(each["refused"] for each in rounds["batch"]),
        "p99_ms": median(each["p99_s"] for each in rounds["batch"]) * 1000,
        "rss_mib": rss_mib(stack, "gateway"),
    }


@contextmanager
def stopped(stack: RunningStack, name: str) -> Iterator[None]:
    """Hold a process still: on two cores it would take its share of what is measured."""
    os.kill(stack.process(name).pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(stack.process(name).pid, signal.SIGCONT)


def alternate(**measures: Callable[[], Any]) -> dict[str, list[Any]]:
    """Take each measure in turn, as often as there are rounds."""
    rounds: dict[str, list[Any]] = {name: [] for name in measures}
    for _ in range(ROUNDS):
        for name, measure in measures.items():
            rounds[name].append(measure())
    return rounds


def persisted_rows(stack: RunningStack, of: StoredRows = RUN_EVENT_ROWS) -> dict[str, Any]:
    """Rows a second from the log into Postgres, one process."""
    rounds: dict[str, list[float]] = {"baseline": [], "tidegate": []}
    # Each goes first as often as the other: the second finds the records in the page cache, and Postgres busy with what
    # the first has written.
    for number in range(ROUNDS + ROUNDS % 2):
        produced = rows.produce(stack, RECORDS, tag=f"bench{number}", of=of)
        measures = {"tidegate": rows.tidegate_rows_per_s, "baseline": rows.bare_rows_per_s}
        for name in sorted(measures, reverse=bool(number % 2)):
            rounds[name].append(measures[name](stack, produced, of))
    per_s = {name: median(values) for name, values in rounds.items()}
    return {
        "baseline": "confluent consume + fastavro + COPY loop into a table of the same columns and keys",
        "per_s": per_s,
        "rounds": rounds,
        "ratio": per_s["tidegate"] / per_s["baseline"],
        "rss_mib": rss_mib(stack, of.process),
    }


def user_event_rows(stack: RunningStack) -> dict[str, Any]:
    """Rows of user events a second from the log into Postgres, one process."""
    return persisted_rows(stack, USER_EVENT_ROWS)


def user_event_posts(stack: RunningStack) -> dict[str, Any]:
    """User events beside those of runs, in batches of 100 and one by one; and what a token costs beside a key."""
    key = jwk.RSAKey.generate_key(2048, {"kid": "bench"})
    with issuing(stack, key):
        token = bearer(key, "bench")["Authorization"].split()[1]
        client = UserEventClient(stack, {"Authorization": f"Bearer {token}"})
        wait_until(lambda: client.ask("GET", "/api/v1/events")[0] == 200, timeout_s=60, what="the keys to be read")
        warm_up(stack, connections=BATCH_CONNECTIONS, batch=BATCH_EVENTS)
        rounds = alternate(
            run_batch=lambda: load_gateway(stack, connections=BATCH_CONNECTIONS, batch=BATCH_EVENTS),
            user_batch=lambda: load_gateway(stack, "--user-events", connections=BATCH_CONNECTIONS, batch=BATCH_EVENTS),
            run=lambda: load_gateway(stack),
            user=lambda: _with_cpu_s(stack, lambda: load_gateway(stack, "--user-events")),
            token=lambda: _with_cpu_s(
                stack, lambda: load_gateway(stack, "--user-events", "--user", "bench", "--token", token)
            ),
        )
    per_s = {name: median(each["answered"] / each["seconds"] for each in taken) for name, taken in rounds.items()}
    for name in ("run_batch", "user_batch"):
        per_s[name] *= BATCH_EVENTS
    cpu_us = {
        name: median(each["cpu_s"] / each["answered"] * 1e6 for each in rounds[name]) for name in ("user", "token")
    }
    return {
        "baseline": "events of runs, in the same form; requests with an API key",
        "per_s": per_s,
        "ratio_batches": per_s["user_batch"] / per_s["run_batch"],
        "ratio_single": per_s["user"] / per_s["run"],
        "cpu_us_per_request": cpu_us,
        "token_above_key_us": cpu_us["token"] - cpu_us["user"],
        "refused": {name: sum(each["refused"] for each in taken) for name, taken in rounds.items()},
    }


def _with_cpu_s(stack: RunningStack, measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return what *measure* returns, and the processor time that the gateway took meanwhile."""
    pid = stack.process("gateway").pid
    before_s = _cpu_s(pid)
    return measure() | {"cpu_s": _cpu_s(pid) - before_s}


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def rss_mib(stack: RunningStack, name: str) -> float:
    """Resident memory of a process, at its highest."""
    return highest_rss_mib(stack.process(name).pid)


def slow_agents(stack: RunningStack) -> dict[str, Any]:
    """Return a slow handler on one partition: no second is lost to waiting for room."""
    produced = rows.produce(stack, RECORDS, tag="slow", keys=1)
    os.kill(stack.process("persistence").pid, signal.SIGCONT)
    wait_for_no_lag(stack)
    return slow_agent.measure(stack, produced)


def replayed(stack: RunningStack) -> dict[str, Any]:
    """Return a million records handled once more."""
    return replay.measure(stack, REPLAY_RECORDS)


def live_streams(stack: RunningStack) -> dict[str, Any]:
    """Return an event's way to a websocket, and to a thousand of them."""
    stack.wait_ready("fanout")
    rounds = alternate(
        baseline=streams.bare_frames_per_s,
        tidegate=lambda: streams.tidegate_frames_per_s(stack),
        latency=lambda: streams.latency_ms(stack),
    )
    frames_per_s = {name: median(rounds[name]) for name in ("baseline", "tidegate")}
    return {
        "baseline": f"bare aiohttp loop that sends each message to each of {streams.SOCKETS} websockets in turn",
        "frames_per_s": frames_per_s,
        "ratio": frames_per_s["tidegate"] / frames_per_s["baseline"],
        "latency_ms": {name: median(each[name] for each in rounds["latency"]) for name in rounds["latency"][0]},
        "rss_mib": rss_mib(stack, "fanout"),
    }


BENCHES: dict[str, Callable[[RunningStack], dict[str, Any]]] = {
    "single_post": single_posts,
    "batch_post": batch_posts,
    "persistence": persisted_rows,
    "user_event_rows": user_event_rows,
    "user_event_posts": user_event_posts,
    "slow_agent": slow_agents,
    "replay": replayed,
    "streams": live_streams,
}


# Each with a stack or a Postgres of its own, and only where it is asked for: they take long, or need programs that
# nothing else does.
PEERS: dict[str, Callable[[], dict[str, Any]]] = {
    "celery_peer": lambda: celery_peer.measure(load, alternate),
    "job_claims": lambda: jobs.claims(alternate),
    "job_backlog": jobs.backlog,
    "job_pinned": lambda: jobs.pinned(alternate),
    "jobs_peer": lambda: jobs.beside_celery(load, alternate),
    "document_loop": lambda: documents.beside_bare_loop(alternate),
    "document_pipeline": lambda: documents.pipeline_limit(alternate),
    "document_workers": lambda: documents.workers(alternate),
    "document_lanes": documents.lanes,
    "document_peer": lambda: document_peer.measure(alternate),
}


def run_on_one_stack(names: Sequence[str], result: dict[str, Any]) -> None:
    """Run the benchmarks called *names*, and add what comes of each to *result*."""
    folder = Path(tempfile.mkdtemp(prefix="tidegate-bench-"))
    try:
        with running(folder, "--ports", "auto", "--without", "evaluation", "--without", "maintenance") as stack:
            for name in names:
                with nullcontext() if name == "streams" else stopped(stack, "fanout"):
                    result[name] = BENCHES[name](stack)
                print(json.dumps({name: result[name]}, indent=2), flush=True)
    finally:
        tidegate("down", "--purge", "--dir", str(folder))


def main() -> None:
    """Run every benchmark, or those that are asked for, and write the results."""
    result: dict[str, Any] = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "rounds": ROUNDS,
    }
    for name in (each for each in PEERS if each in ONLY):
        result[name] = PEERS[name]()
        print(json.dumps({name: result[name]}, indent=2), flush=True)
    if names := [name for name in BENCHES if not ONLY or name in ONLY]:
        run_on_one_stack(names, result)
    results = Path("bench-results")
    results.mkdir(exist_ok=True)
    path = results / f"{result['at'].replace(':', '')}.json"
    path.write_text(json.dumps(result, indent=2) + "\n")
    print(f"written to {path}")


if __name__ == "__main__":
    main()
