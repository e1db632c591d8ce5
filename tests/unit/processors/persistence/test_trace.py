"""The sum of a run."""

import hashlib
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from processors.persistence.calls import ANSWERED_LISTED_MAX
from processors.persistence.tally import NAMES_MAX
from processors.persistence.trace import Removed, StoredEvent, Trace
from schemas.chain import CHAIN_START, head
from schemas.topics import RUN_TRACES

START = datetime(2026, 1, 1, tzinfo=UTC)


def stored(seq: int, kind: str = "reasoning", payload: Any = None, *, after_s: float = 0.0) -> StoredEvent:
    return StoredEvent(
        seq=seq,
        type=kind,
        actor="agent",
        happened_at=START + timedelta(seconds=after_s),
        payload=json.dumps(payload),
        event_sha256=bytes([seq % 256]) * 32,
    )


def document(*events: StoredEvent, declared: int | None = None) -> dict[str, Any]:
    trace = Trace()
    for each in events:
        trace.add(each)
    text = trace.document(status="succeeded", declared_event_count=declared, duplicates=1, rejected=2)
    return dict(json.loads(text))


def test_the_chain_binds_content_and_number() -> None:
    trace = Trace()
    trace.add(stored(1))
    trace.add(stored(2))
    first = hashlib.sha256(CHAIN_START + b"\0\0\0\0\0\0\0\x01" + b"\x01" * 32).digest()
    assert trace.chain_head == hashlib.sha256(first + b"\0\0\0\0\0\0\0\x02" + b"\x02" * 32).digest()
    assert trace.chain_head == head([(1, b"\x01" * 32), (2, b"\x02" * 32)])


def test_a_run_in_one_piece_is_complete() -> None:
    given = document(stored(1), stored(2, after_s=3), declared=2)
    assert given["complete"]
    assert (given["event_count"], given["duration_s"]) == (2, 3.0)
    assert (given["duplicates"], given["rejected"]) == (1, 2)
    assert given["types"] == {"reasoning": 2}


def test_gaps_are_counted_and_listed() -> None:
    given = document(stored(2), stored(5))
    assert given["missing"] == {"count": 3, "ranges": [[1, 1], [3, 4]]}
    assert not given["complete"]


def test_fewer_events_than_declared_are_incomplete() -> None:
    assert not document(stored(1), declared=2)["complete"]


def test_a_call_and_its_result_give_a_latency() -> None:
    given = document(
        stored(1, "tool_call", {"call_id": "a"}),
        stored(2, "tool_call", {"call_id": "b"}),
        stored(3, "tool_result", {"call_id": "a"}, after_s=1.5),
        stored(4, "error", {"text": "no"}),
    )
    assert given["tool_calls"] == {
        "count": 2,
        "answered": 1,
        "latency_max_s": 1.5,
        "latency_sum_s": 1.5,
        "calls": [{"id": "a", "seq": 1, "result_seq": 3, "latency_s": 1.5}],
    }
    assert given["errors"] == 1


def test_tokens_are_summed_by_name() -> None:
    given = document(
        stored(1, payload={"usage": {"input": 3, "model": "x"}}), stored(2, payload={"usage": {"input": 4}})
    )
    assert given["tokens"] == {"input": 7}


def test_counts_within_counts_are_summed_by_their_path() -> None:
    usage = {"input_tokens": 9, "input_tokens_details": {"cached": 4, "share": 0.4}}
    assert document(stored(1, payload={"usage": usage}))["tokens"] == {
        "input_tokens": 9,
        "input_tokens_details.cached": 4,
    }


def test_an_id_may_be_a_number_and_an_answer_comes_once() -> None:
    given = document(
        stored(1, "tool_call", {"id": 7}),
        stored(2, "tool_result", {"tool_call_id": "7"}, after_s=1),
        stored(3, "tool_result", {"tool_call_id": "7"}, after_s=2),
    )
    assert (given["tool_calls"]["answered"], given["tool_calls"]["latency_sum_s"]) == (1, 1.0)


def test_a_record_fits_its_topic_whatever_names_a_run_uses() -> None:
    """Else persistence would wait for ever before the record that it cannot write."""
    events = [
        stored(seq, f"type{seq}" + "x" * 100, {"usage": {f"n{seq}": 1, "y" * 100_000: 1, "id": "z" * 100_000}})
        for seq in range(1, 1001)
    ]
    calls = [
        stored(1001 + 2 * call + result, ("tool_call", "tool_result")[result], {"id": f"{call}" + "i" * 200})
        for call in range(200)
        for result in range(2)
    ]
    given = document(*events, *calls)
    assert len(json.dumps(given)) < RUN_TRACES.record_bytes_max / 20
    assert sum(given["types"].values()) == len(events) + len(calls)
    assert len(given["types"]) == NAMES_MAX + 1
    assert given["tokens"]["*"] == 1000 + 500
    assert (given["tool_calls"]["answered"], len(given["tool_calls"]["calls"])) == (200, ANSWERED_LISTED_MAX)


def test_a_run_that_lost_its_events_to_retention_is_not_told_as_one_that_had_none() -> None:
    trace = Trace()
    text = trace.document(
        status="succeeded", declared_event_count=3, duplicates=0, rejected=0, removed=Removed(at=START, count=3)
    )
    assert json.loads(text)["events_removed"] == {"at": "2026-01-01T00:00:00+00:00", "count": 3}


def test_an_empty_run_has_a_record_too() -> None:
    given = document()
    assert (given["event_count"], given["duration_s"], given["chain_head"]) == (0, None, "00" * 32)


def test_any_payload_can_be_summed() -> None:
    for payload in (None, 1, "x", [1], {"usage": 5}, {"usage": {"n": True}}, {"call_id": 7}):
        document(stored(1, "tool_call", payload), stored(2, "tool_result", payload))


def test_a_payload_in_object_storage_counts_with_its_size_and_is_not_read() -> None:
    """Its call stays unanswered and its tokens are unknown; how many there are of its kind is said."""
    unread = replace(stored(2, "tool_result", after_s=1), payload=None, referenced_bytes=5_000_000)
    given = document(stored(1, "tool_call", {"call_id": "a"}), unread)
    assert (given["payload_bytes"], given["payloads_unread"]) == (5_000_000 + len('{"call_id": "a"}'), 1)
    assert (given["tool_calls"]["count"], given["tool_calls"]["answered"]) == (1, 0)
    assert document(stored(1))["payloads_unread"] == 0
