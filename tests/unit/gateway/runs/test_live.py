"""The cursor by which a page of events is followed on: never behind what the page did not show."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest
from confluent_kafka import KafkaException

from gateway.errors import LogUnavailable
from gateway.kafka.followers import GroupFollower
from gateway.kafka.reader import Edges
from gateway.runs.live import LiveCursors
from schemas.kafka import cursors
from schemas.kafka.partitioner import partition_of
from schemas.runs.topics import PERSISTENCE
from tests.support.fakes import MemoryCommitted, MemoryLog

EVENTS, TRACES = "run_events".ljust(22, "-"), "run_traces".ljust(22, "-")
RUN = "run-6"


class Parts:
    def __init__(self) -> None:
        self.log = MemoryLog(edges_of=Edges(first=0, end=5))
        self.committed = MemoryCommitted({0: 10, 1: 20})
        self.follower = GroupFollower(PERSISTENCE, self.committed, clock=lambda: datetime.now(UTC))
        self.live = LiveCursors(log=self.log, persistence=self.follower)

    def places(self) -> object:
        cursor = self.live.cursor("demo", RUN)
        return None if cursor is None else cursors.decode(cursor)


@pytest.fixture
async def parts() -> AsyncIterator[Parts]:
    made = Parts()
    async with made.follower:
        yield made


async def test_it_is_where_persistence_is_in_the_run_s_partition(parts: Parts) -> None:
    async with parts.live:
        partition = partition_of(RUN.encode(), 2)
        assert parts.places() == {EVENTS: {partition: [10, 20][partition]}, TRACES: {0: 5}}


async def test_before_the_log_has_answered_there_is_none(parts: Parts) -> None:
    parts.log.failure = LogUnavailable("away")
    async with parts.live:
        assert parts.places() is None
        parts.log.failure = None
        await parts.live.refresh()
        assert parts.places() is not None


async def test_what_was_seen_of_the_traces_stays_true_while_the_log_is_away(parts: Parts) -> None:
    async with parts.live:
        before = parts.places()
        parts.log.failure = LogUnavailable("away")
        await parts.live.refresh()
        assert parts.places() == before


async def test_a_group_whose_place_is_not_known_any_more_gives_none() -> None:
    parts = Parts()
    parts.committed.failure = KafkaException("away")
    async with parts.follower, parts.live:
        await asyncio.sleep(0)
        assert parts.places() is None
