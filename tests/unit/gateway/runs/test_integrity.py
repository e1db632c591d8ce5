"""When a run counts as complete, and how its rejected records are named."""

from typing import Any

import pytest

from gateway.runs.integrity import integrity_view
from tests.support import builders
from tests.unit.gateway.conftest import NOW

WHOLE: dict[str, Any] = {
    "status": "succeeded",
    "declared_event_count": 3,
    "finalized_at": NOW,
    "event_count": 3,
    "last_seq": 3,
    "signed": 2,
    "missing_count": 0,
    "missing_range_count": 0,
    "missing_ranges": [],
    "duplicates": 0,
    "reasons": {},
    "last_rejected": [],
    "chain_head": "00",
    "events_removed_at": None,
    "events_removed_count": 0,
    "removed_ranges": [],
    "removals": [],
    "home": 3,
    "misplaced": 0,
    "end_partition": 3,
    "trace": None,
}
REJECTED = {
    "kafka_partition": 3,
    "kafka_offset": 1042,
    "seq": 2,
    "reason": "conflict",
    "detail": "seq 2 has other content",
    "stored_at": "2025-12-05T10:00:00.123+00:00",
}


@pytest.mark.parametrize(
    ("change", "complete"),
    [
        ({}, True),
        ({"declared_event_count": None}, True),
        ({"declared_event_count": 4}, False),
        ({"declared_event_count": 2}, False),
        ({"finalized_at": None}, False),
        ({"missing_count": 1, "missing_range_count": 1, "missing_ranges": [[2, 2]]}, False),
        ({"duplicates": 1, "reasons": {"conflict": 1}, "last_rejected": [REJECTED]}, True),
    ],
)
def test_a_run_is_complete_when_it_is_closed_and_all_that_was_declared_is_there(
    change: dict[str, Any], complete: bool
) -> None:
    """What repeats a stored event or was never part of the run takes nothing from it."""
    assert integrity_view(builders.RUN, WHOLE | change).complete is complete


def test_what_was_rejected_is_counted_and_named_by_its_place() -> None:
    reasons = {"conflict": 11, "unsigned_direct": 1}
    rejected = integrity_view(builders.RUN, WHOLE | {"reasons": reasons, "last_rejected": [REJECTED]}).rejected
    assert (rejected.count, rejected.reasons) == (12, reasons)
    assert (rejected.last[0].wal_id, rejected.last[0].stored_at) == ("run.events/3/1042", NOW)


def removed(**changes: Any) -> Any:
    row = WHOLE | {
        "event_count": 0,
        "last_seq": 0,
        "events_removed_at": NOW,
        "events_removed_count": 3,
        "removed_ranges": [[1, 3]],
        "removals": [{"at": NOW.isoformat(), "event_count": 3, "chain_head": "01"}],
    }
    return integrity_view(builders.RUN, row | changes)


def test_a_run_that_lost_events_to_retention_is_as_complete_as_when_it_was_summed_up() -> None:
    shown = removed(trace='{"complete": true, "more": 1}')
    assert (shown.complete, shown.event_count, shown.missing.count) == (True, 0, 0)
    assert (shown.removed.at, shown.removed.event_count, shown.removed.ranges) == (NOW, 3, [[1, 3]])
    [removal] = shown.removed.removals
    assert (removal.at, removal.event_count, removal.chain_head) == (NOW, 3, "01")
    assert not removed(trace='{"complete": false}').complete
    assert not removed(finalized_at=None).complete


def test_removed_events_are_told_whatever_number_came_since() -> None:
    """Three events came after the removal of three: as many are stored as were removed, and none of those."""
    assert removed(event_count=3, last_seq=6, trace='{"complete": false}').removed.event_count == 3


def test_events_that_a_replay_stored_again_are_not_removed() -> None:
    shown = removed(event_count=3, last_seq=3, events_removed_count=0, removed_ranges=[], trace="{}")
    assert (shown.complete, shown.removed) == (True, None)


@pytest.mark.parametrize(
    ("change", "count"),
    [
        ({}, 0),
        ({"misplaced": 300}, 300),
        ({"misplaced": 2, "end_partition": 1}, 3),
        ({"end_partition": None}, 0),
        ({"home": None}, None),
    ],
)
def test_records_in_the_wrong_partition_are_counted_the_end_of_the_run_included(
    change: dict[str, Any], count: int | None
) -> None:
    assert integrity_view(builders.RUN, WHOLE | change).wrong_partition == count
