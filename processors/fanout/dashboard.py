"""The dashboard's stream: once a second what happened in a tenant, and how the groups stand; not every event."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Self

import msgspec

from processors.fanout.messages import Message, plain
from processors.fanout.outbox import Outbox
from processors.fanout.tallies import StreamCounts, Tallies
from processors.runtime.errors import Transient
from schemas.catalogue import find_group
from schemas.kafka.topics import Group
from schemas.pacing.breaker import BreakerState
from schemas.runs.records import EndpointState
from schemas.runs.topics import endpoint_of
from schemas.sinks.topics import sink_of

EVERY_S = 1.0
STATUS_FRESH_S = 5.0  # how long the groups' state is shown while Kafka does not tell a newer one


class GroupStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The status of one consumer group, for all tenants together."""

    group: str
    lag_records: int
    dead_letters: int  # in its topic, those that were sent back or dropped included


class EndpointStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The status of one webhook endpoint, as its worker last reported it."""

    name: str
    breaker: BreakerState
    reason: str | None
    since: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemStatus:
    """The known state of the consumer groups, and of the endpoints by name."""

    groups: Sequence[GroupStatus]
    endpoints: Mapping[str, EndpointState]

    def groups_of(self, tenant: str) -> Sequence[GroupStatus]:
        """Return those that *tenant* may hear of: not those of another tenant's endpoints, nor of sinks."""
        return [each for each in self.groups if self._is_seen(find_group(each.group), tenant)]

    def endpoints_of(self, tenant: str) -> Sequence[EndpointStatus]:
        """Return those that *tenant* may hear of."""
        return [
            EndpointStatus(name=state.endpoint, breaker=state.breaker, reason=state.reason, since=state.since)
            for state in self.endpoints.values()
            if state.tenant in (None, tenant)
        ]

    def _is_seen(self, group: Group | None, tenant: str) -> bool:
        if group is not None and sink_of(group) is not None:
            return False  # the deployment's own
        if group is None or (endpoint := endpoint_of(group)) is None:
            return True
        state = self.endpoints.get(endpoint)  # None: whose it is, its worker has not said
        return state is not None and state.tenant in (None, tenant)


class Dashboard:
    """The publisher of the dashboard's messages to its watchers; an async context manager."""

    def __init__(
        self,
        tallies: Tallies,
        read_status: Callable[[], Awaitable[SystemStatus]],
        *,
        now: Callable[[], datetime],
        clock: Callable[[], float],
    ) -> None:
        """Publish the counts of *tallies* and the result of *read_status*, which raises Transient without Kafka."""
        self._tallies = tallies
        self._read_status = read_status
        self._now = now
        self._clock = clock
        self._watchers: dict[str, dict[Outbox, None]] = {}
        self._stood: SystemStatus | None = None
        self._stood_at_s = 0.0
        self._measuring: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Start to publish."""
        self._task = asyncio.create_task(self._go_on(), name="dashboard")
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop publishing."""
        for task in (self._task, self._measuring):
            if task is not None:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task

    def join(self, tenant: str, outbox: Outbox) -> Callable[[], None]:
        """Send messages about *tenant* to *outbox* until the returned function is called."""
        self._watchers.setdefault(tenant, {})[outbox] = None
        self._tallies.watch(tenant)

        def leave() -> None:
            del self._watchers[tenant][outbox]
            if not self._watchers[tenant]:
                del self._watchers[tenant]
            self._tallies.unwatch(tenant)

        return leave

    def publish(self) -> None:
        """Send every watcher the counts since the last time."""
        stood = self._stood if self._clock() - self._stood_at_s <= STATUS_FRESH_S else None
        for tenant, tally in self._tallies.collect().items():
            message = _message(tenant, tally, stood, self._now())
            for outbox in self._watchers.get(tenant, {}):
                outbox.put(message)
                outbox.flush()

    async def _go_on(self) -> None:
        while True:
            await asyncio.sleep(EVERY_S)
            if self._watchers and (self._measuring is None or self._measuring.done()):
                self._measuring = asyncio.create_task(self._measure())
            self.publish()

    async def _measure(self) -> None:
        with suppress(Transient):
            self._stood = await self._read_status()
            self._stood_at_s = self._clock()


def _message(tenant: str, tally: StreamCounts, stood: SystemStatus | None, now: datetime) -> Message:
    return plain(
        "dashboard",
        at=now,
        counts=dict(tally.types),
        finalized_count=tally.finalized_count,
        finalized=tally.finalized,
        # null while Kafka does not tell
        groups=None if stood is None else stood.groups_of(tenant),
        endpoints=None if stood is None else stood.endpoints_of(tenant),
    )
