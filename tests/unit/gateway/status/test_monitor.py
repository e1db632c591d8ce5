"""The status: its arithmetic, and that asking often costs nothing."""

import asyncio
from datetime import timedelta

import msgspec
import pytest

from gateway.errors import LogUnavailable
from gateway.kafka.followers import GroupFollower
from gateway.kafka.reader import Edges, LogRecord
from gateway.status.endpoints import EndpointViews
from gateway.status.monitor import FRESH_S, StatusMonitor, rates_per_s
from schemas.access.credentials import Principal, Right
from schemas.kafka.places import Partition, RecordPlace
from schemas.pacing.admission import Admission
from schemas.pacing.breaker import BreakerState
from schemas.runs.records import EndpointState
from schemas.runs.topics import EVALUATION, PERSISTENCE
from tests.support.fakes import MemoryCommitted, MemoryLog, RecordingPublisher
from tests.unit.gateway.conftest import NOW

WHO = Principal(key_id="k", tenant="demo", rights=frozenset({Right.READ}), agents=None)


def test_rates_are_measured_between_two_looks() -> None:
    before = (10.0, {"a": 100, "anew": 50})
    assert rates_per_s(before, (12.0, {"a": 150, "anew": 3, "new": 4})) == {"a": 25.0, "anew": 0.0, "new": 2.0}
    assert rates_per_s(before, (10.0, {"a": 150})) == {}


async def test_lag_is_told_in_records_and_in_the_age_of_the_first_that_waits() -> None:
    first_waiting = RecordPlace("run.events", 0, 4)
    written_at = NOW - timedelta(seconds=90)
    record = LogRecord(place=first_waiting, written_at=written_at, key=None, value=None, headers=())
    log = MemoryLog(records={first_waiting: record}, edges_of=Edges(first=2, end=9))
    committed = MemoryCommitted({0: 4})
    async with GroupFollower(PERSISTENCE, committed, clock=lambda: NOW) as follower:
        monitor = StatusMonitor(
            log=log,
            followers={"persistence": follower},
            endpoints=EndpointViews({}),
            publisher=RecordingPublisher(in_flight=3),
            admission=Admission(),
            clock=lambda: NOW,
        )
        status = await monitor.status(WHO)
    [group] = status.groups
    assert (group.lag_records, group.lag_s, group.state, group.members) == (5, 90.0, "Stable", 1)
    assert group.dead_letters == 7  # what the one topic of dead letters still holds
    assert status.gateway.in_flight_records == 3


async def test_however_many_ask_it_is_measured_once_a_second() -> None:
    """A failure is remembered just as long."""
    log, now_s = MemoryLog(), 100.0
    async with GroupFollower(PERSISTENCE, MemoryCommitted({0: 0}), clock=lambda: NOW) as follower:
        monitor = StatusMonitor(
            log=log,
            followers={"persistence": follower},
            endpoints=EndpointViews({}),
            publisher=RecordingPublisher(),
            admission=Admission(),
            clock=lambda: NOW,
            clock_s=lambda: now_s,
        )
        first = await asyncio.gather(*(monitor.status(WHO) for _ in range(50)))
        once = log.looks
        assert all(each is first[0] for each in first)
        now_s += FRESH_S
        log.failure = LogUnavailable("away")
        for _ in range(2):
            with pytest.raises(LogUnavailable):
                await monitor.status(WHO)
            log.failure = None
        assert log.looks == once
        now_s += FRESH_S
        again = await monitor.status(WHO)
        assert (log.looks, again.topics[0].records_per_s) == (2 * once, 0.0)


async def test_an_endpoint_is_told_of_with_its_backlogs_to_its_own_tenant_alone() -> None:
    group = EVALUATION.group("scorer", delays=["30s"])
    tier, redrive = group.tiers[0].topic.name, group.redrive.name
    committed = MemoryCommitted({0: 9}, others={Partition(tier, 0): 6, Partition(redrive, 0): 8})
    state = EndpointState(
        endpoint="scorer", tenant="demo", types=["*"], breaker=BreakerState.OPEN, reason="HTTP 500", since=NOW
    )
    async with GroupFollower(group, committed, clock=lambda: NOW) as follower:
        monitor = StatusMonitor(
            log=MemoryLog(edges_of=Edges(first=0, end=9)),
            followers={group.name: follower},
            endpoints=EndpointViews({"scorer": state}),
            publisher=RecordingPublisher(),
            admission=Admission(),
            clock=lambda: NOW,
        )
        status = await monitor.status(WHO)
        others = await monitor.status(msgspec.structs.replace(WHO, tenant="other"))
    [told] = status.groups
    assert (told.deferred, told.sent_back) == (3, 1)
    assert told.endpoint is not None
    assert (told.endpoint.breaker, told.endpoint.reason) == ("open", "HTTP 500")
    assert others.groups == []
    assert not [each.topic for each in others.topics if "scorer" in each.topic]
