"""The faults that a soak draws from: each is injected, lasts, and has cleared when its function returns."""

import signal
from collections.abc import Callable
from pathlib import Path
from random import Random
from time import monotonic

import psycopg

from processors.runtime.failpoints import Failpoint
from tests.faults.load import Load
from tests.faults.log_faults import last_record_cut_off, topic_recreated, transaction_left_open
from tests.faults.processes import family, for_a_while, own_process, paused
from tests.faults.rotation import rotate
from tests.support.stack import RunningStack

# Returns the moment from which recovery is counted, monotonic.
Inject = Callable[[RunningStack, Path, Random], float]
InjectIntoLog = Callable[[RunningStack, Load, Random], float]

PAUSE_S = (1.0, 6.0)
PAST_SESSION_S = (12.0, 15.0)
STAY_S = (0.0, 4.0)
SECRETS_KEPT = 10  # records that wait in the log were sealed with them
STEPS = [  # those that persistence takes with every slice
    Failpoint.AFTER_POLL,
    Failpoint.BEFORE_TX,
    Failpoint.BEFORE_COMMIT,
    Failpoint.AFTER_COMMIT_BEFORE_OFFSET,
    Failpoint.AFTER_OFFSET,
]


def _ended(name: str, number: signal.Signals) -> Inject:
    def inject(stack: RunningStack, _folder: Path, _random: Random) -> float:
        struck_s = monotonic()
        pid = stack.kill(name, number)
        stack.wait_restarted(name, pid)
        return struck_s

    return inject


def _paused(name: str, between_s: tuple[float, float]) -> Inject:
    def inject(stack: RunningStack, _folder: Path, random: Random) -> float:
        with paused(family(stack.process(name).pid)):
            for_a_while(random.uniform(*between_s))
        return monotonic()

    return inject


def _second_worker(number: signal.Signals) -> Inject:
    def inject(stack: RunningStack, folder: Path, random: Random) -> float:
        with own_process(stack, folder) as worker:
            worker.wait_ready()
            for_a_while(random.uniform(*STAY_S))
            worker.kill(number)
            worker.wait_end()
        return monotonic()

    return inject


def _worker_that_dies_at_a_step(stack: RunningStack, folder: Path, random: Random) -> float:
    armed = f"{random.choice(STEPS)}:{random.randint(1, 20)}"
    with own_process(stack, folder, environ={"TIDEGATE_FAILPOINT": armed}) as worker:
        worker.wait_end()
    return monotonic()


def _sessions_ended(stack: RunningStack, _folder: Path, _random: Random) -> float:
    with psycopg.connect(stack.addresses.postgres) as session:
        session.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
    return monotonic()


def _new_gateway_secret(stack: RunningStack, _folder: Path, _random: Random) -> float:
    rotate(stack, keep=SECRETS_KEPT)
    return monotonic()


FAULTS: dict[str, Inject] = {
    "gateway: kill -9": _ended("gateway", signal.SIGKILL),
    "gateway: SIGTERM": _ended("gateway", signal.SIGTERM),
    "gateway: paused": _paused("gateway", PAUSE_S),
    "persistence: kill -9": _ended("persistence", signal.SIGKILL),
    "persistence: SIGTERM": _ended("persistence", signal.SIGTERM),
    "persistence: paused": _paused("persistence", PAUSE_S),
    "persistence: paused past its session": _paused("persistence", PAST_SESSION_S),
    "second worker: joins, SIGTERM": _second_worker(signal.SIGTERM),
    "second worker: joins, kill -9": _second_worker(signal.SIGKILL),
    "second worker: dies at a step": _worker_that_dies_at_a_step,
    "postgres: kill -9": _ended("postgres", signal.SIGKILL),
    "postgres: immediate restart": _ended("postgres", signal.SIGQUIT),
    "postgres: paused": _paused("postgres", PAUSE_S),
    "postgres: sessions ended": _sessions_ended,
    "kafka: kill -9": _ended("kafka", signal.SIGKILL),
    "kafka: paused": _paused("kafka", PAUSE_S),
    "kafka: paused past its sessions": _paused("kafka", PAST_SESSION_S),
    "credentials: a new gateway secret": _new_gateway_secret,
}

# The log itself loses or hides records; they need to know what is being sent.
LOG_FAULTS: dict[str, InjectIntoLog] = {
    "run.events: last record cut off": last_record_cut_off,
    "run.events: deleted and created again": topic_recreated,
    "run.events: a transaction left open": transaction_left_open,
}

# The log itself loses or hides records; they need to know what is being sent.
LOG_FAULTS: dict[str, InjectIntoLog] = {
    "run.events: last record cut off": last_record_cut_off,
    "run.events: deleted and created again": topic_recreated,
    "run.events: a transaction left open": transaction_left_open,
}
