"""What is counted for a dashboard: only where somebody looks, and within bounds."""

import pytest

from processors.fanout.streams.runs import RunStreamRecord
from processors.fanout.tallies import FINALIZED_MAX, OTHER, TYPES_MAX, Tallies
from schemas.kafka.places import Partition
from schemas.runs.records import RunFinalized, RunStatus
from tests.support.builders import event, run_event
from tests.unit.gateway.conftest import NOW


def told(kind: str, tenant: str = "demo") -> RunStreamRecord:
    record = run_event(event(type=kind), tenant=tenant)
    return RunStreamRecord(record, partition=Partition("run.events", 0), offset=0, timestamp_ms=0)


def finalized(run_id: str) -> RunStreamRecord:
    record = RunFinalized(tenant="demo", run_id=run_id, status=RunStatus.FAILED, finalized_at=NOW)
    return RunStreamRecord(record, partition=Partition("run.events", 0), offset=0, timestamp_ms=0)


@pytest.fixture
def tallies() -> Tallies:
    watched = Tallies()
    watched.watch("demo")
    return watched


def test_events_are_counted_by_type_for_their_tenant_until_they_are_collected(tallies: Tallies) -> None:
    for each in (told("error"), told("message"), told("error"), told("error", tenant="other")):
        tallies.note(each)
    assert {tenant: dict(tally.types) for tenant, tally in tallies.collect().items()} == {
        "demo": {"error": 2, "message": 1}
    }
    assert tallies.collect()["demo"].types == {}


def test_finalized_runs_are_shown_up_to_a_bound_and_all_counted(tallies: Tallies) -> None:
    for number in range(FINALIZED_MAX + 5):
        tallies.note(finalized(f"run-{number}"))
    tally = tallies.collect()["demo"]
    assert (len(tally.finalized), tally.finalized_count) == (FINALIZED_MAX, FINALIZED_MAX + 5)
    assert tally.finalized[0].status is RunStatus.FAILED


def test_types_without_end_are_counted_together(tallies: Tallies) -> None:
    for number in range(TYPES_MAX + 7):
        tallies.note(told(f"type{number}"))
    types = tallies.collect()["demo"].types
    assert (len(types), types[OTHER]) == (TYPES_MAX + 1, 7)


def test_nothing_is_counted_once_nobody_looks(tallies: Tallies) -> None:
    tallies.watch("demo")
    tallies.unwatch("demo")
    assert tallies.active
    tallies.unwatch("demo")
    tallies.note(told("error"))
    assert (tallies.active, dict(tallies.collect())) == (False, {})
