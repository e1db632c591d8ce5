"""What cannot be exported as one whole state of a run is refused, and why is said."""

from collections.abc import Iterator
from dataclasses import replace
from http.client import HTTPException
from typing import Any

import msgspec
import pytest

from deploy.admin.gateway import ATTEMPTS_MAX, GatewayReads
from deploy.errors import CommandFailed, NotReachable
from deploy.export.files import written
from deploy.export.gateway import Gateway
from deploy.export.write import export
from tests.support import builders
from tests.unit.deploy.export.exports import NOW, MemorySource, run, source


def refusal(given: MemorySource) -> str:
    with pytest.raises(CommandFailed) as failed:
        list(export(given, builders.RUN, now=NOW))
    return str(failed.value)


def test_a_payload_that_is_lost_is_a_failure() -> None:
    given = source()
    lost = msgspec.structs.replace(given.stored[1], payload=msgspec.Raw(b"null"), payload_problem="missing")
    assert "seq 2 (run.events/3/1002): its payload in object storage is missing" in refusal(
        replace(given, stored=[given.stored[0], lost, *given.stored[2:]])
    )


def test_an_event_that_is_not_stored_as_it_was_sent_is_a_failure() -> None:
    given = source()
    damaged = msgspec.structs.replace(given.stored[2], t="2025-12-05T10:00:01Z")
    assert "seq 3" in refusal(replace(given, stored=[*given.stored[:2], damaged, given.stored[3]]))


def test_a_run_whose_events_were_removed_is_told_so_and_not_exported_as_empty() -> None:
    removed = run(0, events_removed_at=NOW, events_removed_count=4)
    text = refusal(MemorySource([], [removed]))
    assert "retention removed 4 of its events, the last time at 2026-01-02" in text
    assert "0 are stored" in text


def test_a_run_that_changes_meanwhile_is_to_be_exported_again() -> None:
    states = [run(4, status="open", finalized_at=None), run(4)]
    assert "changed while it was exported" in refusal(replace(source(), states=states))
    assert "its trace record is of 5 events" in refusal(replace(source(), changes={"event_count": 5}))


def test_events_that_came_since_a_removal_do_not_hide_it() -> None:
    """As many events are stored as were removed, and they are others."""
    partly = run(4, events_removed_at=NOW, events_removed_count=4)
    assert "retention removed 4 of its events" in refusal(MemorySource(source().stored, [partly]))


def test_a_trace_record_that_was_made_before_events_from_another_partition_came_says_so() -> None:
    given = replace(source(), changes={"event_count": 0}, integrity={"wrong_partition": 4})
    text = refusal(given)
    assert "4 of its records are in another partition than their key's" in text
    assert f"tidegate replay persistence --run {builders.RUN} --overwrite" in text


def test_a_file_is_there_whole_or_not_at_all(tmp_path: Any) -> None:
    path = tmp_path / "run.jsonl"
    path.write_text("before")

    def break_off() -> None:
        with written(path) as file:
            file.write(b"half")
            raise CommandFailed("broken off")

    with pytest.raises(CommandFailed):
        break_off()
    assert [each.name for each in tmp_path.iterdir()] == ["run.jsonl"]
    assert path.read_text() == "before"
    with written(path) as file:
        file.write(b"whole")
    assert path.read_text() == "whole"
    assert path.stat().st_mode & 0o077 == 0


def test_a_busy_gateway_is_asked_again_for_as_long_as_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    reads = GatewayReads("http://127.0.0.1:1/prefix/", api_key="key", sleep=waited.append)
    gateway = Gateway(reads)
    answers: Iterator[tuple[int, float, bytes]] = iter([(503, 3.0, b"{}"), (429, 99.0, b""), (200, 1.0, b"[]")])
    monkeypatch.setattr(reads, "_ask", lambda *_: next(answers))
    assert gateway.read("a", "") == b"[]"
    assert waited == [3.0, 10.0]
    busy = (503, 1.0, b'{"code":"STORE_UNAVAILABLE","detail":"away"}')
    monkeypatch.setattr(reads, "_ask", lambda *_: busy)
    with pytest.raises(NotReachable, match="STORE_UNAVAILABLE: away"):
        gateway.read("a", "")
    assert len(waited) == 2 + ATTEMPTS_MAX - 1
    monkeypatch.setattr(reads, "_ask", lambda *_: (404, 1.0, b""))
    assert gateway.read("a", "") is None
    monkeypatch.setattr(reads, "_ask", lambda *_: (403, 1.0, b'{"code":"FORBIDDEN"}'))
    with pytest.raises(CommandFailed, match="FORBIDDEN"):
        gateway.read("a", "")


def test_a_gateway_that_is_not_there_is_not_reachable(monkeypatch: pytest.MonkeyPatch) -> None:
    reads = GatewayReads("http://127.0.0.1:1", api_key="key")
    gateway = Gateway(reads)
    with pytest.raises(NotReachable):
        gateway.read("a", "")

    def broken(*_: object) -> tuple[int, float, bytes]:
        raise HTTPException("no HTTP")

    monkeypatch.setattr(reads, "_ask", broken)
    with pytest.raises(NotReachable):
        gateway.read("a", "")
    with pytest.raises(CommandFailed, match="no http address"):
        GatewayReads("ftp://x", api_key="key")
