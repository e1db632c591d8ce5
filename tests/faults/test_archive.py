"""The archive under faults: P10, each offset in exactly one object, whenever a worker is killed or stopped."""

import signal
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from threading import Event, Thread

import pytest

from processors.runtime.failpoints import EXIT_KILLED, Failpoint
from schemas.events.topics import USER_EVENTS
from tests.faults.processes import OwnProcess, for_a_while, held_down, own_process
from tests.support.archiving import GROUP, PROCESS, archiving_stack, check_archive, lines, produce
from tests.support.lag import wait_until_handled
from tests.support.stack import RunningStack, wait_until

STEPS = [
    Failpoint.AFTER_POLL,
    Failpoint.AFTER_GATHER,
    Failpoint.AFTER_CUT,
    Failpoint.BEFORE_PUT,
    Failpoint.AFTER_PUT,
    Failpoint.AFTER_COMMIT_BEFORE_OFFSET,
    Failpoint.AFTER_OFFSET,
]
GIVEN_UP_S = 15.0  # above the session timeout of a worker that is stopped
DRAINED_S = 90.0


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    """Yield a stack whose user events are archived."""
    with archiving_stack(tmp_path_factory.mktemp("archive")) as started:
        yield started


def archiver(
    stack: RunningStack, folder: Path, *, point: Failpoint | None = None, variant: str | None = None
) -> AbstractContextManager[OwnProcess]:
    environ = {} if point is None else {"TIDEGATE_FAILPOINT": f"{point}:3"}
    return own_process(
        stack, folder, "archive", "--topic", USER_EVENTS.name, variant=variant, environ=environ, settings_of=PROCESS
    )


def test_workers_that_die_at_each_step_cost_nothing(stack: RunningStack, tmp_path: Path) -> None:
    """Each dies at its third hit, under load, while the others hold further partitions."""
    with held_down(stack, PROCESS), ExitStack() as running:
        workers = {point: running.enter_context(archiver(stack, tmp_path, point=point)) for point in STEPS}
        for worker in workers.values():
            worker.wait_ready()
        ended = Event()
        load = Thread(target=_load, args=(stack, ended))
        load.start()
        try:
            for worker in workers.values():
                assert worker.wait_end() == EXIT_KILLED, worker.log
        finally:
            ended.set()
            load.join()
    wait_until_handled(stack, GROUP)
    check_archive(stack)
    stack.command("archive", "verify")


@pytest.mark.parametrize("variant", ["stops_before_its_put", "stops_after_its_put"])
def test_a_worker_that_was_stopped_in_its_put_shortens_nothing(
    stack: RunningStack, tmp_path: Path, variant: str
) -> None:
    """confluentinc/kafka-connect-storage-cloud#800: a task that came back replaced a complete object by a shorter."""
    with held_down(stack, PROCESS), archiver(stack, tmp_path, variant=variant) as stopped:
        stopped.wait_ready()
        produce(stack, 200)
        wait_until(lambda: _is_stopped(stopped.pid), timeout_s=60, what="the worker to be stopped in its put")
        produce(stack, 200)
        with archiver(stack, tmp_path) as successor:
            for_a_while(GIVEN_UP_S)
            wait_until_handled(stack, GROUP)
            before = {partition: dict(found) for partition, found in lines(stack).items()}
            stopped.kill(signal.SIGCONT)
            produce(stack, 200)
            wait_until_handled(stack, GROUP)
            after = lines(stack)
            for partition, found in before.items():
                assert after[partition].items() >= found.items(), "no object changes"
            assert successor.is_running()
    wait_until_handled(stack, GROUP)
    check_archive(stack)
    stack.command("archive", "verify")


def test_a_worker_that_is_asked_to_end_drops_what_it_has_gathered(stack: RunningStack, tmp_path: Path) -> None:
    with held_down(stack, PROCESS), archiver(stack, tmp_path) as worker:
        worker.wait_ready()
        produce(stack, 100)
        worker.kill(signal.SIGTERM)
        assert worker.wait_end(DRAINED_S) == 0, worker.log
    wait_until_handled(stack, GROUP)
    check_archive(stack)


def _load(stack: RunningStack, ended: Event) -> None:
    while not ended.wait(0.5):
        produce(stack, 40)


def _is_stopped(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
