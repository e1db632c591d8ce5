"""The declarations of a domain's live streams: the topics they come from, and what a socket may follow."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from processors.fanout.messages import StreamRecord
from processors.runtime.reading import Check
from schemas.access.credentials import Credentials
from schemas.errors import Reason, Rejection
from schemas.kafka.codec import Codec
from schemas.kafka.places import Partition
from schemas.kafka.topics import Topic


class Selection(Protocol):
    """The choice of records for one socket: no repetitions, and nothing that it may not see."""

    def takes(self, record: StreamRecord) -> bool:
        """Note that *record*, which has the socket's key, is sent to it; False if it must not be."""


class RecordFactory(Protocol):
    """A constructor of what sockets are sent."""

    def __call__(self, value: Any, *, partition: Partition, offset: int, timestamp_ms: int) -> StreamRecord:
        """Return the record of *value*, found at *offset* of *partition*."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A topic, and how its records become those that sockets are sent."""

    topic: Topic
    codec: Codec[Any]
    check: Check[Any]  # of records that no process of ours has sealed
    is_sent: Callable[[Any, bytes | None], bool]  # a valid record, and the key that it has in the log
    record: RecordFactory
    after: Topic | None = None  # its records come behind those of this topic that were in the log before


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """A kind of stream that sockets follow."""

    name: str  # in keys and metrics
    path: str  # `{name}` in it is the third part of its sockets' keys; without it that part is empty
    # By tenant and name: the key of the records that a socket follows, by topic; None: all of the topic.
    # A cursor must cover the first topic.
    record_keys: Callable[[str, str], Mapping[str, bytes | None]]
    select: Callable[[frozenset[str] | None], Selection]  # by the agents that the socket's key is bound to
    resolves: bool = False  # whether its records may refer to payloads in object storage
    spans_agents: bool = False  # no part of it belongs to one agent: closed to keys that are bound to some

    @property
    def is_named(self) -> bool:
        """Return True if a socket follows one thing that its path names."""
        return "{name}" in self.path


def unsealed(_record: object, /, *, key: bytes | None, credentials: Credentials) -> Rejection | None:  # noqa: ARG001  # as `Check` has it
    """Reject every record that no process of ours has sealed: the check of topics that only such processes write."""
    return Rejection(reason=Reason.UNSIGNED_DIRECT, detail="no process of ours has sealed it")
