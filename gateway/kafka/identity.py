"""Detects that a topic was deleted and created again, so that the store holds places of another topic."""

from contextlib import suppress
from typing import Protocol

import structlog

from gateway.errors import LogUnavailable, QueueFull, StoreUnavailable
from gateway.kafka.periodic_reader import PeriodicReader
from gateway.kafka.reader import Log

log = structlog.get_logger()


class RememberedTopics(Protocol):
    """The port to the topics whose places are stored."""

    async def topic_id(self, topic: str) -> str | None:
        """
        Return Kafka's id of *topic* when its first record was stored; None if none was.

        Raises:
            StoreUnavailable: the store does not answer.
        """


class LogIdentity(PeriodicReader):
    """Compares the topic's id with the one that the store remembers; an async context manager."""

    def __init__(self, topic: str, source: Log, store: RememberedTopics) -> None:
        """Ask *source* and *store* for the id of *topic*; what did not answer counts as unchanged."""
        self._topic = topic
        self._log = source
        self._store = store
        self._expected: str | None = None
        self.problem: str | None = None  # why the log is not the one that it was; None: it is

    async def refresh(self) -> None:
        """Look once."""
        with suppress(StoreUnavailable):
            self._expected = await self._store.topic_id(self._topic) or self._expected
        with suppress(LogUnavailable, QueueFull):
            found = await self._log.topic_id(self._topic)
            self._expected = self._expected or found
            self._note(found)

    def _note(self, found: str | None) -> None:
        problem = None
        if found is None:
            problem = f"the topic {self._topic} does not exist: run `tidegate topics create`"
        elif found != self._expected:
            problem = f"the topic {self._topic} was deleted and created again: run `tidegate topics accept`"
        if problem != self.problem:
            log.error("topic changed", error=problem) if problem else log.info("topic accepted")
        self.problem = problem
