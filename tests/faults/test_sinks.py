"""A sink's worker dies at each step between fetch and commit, and another one goes on: each record once, in order."""

from contextlib import ExitStack
from pathlib import Path
from signal import SIGCONT, SIGSTOP

import pytest

from processors.runtime.failpoints import EXIT_KILLED, Failpoint
from tests.support.own_sinks import BatchReceiver, OwnSink, file_events, own_sink
from tests.support.stack import RunningStack, wait_until
from tests.support.user_events import UserEventClient

WITHIN_S = 180.0
USERS = 16
STEPS = [
    Failpoint.AFTER_POLL,
    Failpoint.AFTER_GATHER,
    Failpoint.AFTER_CUT,
    Failpoint.BEFORE_WRITE,
    Failpoint.AFTER_WRITE,
    Failpoint.AFTER_COMMIT_BEFORE_OFFSET,
    Failpoint.AFTER_OFFSET,
]
STEPS_OF_FILES = [Failpoint.AFTER_APPEND, Failpoint.AFTER_RENAME]
QUICK = {"batch": {"records_max": 20, "seconds_max": 0.2}, "retry": {"first_s": 0.1, "longest_s": 1.0}}


def send(stack: RunningStack, sink: OwnSink, name: str, count: int) -> list[str]:
    """Send *count* events in requests of 50, spread over the users; return their ids."""
    client = UserEventClient(stack)
    ids = [f"{sink.type}-{name}-{number:05}" for number in range(count)]
    for begin in range(0, count, 50):
        numbers = range(begin, min(begin + 50, count))
        events = [{"id": ids[each], "type": sink.type, "user_id": f"{sink.type}-{each % USERS}"} for each in numbers]
        client.accepted("/api/v1/events/batch", events)
    return ids


@pytest.mark.parametrize("zstd", [False, True], ids=["plain", "zstd"])
def test_files_have_each_record_once_and_in_order_wherever_their_writers_die(
    stack: RunningStack, tmp_path: Path, zstd: bool
) -> None:
    """Reports: killed between rename and fsync; what was there was overwritten; what was there came twice."""
    folder = tmp_path / "files"
    with own_sink(stack, tmp_path, kind="jsonl", folder=str(folder), file_bytes_max=5_000, zstd=zstd, **QUICK) as sink:
        sent = list[str]()
        for number, point in enumerate([*STEPS, *STEPS_OF_FILES]):
            sent += send(stack, sink, f"{number:02}", 200)
            with sink.started(stack, tmp_path, TIDEGATE_FAILPOINT=f"{point}:1") as process:
                assert process.wait_end(WITHIN_S) == EXIT_KILLED, process.log
        with sink.running(stack, tmp_path):
            wait_until(lambda: len(ids(folder)) >= len(sent), timeout_s=WITHIN_S, what="all records in files")
    assert sorted(ids(folder)) == sorted(sent)
    for events in file_events(folder).values():
        offsets = [int(each["place"].rpartition("/")[2]) for each in events]
        assert offsets == sorted(set(offsets))


def test_two_workers_of_which_one_is_stopped_and_comes_back_write_each_record_once(
    stack: RunningStack, tmp_path: Path
) -> None:
    """Report: a task that was stalled came back and overwrote what its successor had written."""
    folder = tmp_path / "files"
    with own_sink(stack, tmp_path, kind="jsonl", folder=str(folder), **QUICK) as sink, ExitStack() as running:
        first = running.enter_context(sink.running(stack, tmp_path))
        sent = send(stack, sink, "a", 400)
        wait_until(lambda: len(ids(folder)) > 50, timeout_s=WITHIN_S, what="some records in files")
        first.kill(SIGSTOP)
        second = running.enter_context(sink.running(stack, tmp_path))
        sent += send(stack, sink, "b", 400)
        wait_until(lambda: len(ids(folder)) >= len(sent), timeout_s=WITHIN_S, what="all records in files")
        first.kill(SIGCONT)
        sent += send(stack, sink, "c", 400)
        wait_until(lambda: len(ids(folder)) >= len(sent), timeout_s=WITHIN_S, what="all records in files")
        assert second.is_running()
    assert sorted(ids(folder)) == sorted(sent)


def test_a_batch_that_comes_again_after_a_crash_is_the_same_batch(stack: RunningStack, tmp_path: Path) -> None:
    with (
        BatchReceiver().listening() as receiver,
        own_sink(stack, tmp_path, kind="http", url=receiver.url, **QUICK) as sink,
    ):
        sent = list[str]()
        for number, point in enumerate(STEPS):
            sent += send(stack, sink, f"{number:02}", 200)
            with sink.started(stack, tmp_path, TIDEGATE_FAILPOINT=f"{point}:1") as process:
                assert process.wait_end(WITHIN_S) == EXIT_KILLED, process.log
        with sink.running(stack, tmp_path):
            wait_until(lambda: set(receiver.ids()) >= set(sent), timeout_s=WITHIN_S, what="all records")
    contents: dict[str, list[str]] = {}
    for token, events in receiver.taken:
        written = [each["event_id"] for each in events]
        assert contents.setdefault(token, written) == written


def ids(folder: Path) -> list[str]:
    return [each["event_id"] for events in file_events(folder).values() for each in events]
