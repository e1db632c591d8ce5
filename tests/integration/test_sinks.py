"""Sinks on the running stack: events in over HTTP, complete and in order in files and at a receiver."""

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from secrets import token_hex
from signal import SIGKILL
from typing import Any

import pytest

from deploy.local.settings_file import credentials_path
from schemas.process import telemetry
from schemas.runs.topics import RUN_EVENTS
from schemas.sinks.telemetry import SINK_BATCHES, SINK_HELD
from tests.faults.processes import own_process
from tests.support.builders import event
from tests.support.own_sinks import BatchReceiver, OwnSink, file_events, own_sink
from tests.support.stack import RunningStack, TidegateFailed, tidegate, wait_until
from tests.support.user_events import UserEventClient

WITHIN_S = 90.0
EXIT_CONFIGURATION = 78
QUICK = {"retry": {"first_s": 0.1, "longest_s": 0.5}, "breaker_open_s": 0.5, "batch": {"seconds_max": 0.2}}


@pytest.fixture
def receiver() -> Iterator[BatchReceiver]:
    with BatchReceiver().listening() as listening:
        yield listening


def send(stack: RunningStack, sink: OwnSink, count: int, *, users: int = 8) -> list[list[str]]:
    """Send *count* events in requests of 100; return the ids of each user's, in order."""
    client = UserEventClient(stack)
    names = [f"u-{token_hex(6)}" for _ in range(users)]
    ids = [f"{sink.type}-{number}" for number in range(count)]
    for begin in range(0, count, 100):
        batch = [
            {"id": ids[number], "type": sink.type, "user_id": names[number % users], "payload": {"n": number}}
            for number in range(begin, min(begin + 100, count))
        ]
        client.accepted("/api/v1/events/batch", batch)
    return [ids[user::users] for user in range(min(users, count))]


def in_order(found: Sequence[str], sent: Sequence[Sequence[str]]) -> bool:
    """Return True if the first of each id of *found* are what was *sent*, in order for each user."""
    firsts = list(dict.fromkeys(found))
    return all([each for each in firsts if each in set(of_user)] == list(of_user) for of_user in sent)


def of_files(folder: Path) -> list[str]:
    return [each["event_id"] for events in file_events(folder).values() for each in events]


def test_events_are_in_files_once_and_in_order_though_the_sink_is_killed(stack: RunningStack, tmp_path: Path) -> None:
    folder = tmp_path / "files"
    with own_sink(stack, tmp_path, kind="jsonl", folder=str(folder), file_bytes_max=20_000, **QUICK) as sink:
        sent = send(stack, sink, 1500)
        with sink.running(stack, tmp_path) as process:
            wait_until(lambda: len(of_files(folder)) > 300, timeout_s=WITHIN_S, what="some events in files")
            process.kill(SIGKILL)
            process.wait_end()
        with sink.running(stack, tmp_path):
            wait_until(lambda: len(of_files(folder)) >= 1500, timeout_s=WITHIN_S, what="all events in files")
    found = of_files(folder)
    assert len(found) == len(set(found)) == 1500
    assert in_order(found, sent)
    for events in file_events(folder).values():
        offsets = [int(each["place"].rpartition("/")[2]) for each in events]
        assert offsets == sorted(offsets)


def test_a_receiver_gets_each_event_in_order_and_the_same_batches_again_after_a_kill(
    stack: RunningStack, tmp_path: Path, receiver: BatchReceiver
) -> None:
    with own_sink(stack, tmp_path, kind="http", url=receiver.url, **QUICK) as sink:
        sent = send(stack, sink, 800)
        with sink.started(stack, tmp_path, TIDEGATE_FAILPOINT="after_write:3") as process:
            process.wait_end()
        with sink.running(stack, tmp_path):
            wait_until(lambda: len(set(receiver.ids())) >= 800, timeout_s=WITHIN_S, what="all events at the receiver")
    assert in_order(receiver.ids(), sent)
    by_token: dict[str, list[dict[str, Any]]] = {}
    for token, events in receiver.taken:
        assert by_token.setdefault(token, events) == events, token


