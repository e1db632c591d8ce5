"""What an arriving record is to the store."""

from datetime import UTC, datetime
from typing import Any

import pytest

from processors.runs.persistence.verdicts import Finalization, StoredState, judge, may_repeat_stored
from processors.runtime.contract import Arrival, Outcome, Tally
from processors.runtime.errors import LogRewritten
from schemas.errors import Poison, Reason, Rejection
from schemas.kafka.partitioner import partition_of
from schemas.runs.records import EnvironmentCaptured, Record, RunFinalized, RunStatus
from tests.support.builders import Raw, event, raw, run_event

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def arrival(record: Any, offset: int, rejection: Rejection | None = None) -> Arrival:
    return Arrival(raw(record, offset=offset), {}, record, rejection)


def finalized(status: RunStatus = RunStatus.SUCCEEDED) -> Record:
    return RunFinalized(tenant="demo", run_id="run-1", status=status, finalized_at=NOW)


def stored(*seqs: int) -> StoredState:
    """Return a store that holds these events, event n from offset n."""
    known = StoredState()
    for seq in seqs:
        record = run_event(event(seq))
        known.sha256["demo", "run-1", seq] = record.event_sha256
        known.at[0, seq] = ("demo", "run-1", seq, record.event_sha256)
    return known


def test_new_events_are_taken_in_log_order() -> None:
    arrivals = [arrival(run_event(event(seq)), seq) for seq in (1, 2, 3)]
    verdicts = judge(arrivals, StoredState())
    assert verdicts.events == arrivals
    assert verdicts.tally[Outcome.DONE, None] == 3


def test_a_record_from_a_known_place_is_a_redelivery() -> None:
    verdicts = judge([arrival(run_event(event(1)), 1), arrival(run_event(event(2)), 2)], stored(1))
    assert verdicts.tally == Tally({(Outcome.REDELIVERY, None): 1, (Outcome.DONE, None): 1})


@pytest.mark.parametrize("known", [StoredState(), stored(1)], ids=["in the slice", "in the store"])
def test_the_same_content_at_another_place_is_a_duplicate(known: StoredState) -> None:
    first = [] if known.at else [arrival(run_event(event(1)), 1)]
    again = arrival(run_event(event(1)), 9)
    verdicts = judge([*first, again], known)
    assert verdicts.duplicates == [again]
    assert verdicts.events == first


def test_other_content_under_a_taken_seq_is_a_conflict() -> None:
    verdicts = judge([arrival(run_event(event(1, payload="other")), 9)], stored(1))
    assert verdicts.rejected[0][1].reason is Reason.CONFLICT


def test_a_taken_idempotency_key_is_a_conflict_in_its_run_alone() -> None:
    keyed = {"idempotency_key": "k"}
    arrivals = [
        arrival(run_event(event(1, meta=keyed)), 1),
        arrival(run_event(event(2, meta=keyed)), 2),
        arrival(run_event(event(1, run_id="run-2", meta=keyed)), 3),
    ]
    verdicts = judge(arrivals, StoredState())
    assert verdicts.events == [arrivals[0], arrivals[2]]
    assert verdicts.rejected[0][1].reason is Reason.CONFLICT


def test_one_tenants_run_is_not_anothers() -> None:
    arrivals = [arrival(run_event(), 1), arrival(run_event(tenant="other"), 2)]
    assert judge(arrivals, StoredState()).events == arrivals


def test_nothing_is_taken_after_a_finalization() -> None:
    late = arrival(run_event(event(2)), 3)
    verdicts = judge([arrival(run_event(event(1)), 1), arrival(finalized(), 2), late], StoredState())
    assert [each.record.seq for each in verdicts.events] == [1]  # type: ignore[union-attr]
    assert verdicts.rejected == [(late, Rejection(reason=Reason.RUN_FINALIZED, detail="the run was finalized before"))]


def test_a_duplicate_is_one_even_after_a_finalization() -> None:
    known = stored(1)
    known.finalized["demo", "run-1"] = Finalization(status=RunStatus.SUCCEEDED, place=(0, 2))
    assert len(judge([arrival(run_event(event(1)), 9)], known).duplicates) == 1


