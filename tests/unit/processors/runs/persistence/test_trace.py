"""The sum of a run."""

import hashlib
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from processors.runs.persistence.calls import ANSWERED_LISTED_MAX
from processors.runs.persistence.named_counts import COUNT_MAX, COUNT_MIN, NAMES_MAX, OTHERS
from processors.runs.persistence.trace import MissingSeqs, RemovedEvents, StoredEvent, Trace
from schemas import strictjson
from schemas.runs.chain import CHAIN_START, head, link
from schemas.runs.rules import SEQ_MAX
from schemas.runs.topics import RUN_TRACES

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
    return read(trace.document(status="succeeded", declared_event_count=declared, duplicates=1, rejected=2))


def read(text: str) -> dict[str, Any]:
    """Return the record, by the parser of those who verify exports: it takes no integer beyond 64 bits."""
    decoded: Any = strictjson.decode(text)
    return dict(decoded)


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


REMOVED = RemovedEvents(
    at=START, count=3, ranges=[[1, 3]], chain_head=b"\x07" * 32, missing=MissingSeqs(count=1, ranges=[[5, 5]])
)


def test_a_run_that_lost_events_to_retention_says_which_and_goes_on_from_their_chain() -> None:
    trace = Trace(chain_head=REMOVED.chain_head)
    for seq in (4, 6):
        trace.add(stored(seq))
    given = read(trace.document(status="failed", declared_event_count=6, duplicates=0, rejected=0, removed=REMOVED))
    assert given["events_removed"] == {
        "at": "2026-01-01T00:00:00+00:00",
        "count": 3,
        "ranges": [[1, 3]],
        "chain_head": "07" * 32,
    }
    assert given["missing"] == {"count": 1, "ranges": [[5, 5]]}
    assert (given["complete"], given["event_count"]) == (False, 2)
    assert given["chain_head"] == link(link(REMOVED.chain_head, 4, b"\x04" * 32), 6, b"\x06" * 32).hex()


def test_an_event_that_the_chain_covers_already_counts_and_is_no_second_link() -> None:
    """A replay has stored it again, and others that were removed with it are not back."""
    trace = Trace(chain_head=REMOVED.chain_head)
    trace.add(replace(stored(1), is_chained=True))
    trace.add(stored(4))
    assert (trace.event_count, trace.chain_head) == (2, link(REMOVED.chain_head, 4, b"\x04" * 32))


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ([2**64 - 1, 2**64 - 1], COUNT_MAX),
        ([-(2**63), -(2**63)], COUNT_MIN),
        ([2**64 - 1, -(2**63)], COUNT_MAX),
        ([2**63 - 1, 1, -1], COUNT_MAX),
        ([2**63 - 1, -1], 2**63 - 2),
    ],
)
def test_a_sum_beyond_64_bits_stands_at_the_bound(counts: list[int], expected: int) -> None:
    """Each count fits in 64 bits, and so must their sum: verify refused the honest export of such a run."""
    events = [stored(seq, payload={"usage": {"n": count, "of": {"n": count}}}) for seq, count in enumerate(counts, 1)]
    assert document(*events)["tokens"] == {"n": expected, "of.n": expected}


def test_the_sum_of_all_other_names_stands_at_the_bound_too_and_takes_no_name_for_its_own() -> None:
    names = {f"n{number}": 1 for number in range(NAMES_MAX)}
    given = document(stored(1, payload={"usage": {OTHERS: 2, "n0": 1}}), stored(2, payload={"usage": names}))
    assert (given["tokens"][OTHERS], given["tokens"]["n0"]) == (2, 2)
    beyond = document(
        stored(1, payload={"usage": names}), stored(2, payload={"usage": {"x": 2**64 - 1, "y": 2**64 - 1}})
    )
    assert beyond["tokens"][OTHERS] == COUNT_MAX


def test_the_longest_times_and_the_highest_seqs_fit() -> None:
    """A result may come eight thousand years before its call."""
    first, last = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
    call = {"call_id": "a"}
    given = document(
        replace(stored(1, "tool_call", call), happened_at=last),
        replace(stored(SEQ_MAX, "tool_result", call), happened_at=first),
        replace(stored(SEQ_MAX, payload=None), payload=None, referenced_bytes=2**63 - 1),
        replace(stored(SEQ_MAX, payload=None), payload=None, referenced_bytes=2**63 - 1),
    )
    assert given["missing"] == {"count": SEQ_MAX - 2, "ranges": [[2, SEQ_MAX - 1]]}
    assert given["duration_s"] == (last - first).total_seconds()
    assert given["tool_calls"]["latency_sum_s"] == -given["duration_s"]
    assert given["payload_bytes"] == COUNT_MAX


@pytest.mark.parametrize(("end", "count"), [(False, 2), (True, 3)])
def test_records_in_another_partition_than_the_runs_own_are_counted(*, end: bool, count: int) -> None:
    trace = Trace(home_partition=3)
    for seq, partition in enumerate((3, 1, 0), 1):
        trace.add(replace(stored(seq), partition=partition))
    text = trace.document(status="succeeded", declared_event_count=None, duplicates=0, rejected=0, is_end_misplaced=end)
    assert read(text)["wrong_partition"] == count
    assert document(stored(1))["wrong_partition"] == 0


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