def test_a_sink_that_is_down_holds_up_no_other(stack: RunningStack, tmp_path: Path, receiver: BatchReceiver) -> None:
    """Report: one failing sink starved another."""
    receiver.status = 503
    folder, wanted = tmp_path / "files", f"sink_{token_hex(6)}"
    with (
        own_sink(stack, tmp_path, kind="http", wanted=wanted, url=receiver.url, **QUICK) as down,
        own_sink(stack, tmp_path, kind="jsonl", wanted=wanted, folder=str(folder), **QUICK) as up,
        down.running(stack, tmp_path),
        up.running(stack, tmp_path),
    ):
        before = down.committed(stack)
        [[event_id]] = send(stack, up, 1)
        wait_until(lambda: of_files(folder) == [event_id], timeout_s=WITHIN_S, what="the event in a file")
        assert receiver.taken == []
        receiver.status = 200
        wait_until(lambda: receiver.ids() == [event_id], timeout_s=WITHIN_S, what="the event at the receiver")
        wait_until(lambda: down.committed(stack) != before, timeout_s=WITHIN_S, what="the offset")


def test_a_wrong_password_holds_the_sink_and_loses_nothing(
    stack: RunningStack, tmp_path: Path, receiver: BatchReceiver
) -> None:
    """Report: a wrong password at the sink, and offsets were committed past what it refused."""
    receiver.status = 401
    with (
        own_sink(stack, tmp_path, kind="http", url=receiver.url, **QUICK) as sink,
        sink.running(stack, tmp_path) as process,
    ):
        [[event_id]] = send(stack, sink, 1)
        wait_until(lambda: process.metric(SINK_HELD.name, sink=sink.name) == 1, timeout_s=WITHIN_S, what="an alarm")
        wait_until(
            lambda: process.metric(telemetry.GROUP_HALTED_LANES.name, group=sink.group.name) == 1,
            timeout_s=WITHIN_S,
            what="a halted partition",
        )
        assert "HTTP 401" in process.log
        assert letters(sink, stack) == []
        receiver.status = 200
        wait_until(lambda: receiver.ids() == [event_id], timeout_s=WITHIN_S, what="the event at the receiver")
        wait_until(lambda: process.metric(SINK_HELD.name, sink=sink.name) == 0, timeout_s=WITHIN_S, what="no alarm")


def test_a_refused_event_is_a_dead_letter_that_can_be_sent_back(
    stack: RunningStack, tmp_path: Path, receiver: BatchReceiver
) -> None:
    receiver.body = {"refused": [{"index": 0, "reason": "no shelf for it"}]}
    with own_sink(stack, tmp_path, kind="http", url=receiver.url, **QUICK) as sink, sink.running(stack, tmp_path):
        send(stack, sink, 1)
        wait_until(lambda: len(letters(sink, stack)) == 1, timeout_s=WITHIN_S, what="a dead letter")
        [letter] = letters(sink, stack)
        assert (letter["reason"], letter["attempt"]) == ("delivery_refused", 1)
        receiver.body = {}
        group = sink.group.name
        tidegate("dlq", "redrive", "--all", "--yes", "--group", group, "--dir", str(stack.folder))
        wait_until(lambda: len(receiver.taken) == 2, timeout_s=WITHIN_S, what="the event at the receiver again")
    first, again = (token for token, _ in receiver.taken)
    assert again == f"{first}+1"


def letters(sink: OwnSink, stack: RunningStack) -> list[dict[str, Any]]:
    said = tidegate("dlq", "list", "--group", sink.group.name, "--json", "--dir", str(stack.folder))
    found: list[dict[str, Any]] = json.loads(said)["letters"]
    return found