@pytest.mark.parametrize(
    ("status", "offset", "outcome"),
    [
        (RunStatus.SUCCEEDED, 2, (Outcome.REDELIVERY, None)),
        (RunStatus.SUCCEEDED, 9, (Outcome.DUPLICATE, None)),
        (RunStatus.FAILED, 9, (Outcome.REJECTED, Reason.CONFLICT)),
    ],
)
def test_a_run_is_finalized_once(status: RunStatus, offset: int, outcome: Any) -> None:
    known = StoredState(finalized={("demo", "run-1"): Finalization(status=RunStatus.SUCCEEDED, place=(0, 2))})
    verdicts = judge([arrival(finalized(status), offset)], known)
    assert verdicts.tally[outcome] == 1
    assert not verdicts.finalizations
    assert bool(verdicts.traces_again) == (outcome[0] is Outcome.REDELIVERY)


def test_the_last_environment_of_a_slice_is_kept() -> None:
    def captured(text: str) -> Record:
        return EnvironmentCaptured(
            tenant="demo", run_id="run-1", environment=text, environment_sha256=bytes(32), captured_at=NOW
        )

    last = arrival(captured('{"n": 2}'), 2)
    verdicts = judge([arrival(captured('{"n": 1}'), 1), last], StoredState())
    assert verdicts.environments == {("demo", "run-1"): last}
    assert verdicts.tally[Outcome.DONE, None] == 2


def test_a_rejected_record_keeps_its_reason() -> None:
    rejection = Rejection(reason=Reason.SIGNATURE_INVALID, detail="no")
    given = arrival(run_event(), 1, rejection)
    verdicts = judge([given], StoredState())
    assert verdicts.rejected == [(given, rejection)]
    assert not verdicts.events


def test_another_event_at_a_stored_place_stops_everything() -> None:
    """The topic was recreated over old tables: dropping the new events as redeliveries would lose them."""
    with pytest.raises(LogRewritten, match="now holds another event"):
        judge([arrival(run_event(event(5)), 1)], stored(1))


def test_a_record_sent_back_that_claims_a_taken_place_is_poison() -> None:
    """Whoever sends it back writes the place that it is said to come from: that must not stop the group."""
    record = run_event(event(5))
    claims = Raw(key=b"run-1", offset=1, attempt=1)
    with pytest.raises(Poison, match="another event"):
        judge([Arrival(claims, {}, record, None)], stored(1))


@pytest.mark.parametrize(("partition", "offset", "is_taken"), [(0, 4, True), (0, 6, False), (1, 4, False)])
def test_a_closed_run_takes_late_only_what_stood_before_its_end(partition: int, offset: int, is_taken: bool) -> None:
    known = StoredState(finalized={("demo", "run-1"): Finalization(status=RunStatus.FAILED, place=(0, 5))})
    record = run_event(event(1))
    verdicts = judge([Arrival(raw(record, offset=offset, partition=partition), {}, record, None)], known)
    assert bool(verdicts.events) == is_taken
    assert verdicts.reopened == ({("demo", "run-1")} if is_taken else set())


@pytest.mark.parametrize(
    ("partition", "end", "reason", "says"),
    [
        (1, (0, 2), Reason.WRONG_PARTITION, "finalized by run.events/0/2, in another partition: the event was written"),
        (0, (1, 2), Reason.RUN_FINALIZED, "finalized by run.events/1/2, in another partition"),
        (0, (0, 2), Reason.RUN_FINALIZED, "the run was finalized before"),
        (0, (-100000, 2), Reason.RUN_FINALIZED, "the run was finalized before"),
    ],
)
def test_an_event_behind_an_end_in_another_partition_says_whose_partition_is_wrong(
    partition: int, end: tuple[int, int], reason: Reason, says: str
) -> None:
    """Which of the two came first, the log does not tell."""
    finalized = {("demo", "run-1"): Finalization(status=RunStatus.FAILED, place=end)}
    record = run_event(event(1))
    home = partition_of(b"run-1", 8)
    place = raw(record, offset=9, partition=(home + partition) % 8)
    moved = {key: Finalization(status=each.status, place=_moved(each.place, home)) for key, each in finalized.items()}
    verdicts = judge([Arrival(place, {}, record, None)], StoredState(finalized=moved, partition_count=8))
    [(_, rejection)] = verdicts.rejected
    assert rejection.reason is reason
    assert _said(says, home) in rejection.detail


