"""
The consumer groups that this cluster has, each followed: the declared ones, and one for each webhook endpoint.

Endpoints come and go while the gateway runs: it looks for their topics now and then.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Self

from confluent_kafka import Consumer

from gateway.errors import LogUnavailable
from gateway.kafka.consumer import REQUEST_S, looking_consumer
from gateway.kafka.followers import CommittedOffsets, GroupFollower
from gateway.kafka.thread import ClientThread
from schemas.kafka.connection import KafkaSettings
from schemas.kafka.topics import Group

POLL_INTERVAL_S = 5.0
GROUPS_MAX = 100  # followed: each takes a thread and a connection


class Groups:
    """Followers of all groups; an async context manager."""

    def __init__(
        self,
        kafka: KafkaSettings,
        *,
        declared: Sequence[Group],
        among: Callable[[Iterable[str]], Sequence[Group]],
        clock: Callable[[], datetime],
    ) -> None:
        """Connect in the background; *among* returns the groups that read the topics of these names."""
        self._kafka = kafka
        self._declared = declared
        self._among = among
        self._clock = clock
        self._thread = ClientThread("kafka-groups")
        self._consumer: Consumer = looking_consumer(kafka, group_id="tidegate.gateway")
        self._followers: dict[str, GroupFollower] = {}

    @property
    def followers(self) -> Mapping[str, GroupFollower]:
        """Return the followers by group name; the set changes when an endpoint is added or its topics are deleted."""
        return self._followers

    async def __aenter__(self) -> Self:
        """Follow the declared groups, and those of endpoints that are there."""
        for group in self._declared:
            await self._follow(group)
        await self._look()
        self._task = asyncio.create_task(self._go_on_looking())
        return self

    async def __aexit__(self, *_: object) -> None:
        """Follow no more."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        for name in list(self._followers):
            await self._leave(name)
        await self._thread.close(self._consumer.close)

    async def _go_on_looking(self) -> None:
        while True:
            await asyncio.sleep(POLL_INTERVAL_S)
            await self._look()

    async def _look(self) -> None:
        with suppress(LogUnavailable):  # asked again soon
            there = self._among(await self._thread.run(self._topic_names))[:GROUPS_MAX]
            for name in self._followers.keys() - {group.name for group in there}:
                await self._leave(name)
            for group in there:
                if group.name not in self._followers:
                    await self._follow(group)

    async def _follow(self, group: Group) -> None:
        follower = GroupFollower(group, CommittedOffsets(self._kafka, group), clock=self._clock)
        self._followers[group.name] = await follower.__aenter__()

    async def _leave(self, name: str) -> None:
        await self._followers.pop(name).__aexit__(None, None, None)

    def _topic_names(self) -> list[str]:
        return list(self._consumer.list_topics(timeout=REQUEST_S).topics)
