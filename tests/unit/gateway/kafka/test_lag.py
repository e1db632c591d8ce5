"""The watch on the groups' lag: its gauges, and the admission that follows it."""

from datetime import UTC, datetime

from gateway.errors import LogUnavailable
from gateway.kafka.followers import GroupFollower
from gateway.kafka.lag import LagMonitor
from gateway.kafka.reader import Edges
from schemas.kafka.positions import PositionFault
from schemas.pacing.admission import Admission
from schemas.process.telemetry import OF_GATEWAY, Telemetry
from schemas.runs.topics import PERSISTENCE
from tests.support.fakes import MemoryCommitted, MemoryLog

NOW = datetime(2025, 12, 5, tzinfo=UTC)


async def test_lag_and_expiry_are_gauges_and_the_lag_holds_events_down() -> None:
    log, telemetry, admission = MemoryLog(), Telemetry(OF_GATEWAY), Admission(1_000)
    async with GroupFollower(PERSISTENCE, MemoryCommitted({0: 40}), clock=lambda: NOW) as follower:
        watch = LagMonitor(
            log=log, followers={"persistence": follower}, paced={PERSISTENCE: admission}, telemetry=telemetry
        )

        def gauge(name: str) -> float | None:
            return telemetry.registry.get_sample_value(name, {"group": "persistence"})

        log.edges_of = Edges(first=50, end=150)
        await watch.refresh()
        assert gauge("tidegate_group_lag_records") == 100, "what has expired is not waited for"
        assert gauge("tidegate_group_expired_records") == 10
        assert admission.rate_per_s is None
        assert gauge("tidegate_group_displaced_partitions") == 0
        assert follower.faults == {}
        log.edges_of = Edges(first=0, end=2_000, undecided=7)
        log.faulty = {0: PositionFault.REWRITTEN}
        admission._stepped_at_s = None
        await watch.refresh()
        assert gauge("tidegate_group_expired_records") == 0
        assert gauge("tidegate_group_displaced_partitions") == 1
        assert follower.faults == {0: PositionFault.REWRITTEN}
        undecided = telemetry.registry.get_sample_value("tidegate_topic_undecided_records", {"topic": "run.events"})
        assert undecided == 7
        assert admission.rate_per_s is not None
        log.failure = LogUnavailable("away")
        await watch.refresh()
        assert gauge("tidegate_group_lag_records") == 1_960, "what is not known stays as it was"


async def test_a_topic_that_was_deleted_has_no_edges_and_costs_the_watch_nothing() -> None:
    log, telemetry = MemoryLog(), Telemetry(OF_GATEWAY)
    log.edges = lambda _topic: _nothing()  # type: ignore[method-assign]
    async with GroupFollower(PERSISTENCE, MemoryCommitted({0: 40}), clock=lambda: NOW) as follower:
        watch = LagMonitor(
            log=log,
            followers={"persistence": follower},
            paced={PERSISTENCE: Admission(1)},
            telemetry=telemetry,
        )
        await watch.refresh()
    assert telemetry.registry.get_sample_value("tidegate_group_lag_records", {"group": "persistence"}) == 0


async def _nothing() -> dict[int, Edges]:
    return {}
