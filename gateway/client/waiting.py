"""The events of one run that wait to be sent: bounded in count and in bytes, and counted until each is settled."""

import asyncio
from collections import deque

from gateway.client.bounds import Bounds
from gateway.client.encoding import PendingEvent


class EventQueue:
    """A queue for one reader in one event loop. Only `has_room` bounds it: ask before `add`."""

    def __init__(self, bounds: Bounds) -> None:
        """Start empty."""
        self._bounds = bounds
        self._waiting: deque[PendingEvent] = deque()
        self._held_count = 0  # waiting or being sent
        self._held_bytes = 0
        self._closed = False
        self._added = asyncio.Event()
        self._settled = asyncio.Event()

    def has_room(self, size_bytes: int) -> bool:
        """Return True if an event of *size_bytes* may be added; one that is larger than the bound may be held alone."""
        if not self._held_count:
            return True
        within = self._held_bytes + size_bytes <= self._bounds.queue_bytes_max
        return within and self._held_count < self._bounds.queue_events_max

    @property
    def is_half_empty(self) -> bool:
        """
        Return True if there is room for many events: what other threads hand over is counted only when it arrives.
        """
        within = 2 * self._held_bytes <= self._bounds.queue_bytes_max
        return within and 2 * self._held_count <= self._bounds.queue_events_max

    async def wait_settled(self) -> None:
        """Wait until an event is settled, which may make room."""
        self._settled.clear()
        await self._settled.wait()

    def add(self, event: PendingEvent) -> None:
        """Append *event*."""
        self._waiting.append(event)
        self._held_count += 1
        self._held_bytes += event.size_bytes
        self._added.set()

    def settle(self, event_count: int, size_bytes: int) -> None:
        """Give back the room of events that were taken and are now accepted or dropped."""
        self._held_count -= event_count
        self._held_bytes -= size_bytes
        self._settled.set()

    def close(self) -> None:
        """Let `take` return once nothing waits."""
        self._closed = True
        self._added.set()

    async def take(self) -> list[PendingEvent]:
        """Wait for events and return as many as one batch holds; [] once the queue is closed and empty."""
        while not self._waiting and not self._closed:
            self._added.clear()
            await self._added.wait()
        return [self._waiting.popleft() for _ in range(min(len(self._waiting), self._bounds.batch_events_max))]

    def drain(self) -> list[PendingEvent]:
        """Return everything that waits, and hold it no longer."""
        left = list(self._waiting)
        self._waiting.clear()
        return left