def _moved(place: tuple[int, int], home: int) -> tuple[int, int]:
    return (place[0] if place[0] < 0 else (home + place[0]) % 8), place[1]


def _said(says: str, home: int) -> str:
    return says.replace("/0/2", f"/{home}/2").replace("/1/2", f"/{(home + 1) % 8}/2")


def rewriting(*seqs: int) -> StoredState:
    """Return the store as a replay that overwrites sees it, the run closed by a record of another partition."""
    known = stored(*seqs)
    known.rewrites = True
    known.finalized["demo", "run-1"] = Finalization(status=RunStatus.FAILED, place=(1, 1))
    return known


def test_a_replay_that_overwrites_writes_a_stored_event_again_whatever_closed_its_run() -> None:
    given = arrival(run_event(event(1)), 1)
    verdicts = judge([given], rewriting(1))
    assert (verdicts.events, verdicts.rejected) == ([given], [])
    assert verdicts.reopened == {("demo", "run-1")}
    assert verdicts.tally[Outcome.DONE, None] == 1


def test_a_replay_that_overwrites_mends_a_damaged_row() -> None:
    known = rewriting(1)
    known.at[0, 1] = ("demo", "run-1", 1, bytes(32))
    assert len(judge([arrival(run_event(event(1)), 1)], known).events) == 1


def test_a_replay_that_overwrites_takes_no_row_of_another_event_back() -> None:
    with pytest.raises(LogRewritten):
        judge([arrival(run_event(event(5)), 1)], rewriting(1))


@pytest.mark.parametrize("known", [stored(1), rewriting(1)], ids=["redelivered", "overwritten"])
def test_a_stored_event_that_would_be_rejected_now_stays_as_it_is(known: StoredState) -> None:
    now = Rejection(reason=Reason.UNKNOWN_AGENT, detail="removed since")
    verdicts = judge([arrival(run_event(event(1)), 1, now)], known)
    assert (verdicts.events, verdicts.rejected, verdicts.kept) == ([], [], 1)
    assert verdicts.tally[Outcome.REDELIVERY, None] == 1


def test_a_rejected_record_is_judged_again_with_a_look_at_what_is_stored() -> None:
    """Its place may be that of a stored event, and no key of the tables would say so."""
    now = Rejection(reason=Reason.UNKNOWN_AGENT, detail="removed since")
    assert may_repeat_stored(judge([arrival(run_event(event(1)), 1, now)], StoredState()))
    assert not may_repeat_stored(judge([arrival(run_event(event(1)), 1)], StoredState()))


def test_a_rejected_environment_has_one_outcome() -> None:
    record = EnvironmentCaptured(
        tenant="demo", run_id="run-1", environment="{}", environment_sha256=bytes(32), captured_at=NOW
    )
    verdicts = judge([arrival(record, 1, Rejection(reason=Reason.UNSIGNED_DIRECT, detail=""))], StoredState())
    assert (verdicts.tally.total(), verdicts.environments) == (1, {})


def test_every_record_has_exactly_one_outcome() -> None:
    keyed = {"idempotency_key": "k"}
    arrivals = [
        arrival(run_event(event(1, meta=keyed)), 1), arrival(run_event(event(1, meta=keyed)), 2),
        arrival(run_event(event(1)), 3), arrival(run_event(event(2, meta=keyed)), 4), arrival(finalized(), 5),
        arrival(finalized(), 6), arrival(run_event(event(3)), 7),
        arrival(run_event(event(4)), 8, Rejection(reason=Reason.UNSIGNED_DIRECT, detail="")),
    ]  # fmt: skip
    assert judge(arrivals, StoredState()).tally.total() == len(arrivals)
