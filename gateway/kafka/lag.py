"""How far the groups are behind, looked at once a second: for the metrics, and for the admission of events."""

import asyncio
from collections.abc import Mapping
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
    """Measures the groups' lag, and steps the admission by that of one of them; an async context manager."""

    def __init__(
        self,
        *,
        log: Log,
        followers: Mapping[str, GroupFollower],
        pacing: Group,
        admission: Admission,
        telemetry: Telemetry,
    ) -> None:
        """Look into *log*; *followers*, by group name, know how far each group is; *pacing* sets the admission."""
        self._pacing = pacing
        self._log = log
        self._followers = followers
        self._admission = admission
        self._lag = telemetry[GROUP_LAG]
        self._undecided = telemetry[TOPIC_UNDECIDED]
        self._displaced = telemetry[GROUP_DISPLACED]
        self._expired = telemetry[GROUP_EXPIRED]
        telemetry[ADMISSION_MULTIPLIER].set_function(lambda: admission.multiplier)
        self._before: tuple[float, Mapping[str, int]] | None = None  # when, and what the pacing group had committed

    async def __aenter__(self) -> Self:
        """Look from now on."""
        self._task = asyncio.create_task(self._watch())
        return self

    async def __aexit__(self, *_: object) -> None:
        """Look no more."""
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
        depth: int | None = None
        for follower in list(self._followers.values()):
            lag = await self._look_at(follower)
            if follower.group == self._pacing:
                depth = lag
        try:
            passed_per_s = self._passed_per_s() if depth is not None else 0.0
        except LogUnavailable:
            depth, passed_per_s = None, 0.0
        self._admission.step(depth, passed_per_s, monotonic())

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
        self._lag.labels(group.name).set(lag)
        self._expired.labels(group.name).set(_expired(committed, edges))
        self._displaced.labels(group.name).set(len(follower.faults))
        self._undecided.labels(group.source.name).set(sum(each.undecided for each in edges.values()))
        return lag

    def _passed_per_s(self) -> float:
        name = self._pacing.name
        progress = self._followers[name].progress().values()
        before = self._before
        self._before = monotonic(), {name: sum(each.committed or 0 for each in progress)}
        return 0.0 if before is None else rates_per_s(before, self._before).get(name, 0.0)


def _expired(committed: Mapping[int, int], edges: Mapping[int, Edges]) -> int:
    return sum(max(0, edges[each].first - offset) for each, offset in committed.items())
