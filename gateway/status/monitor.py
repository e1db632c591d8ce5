"""The status of the log and its groups, measured for all who ask at most once a second."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from time import monotonic

import msgspec

from gateway.kafka.followers import GroupFollower, PartitionProgress
from gateway.kafka.publisher import Publisher
from gateway.kafka.rates import rates_per_s
from gateway.kafka.reader import Edges, Log
from gateway.status.endpoints import EndpointViews
from gateway.status.views import (
    GatewayStatus,
    GroupPartitionStatus,
    GroupStatus,
    PartitionStatus,
    TopicStatus,
    WalStatus,
)
from schemas.access.credentials import Principal
from schemas.catalogue import all_topics
from schemas.kafka.places import RecordPlace
from schemas.kafka.positions import PositionFault
from schemas.kafka.topics import Group
from schemas.pacing.admission import Admission
from schemas.runs.topics import endpoint_of

FRESH_S = 1.0


class StatusMonitor:
    """A monitor that measures the status and caches it for a second."""

    def __init__(
        self,
        *,
        log: Log,
        followers: Mapping[str, GroupFollower],
        endpoints: EndpointViews,
        publisher: Publisher,
        admission: Admission,
        clock: Callable[[], datetime],
        clock_s: Callable[[], float] = monotonic,
    ) -> None:
        """Look into *log*; *followers*, by group name, know how far each group is."""
        self._log = log
        self._followers = followers
        self._endpoints = endpoints
        self._publisher = publisher
        self._admission = admission
        self._clock = clock
        self._clock_s = clock_s
        self._measuring: asyncio.Task[WalStatus] | None = None
        self._measured_at_s = 0.0
        self._before: tuple[float, Mapping[str, int]] | None = None  # when, and how far each topic was

    async def status(self, principal: Principal) -> WalStatus:
        """
        Return what *principal* may see of the status, a second old at most; who asks meanwhile waits for the same
        measurement.

        Raises:
            QueueFull, LogUnavailable: see `Log`.
        """
        now_s = self._clock_s()
        if self._measuring is None or (self._measuring.done() and now_s - self._measured_at_s >= FRESH_S):
            self._measured_at_s = now_s
            self._measuring = asyncio.create_task(self._measure())
        status = await asyncio.shield(self._measuring)
        hidden = [
            follower.group
            for follower in list(self._followers.values())
            if not self._endpoints.is_seen(follower.group, principal)
        ]
        return status if not hidden else _without(status, hidden)

    async def _measure(self) -> WalStatus:
        # One that does not answer while the log does has lost its topics: an endpoint or a sink that was removed.
        followers = [each for each in list(self._followers.values()) if each.group.family is None or each.is_answered]
        topics = all_topics(follower.group for follower in followers)
        edges = {topic.name: await self._log.edges(topic.name) for topic in topics}
        written = {name: sum(each.end for each in partitions.values()) for name, partitions in edges.items()}
        before, self._before = self._before, (self._clock_s(), written)
        rates = {} if before is None else rates_per_s(before, self._before)
        return WalStatus(
            measured_at=self._clock(),
            topics=[_topic(name, partitions, rates.get(name)) for name, partitions in edges.items()],
            groups=[await self._group(follower, edges) for follower in followers],
            gateway=GatewayStatus(
                in_flight_records=self._publisher.in_flight,
                admission_multiplier=self._admission.multiplier,
                admitted_per_s=self._admission.rate_per_s,
            ),
        )

    async def _group(self, follower: GroupFollower, edges: Mapping[str, Mapping[int, Edges]]) -> GroupStatus:
        group = follower.group
        source = edges[group.source.name]
        progress = follower.progress()
        faults = await self._log.faults(group.source.name, {each: progress[each].position for each in progress})
        waiting = {
            partition: RecordPlace(group.source.name, partition, max(each.committed, source[partition].first))
            for partition, each in progress.items()
            if each.committed is not None and partition in source and each.committed < source[partition].end
        }
        written_at = await self._log.written_at(list(waiting.values()))
        membership = await self._log.membership(group)
        now = self._clock()
        partitions = []
        for partition, each in sorted(progress.items()):
            since = written_at.get(waiting[partition]) if partition in waiting else now
            partitions.append(
                _partition(
                    partition,
                    each,
                    end=source[partition].end,
                    since=since,
                    now=now,
                    fault=faults.get(partition),
                )
            )
        ages_s = [each.lag_s for each in partitions if each.lag_s is not None]
        return GroupStatus(
            group=group.name,
            topic=group.source.name,
            state=None if membership is None else membership.state,
            members=None if membership is None else membership.members,
            lag_records=sum(each.lag_records or 0 for each in partitions)
            + sum(_lag(follower, topic.name, edges) for topic in group.beside),
            lag_s=max(ages_s, default=None),
            dead_letters=sum(each.end - each.first for each in edges[group.dead_letters.name].values()),
            deferred=sum(_lag(follower, tier.topic.name, edges) for tier in group.tiers),
            sent_back=_lag(follower, group.redrive.name, edges),
            endpoint=self._endpoints.status(endpoint_of(group)),
            partitions=partitions,
        )


def _without(status: WalStatus, hidden: Sequence[Group]) -> WalStatus:
    topics = {topic.name for group in hidden for topic in (*group.sources, group.dead_letters, group.settled)}
    topics -= {topic.name for group in hidden for topic in (group.source, *group.beside)}
    names = {group.name for group in hidden}
    return msgspec.structs.replace(
        status,
        topics=[each for each in status.topics if each.topic not in topics],
        groups=[each for each in status.groups if each.group not in names],
    )


def _lag(follower: GroupFollower, topic: str, edges: Mapping[str, Mapping[int, Edges]]) -> int:
    """Return the records of *topic* that the group has not come to."""
    progress = follower.progress(topic)
    ends = {each: place.end for each, place in edges[topic].items()}
    return sum(max(0, ends.get(each, 0) - (place.committed or 0)) for each, place in progress.items())


def _topic(name: str, partitions: Mapping[int, Edges], rate_per_s: float | None) -> TopicStatus:
    return TopicStatus(
        topic=name,
        records_per_s=rate_per_s,
        partitions=[
            PartitionStatus(
                partition=partition,
                first_offset=each.first,
                end_offset=each.end,
                undecided_records=each.undecided,
            )
            for partition, each in sorted(partitions.items())
        ],
    )


def _partition(
    partition: int,
    progress: PartitionProgress,
    *,
    end: int,
    since: datetime | None,
    now: datetime,
    fault: PositionFault | None,
) -> GroupPartitionStatus:
    committed = progress.committed
    return GroupPartitionStatus(
        partition=partition,
        committed=committed,
        lag_records=None if committed is None else max(0, end - committed),
        lag_s=None if since is None or committed is None else max(0.0, (now - since).total_seconds()),
        last_progress_at=progress.moved_at,
        fault=None if fault is None else fault.value,
    )
