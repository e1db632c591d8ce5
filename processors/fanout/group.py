"""The consumer group of one fanout process: its own, for as long as it runs, so that each gets every record."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field

from processors.fanout.streams.table import SOURCES
from schemas.kafka.topics import Topic

START_ID_BYTES = 6


@dataclass(frozen=True, slots=True)
class FanoutGroup:
    """A group that commits nothing, and that Kafka drops when it has ended; `schemas.catalogue` does not list it."""

    name: str = "fanout"
    sources: Sequence[Topic] = tuple(source.topic for source in SOURCES.values())
    start_id: str = field(default_factory=lambda: secrets.token_hex(START_ID_BYTES))

    @property
    def id(self) -> str:
        """Return Kafka's group.id."""
        return f"tidegate.{self.name}.{self.start_id}"