def test_a_person_lets_a_sink_skip_what_it_never_takes(
    stack: RunningStack, tmp_path: Path, receiver: BatchReceiver
) -> None:
    receiver.status = 500
    with (
        own_sink(stack, tmp_path, kind="http", url=receiver.url, **QUICK) as sink,
        sink.running(stack, tmp_path) as process,
    ):
        send(stack, sink, 1)
        wait_until(lambda: receiver.asked != [], timeout_s=WITHIN_S, what="an attempt")
        place, _, offsets = receiver.asked[0].rpartition("/")
        partition, end = place.rpartition("/")[2], int(offsets.partition("-")[0]) + 1
        of_partition = ("--partition", partition, "--yes", "--dir", str(stack.folder), "--to-offset")
        with pytest.raises(TidegateFailed, match="not among those that wait"):
            tidegate("sinks", "skip", sink.name, *of_partition, str(end + 1_000_000))
        tidegate("sinks", "skip", sink.name, *of_partition, str(end))
        wait_until(lambda: sink.committed(stack)[int(partition)] >= end, timeout_s=WITHIN_S, what="the offset behind")
        skipped = process.metric(telemetry.RECORDS.name, group=sink.group.name, outcome="skipped")
    assert (skipped, receiver.taken) == (1, [])


def test_a_bad_file_stops_the_start_and_moves_nothing(stack: RunningStack, tmp_path: Path) -> None:
    """Report: a start with a wrong configuration ate what was waiting."""
    with own_sink(stack, tmp_path, kind="jsonl", folder=str(tmp_path / "files")) as sink:
        before = sink.committed(stack)
        sink.file.write_text(sink.file.read_text().replace("folder", "folders"))
        with own_process(stack, tmp_path, "sink", "--name", sink.name, environ=sink.environ) as process:
            assert process.wait_end() == EXIT_CONFIGURATION
            assert "unknown field `folders`" in process.log
        assert sink.committed(stack) == before
        assert not (tmp_path / "files").exists()


def test_the_records_of_runs_go_to_a_sink_and_are_replayed(stack: RunningStack, tmp_path: Path) -> None:
    folder, kind = tmp_path / "files", f"sink_{token_hex(6)}"
    with (
        own_sink(stack, tmp_path, source=RUN_EVENTS, wanted=kind, kind="jsonl", folder=str(folder), **QUICK) as sink,
        sink.running(stack, tmp_path),
    ):
        run_id = f"run-{token_hex(6)}"
        UserEventClient(stack).accepted(f"/api/runs/{run_id}/events", event(1, run_id=run_id, type=kind))
        wait_until(lambda: len(lines(folder)) == 1, timeout_s=WITHIN_S, what="the event in a file")
        [shown] = lines(folder)
        assert (shown["run_id"], shown["data"]["seq"]) == (run_id, 1)
        listed = json.loads(tidegate("sinks", "list", "--json", "--dir", str(stack.folder)))
        assert {"sink": sink.name, "source": "run.events"}.items() <= next(
            each for each in listed if each["sink"] == sink.name
        ).items()
        credentials = str(credentials_path(stack.folder, {}))
        environ = {**os.environ, **sink.environ, "TIDEGATE_CREDENTIALS": credentials}
        tidegate("replay", sink.group.name, "--from-start", "--yes", "--dir", str(stack.folder), environ=environ)
        [replayed] = (folder / "replays").iterdir()
        assert lines(replayed) == [shown]


def lines(folder: Path) -> list[dict[str, Any]]:
    return [each for events in file_events(folder).values() for each in events]


def test_a_sink_counts_what_became_of_its_batches(stack: RunningStack, tmp_path: Path) -> None:
    with (
        own_sink(stack, tmp_path, kind="jsonl", folder=str(tmp_path / "files"), **QUICK) as sink,
        sink.running(stack, tmp_path) as process,
    ):
        send(stack, sink, 1)
        wait_until(
            lambda: process.metric(SINK_BATCHES.name, sink=sink.name, outcome="taken") == 1,
            timeout_s=WITHIN_S,
            what="a batch that was taken",
        )
