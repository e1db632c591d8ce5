"""What may go, and what holds it."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.runs.retention.policy import Retention, TenantPolicy
from processors.runs.retention.rules import (
    CommittedFloors,
    Hold,
    RejectedFacts,
    RunFacts,
    StoredObject,
    has_passed,
    is_referred,
    judge_object,
    judge_rejected,
    judge_run,
)

NOW = datetime(2026, 1, 31, tzinfo=UTC)
OLD = NOW - timedelta(days=11)
RETENTION = Retention(
    events_days=10, rejected_days=10, orphans=True, tenants={"kept": TenantPolicy(events_days="never", orphans=False)}
)
PASSED = CommittedFloors(floors={0: 100, 1: 50})
RUN = RunFacts(
    tenant="demo",
    run_id="run-1",
    updated_at=OLD,
    has_trace=True,
    event_count=3,
    last_stored_at=OLD,
    last_offsets={0: 99},
)
REJECTED = RejectedFacts(tenant="demo", partition=0, offset=99, stored_at=OLD, size_bytes=1)
OBJECT = StoredObject(key=f"demo/run-1/{'a' * 64}", size_bytes=1, modified_at=NOW - timedelta(hours=24))


def judge(retention: Retention = RETENTION, **changes: Any) -> Hold | None:
    return judge_run(replace(RUN, **changes), retention, PASSED, now=NOW)


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({}, None),
        ({"updated_at": NOW - timedelta(days=9)}, Hold.YOUNG),
        ({"last_stored_at": NOW - timedelta(days=9)}, Hold.YOUNG),  # a replay brought it back
        ({"updated_at": NOW - timedelta(days=10)}, Hold.YOUNG),
        ({"updated_at": datetime(1970, 1, 1, tzinfo=UTC)}, None),
        ({"updated_at": datetime(1970, 1, 1, tzinfo=UTC), "last_stored_at": NOW}, Hold.YOUNG),
        ({"last_offsets": {0: 100}}, Hold.UNPASSED),
        ({"last_offsets": {0: 99, 1: 50}}, Hold.UNPASSED),
        ({"last_offsets": {0: 99, 1: 49}}, None),
        ({"last_offsets": {7: 0}}, Hold.UNPASSED),  # of a partition that nobody speaks of, nothing is passed
        ({"tenant": "kept"}, Hold.YOUNG),
    ],
)
def test_a_run_goes_when_it_is_old_and_every_group_has_passed_all_of_it(
    changes: dict[str, Any], verdict: Hold | None
) -> None:
    assert judge(**changes) is verdict


def test_nothing_goes_where_nothing_is_said() -> None:
    assert judge(Retention()) is Hold.YOUNG
    assert judge_rejected(REJECTED, Retention(), PASSED, now=NOW) is Hold.YOUNG
    assert judge_object(OBJECT, Retention(), now=NOW) is Hold.FOREIGN


@given(
    st.dictionaries(st.integers(0, 3), st.integers(0, 200), min_size=1),
    st.dictionaries(st.integers(0, 3), st.integers(0, 200)),
)
def test_no_event_goes_that_a_group_has_yet_to_pass(offsets: dict[int, int], floors: dict[int, int]) -> None:
    verdict = judge_run(replace(RUN, last_offsets=offsets), RETENTION, CommittedFloors(floors=floors), now=NOW)
    assert (verdict is None) == all(offset < floors.get(partition, 0) for partition, offset in offsets.items())


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({}, None),
        ({"offset": 100}, Hold.UNPASSED),
        ({"partition": 5}, Hold.UNPASSED),
        ({"stored_at": NOW - timedelta(days=9)}, Hold.YOUNG),
    ],
)
def test_a_rejected_record_goes_by_its_own_place_and_age(changes: dict[str, Any], verdict: Hold | None) -> None:
    assert judge_rejected(replace(REJECTED, **changes), RETENTION, PASSED, now=NOW) is verdict


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({}, None),
        ({"modified_at": NOW - timedelta(hours=23, minutes=59)}, Hold.YOUNG),
        ({"modified_at": NOW + timedelta(hours=1)}, Hold.YOUNG),
        ({"key": f"kept/run-1/{'a' * 64}"}, Hold.FOREIGN),
        ({"key": "demo/run-1/readme"}, Hold.FOREIGN),
        ({"key": f"demo/run-1/x/{'a' * 64}"}, Hold.FOREIGN),
        ({"key": "a" * 64}, Hold.FOREIGN),
        ({"key": f"demo/run-1/{'A' * 64}"}, Hold.FOREIGN),
    ],
)
def test_an_object_is_never_looked_at_before_a_day_or_where_it_is_not_ours(
    changes: dict[str, Any], verdict: Hold | None
) -> None:
    assert judge_object(replace(OBJECT, **changes), RETENTION, now=NOW) is verdict


def test_an_object_stays_for_whatever_refers_to_it() -> None:
    nothing: dict[str, Any] = {"runs": (), "rejected": (), "letters": ()}
    assert not is_referred("k", **nothing)
    assert is_referred("k", **(nothing | {"runs": [("demo", "another")]}))
    assert is_referred("k", **(nothing | {"rejected": [REJECTED]}))
    assert is_referred("k", **(nothing | {"letters": {"k"}}))
    assert not is_referred("k", **(nothing | {"letters": {"j"}}))


def test_passed_is_what_is_behind_every_group() -> None:
    assert has_passed(PASSED, {0: 100, 1: 50})
    assert not has_passed(PASSED, {0: 101, 1: 50})
    assert has_passed(PASSED, {0: 100, 7: 0}), "a partition that is empty"
    assert not has_passed(PASSED, {7: 1})


def test_a_place_that_the_log_has_lost_is_held_by_no_group() -> None:
    assert not CommittedFloors(floors={3: 10}).holds(3 - 100_000, 25)
    assert CommittedFloors(floors={3: 10}).holds(4, 25), "of a partition that is not known every place is held"
