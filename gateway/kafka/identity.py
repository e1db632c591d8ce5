"""Detection of a topic that was deleted and recreated, so that the store holds positions of another topic."""

from collections.abc import Sequence
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
    """A regular check of topic ids against those that the store remembers; an async context manager."""

    def __init__(self, topics: Sequence[str], source: Log, store: RememberedTopics) -> None:
        """Ask *source* and *store* for the id of each of *topics*; what did not answer counts as unchanged."""
        self._topics = topics
        self._log = source
        self._store = store
        self._expected: dict[str, str] = {}
        self._problems: dict[str, str] = {}

    @property
    def problem(self) -> str | None:
        """Return why the log is not the one that it was; None if it is."""
        return "; ".join(self._problems.values()) or None

    async def refresh(self) -> None:
        """Look once."""
        for topic in self._topics:
            with suppress(StoreUnavailable):
                if (remembered := await self._store.topic_id(topic)) is not None:
                    self._expected[topic] = remembered
            with suppress(LogUnavailable, QueueFull):
                found = await self._log.topic_id(topic)
                if found is not None:
                    self._expected.setdefault(topic, found)
                self._note(topic, found)

    def _note(self, topic: str, found: str | None) -> None:
        problem = None
        if found is None:
            problem = f"the topic {topic} does not exist: run `tidegate topics create`"
        elif found != self._expected[topic]:
            problem = f"the topic {topic} was deleted and created again: run `tidegate topics accept`"
        if problem != self._problems.get(topic):
            log.error("topic changed", error=problem) if problem else log.info("topic accepted", topic=topic)
        self._problems.pop(topic, None)
        if problem is not None:
            self._problems[topic] = problem
