"""The lag of the consumer groups, measured once a second for the metrics and for admission."""

import asyncio
from collections.abc import Mapping
from functools import partial
from time import monotonic
from typing import Self

import structlog

from gateway.errors import LogUnavailable, QueueFull
from gateway.kafka.followers import GroupFollower
from gateway.kafka.rates import rates_per_s
from gateway.kafka.reader import Edges, Log
from schemas.kafka.topics import Group
from schemas.pacing.admission import Admission
from schemas.process.telemetry import (
    ADMISSION_MULTIPLIER,
    GROUP_DISPLACED,
    GROUP_EXPIRED,
    GROUP_LAG,
    TOPIC_UNDECIDED,
    Telemetry,
)

POLL_INTERVAL_S = 1.0

log = structlog.get_logger()


class LagMonitor:
    """A monitor of the groups' lag, which also steps the admissions that depend on it; an async context manager."""

    def __init__(
        self,
        *,
        log: Log,
        followers: Mapping[str, GroupFollower],
        paced: Mapping[Group, Admission],
        telemetry: Telemetry,
    ) -> None:
        """Look into *log*; *followers*, by group name, know how far each group is; *paced* are admissions by group."""
        self._paced = paced
        self._log = log
        self._followers = followers
        self._lag = telemetry[GROUP_LAG]
        self._undecided = telemetry[TOPIC_UNDECIDED]
        self._displaced = telemetry[GROUP_DISPLACED]
        self._expired = telemetry[GROUP_EXPIRED]
        for group, admission in paced.items():
            telemetry[ADMISSION_MULTIPLIER].labels(group.name).set_function(partial(_multiplier, admission))
        self._before: dict[Group, tuple[float, Mapping[str, int]]] = {}  # when, and what a pacing group had committed

    async def __aenter__(self) -> Self:
        """Start to measure."""
        self._task = asyncio.create_task(self._watch())
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop measuring."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _watch(self) -> None:
        while True:
            try:
                await self.refresh()
            except Exception:  # whatever it is: without this task nobody sees a lag any more
                log.exception("lag not measured")
            await asyncio.sleep(POLL_INTERVAL_S)

    async def refresh(self) -> None:
        """Look once."""
        for follower in list(self._followers.values()):
            lag = await self._look_at(follower)
            if (admission := self._paced.get(follower.group)) is not None:
                self._step(admission, follower, lag)

    def _step(self, admission: Admission, follower: GroupFollower, lag: int | None) -> None:
        try:
            passed_per_s = self._passed_per_s(follower) if lag is not None else 0.0
        except LogUnavailable:
            lag, passed_per_s = None, 0.0
        admission.step(lag, passed_per_s, monotonic())

    async def _look_at(self, follower: GroupFollower) -> int | None:
        group = follower.group
        try:
            progress = follower.progress()
            edges = await self._log.edges(group.source.name)
            follower.faults = await self._log.faults(
                group.source.name, {partition: each.position for partition, each in progress.items()}
            )
        except (LogUnavailable, QueueFull):
            return None
        # A topic that was deleted has no edges, and the group's offsets in it are seen for a moment longer.
        committed = {
            partition: each.committed
            for partition, each in progress.items()
            if each.committed is not None and partition in edges
        }
        lag = sum(max(0, edges[each].end - max(offset, edges[each].first)) for each, offset in committed.items())
        try:
            lag += sum([await self._lag_of(follower, topic.name) for topic in group.beside])
        except (LogUnavailable, QueueFull):
            return None
        self._lag.labels(group.name).set(lag)
        self._expired.labels(group.name).set(_expired(committed, edges))
        self._displaced.labels(group.name).set(len(follower.faults))
        self._undecided.labels(group.source.name).set(sum(each.undecided for each in edges.values()))
        return lag

    async def _lag_of(self, follower: GroupFollower, topic: str) -> int:
        edges, progress = await self._log.edges(topic), follower.progress(topic)
        return sum(
            max(0, edges[partition].end - max(each.committed, edges[partition].first))
            for partition, each in progress.items()
            if each.committed is not None and partition in edges
        )

    def _passed_per_s(self, follower: GroupFollower) -> float:
        name = follower.group.name
        before = self._before.get(follower.group)
        now = monotonic(), {name: sum(each.committed or 0 for each in follower.progress().values())}
        self._before[follower.group] = now
        return 0.0 if before is None else rates_per_s(before, now).get(name, 0.0)


def _multiplier(admission: Admission) -> float:
    return admission.multiplier


def _expired(committed: Mapping[int, int], edges: Mapping[int, Edges]) -> int:
    return sum(max(0, edges[each].first - offset) for each, offset in committed.items())
