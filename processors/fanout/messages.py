"""Messages to websockets: JSON, each in a websocket frame that is built once for all sockets."""

import struct
from abc import ABC, abstractmethod
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

import msgspec

from schemas.kafka.places import Partition, RecordPlace
from schemas.objects.references import Kept, PayloadRef
from schemas.runs import pushed as documents

_TEXT = 0x81  # RFC 6455, 5.2: a whole message, of text
_CLOSE = 0x88
_BYTE_MAX = 125  # longer ones say their length in two bytes, or in eight
_SHORT_MAX = 0xFFFF
ORDINARY_BYTES_MAX = 1024 * 1024  # of a message that tells of a record as it is in the log

_ENCODER = msgspec.json.Encoder()


class Kind(StrEnum):
    """The `type` of a message that tells of a record."""

    TRACE_EVENT = documents.TRACE_EVENT
    RUN_FINALIZED = documents.RUN_FINALIZED
    TRACE_RECORD = "trace_record"
    TASK_STATE = "task_state"
    TASK_PROGRESS = "task_progress"
    TASK_OUTPUT = "task_output"


# Whose messages: the name of a stream, the tenant, and what is followed, such as ("run", tenant, run_id).
Key = tuple[str, str, str]


class Message:
    """One message in its frame, and the place in the stream that it brings its reader to."""

    __slots__ = ("cursor", "frame")

    def __init__(self, payload: bytes, cursor: str | None = None) -> None:
        """Frame *payload*, a JSON text; *cursor* is None where it is not about a record."""
        self.frame = framed(payload)
        self.cursor = cursor


class StreamRecord(ABC):
    """A valid record that sockets may be sent; each domain has a class of its own (`streams/`)."""

    __slots__ = ("_rest", "kept", "keys", "kind", "offset", "partition", "seq", "timestamp_ms")

    def __init__(
        self,
        kind: Kind,
        keys: tuple[Key, ...],
        *,
        seq: int,
        partition: Partition,
        offset: int,
        timestamp_ms: int,
        kept: Kept | None = None,
    ) -> None:
        """
        Describe what was found at *offset* of *partition* for the sockets of *keys*.

        *seq* numbers the records of one kind and one subject; 0 where they have no numbers. *kept* is what its
        payload's reference stands for.
        """
        self.kind = kind
        self.keys = keys
        self.seq = seq
        self.partition = partition
        self.offset = offset
        self.timestamp_ms = timestamp_ms
        self.kept = kept
        self._rest: bytes | None = None

    @abstractmethod
    def members(self) -> Mapping[str, Any]:
        """Return the members of its message, but for `type` and `cursor`."""

    @property
    def reference(self) -> PayloadRef | None:
        """Return what stands for the record's payload, if that is kept in object storage."""
        return None

    @property
    def held_characters(self) -> int:
        """Return the length of its largest text: most of the memory that it takes."""
        return 0

    def resolved(self, kept: Kept) -> "StreamRecord":  # noqa: ARG002  a domain with references overrides it
        """Return the same record, for who asked for what its reference stands for, which is *kept*."""
        return self

    @property
    def wal_id(self) -> str:
        """Return its position in the log as users see it."""
        return RecordPlace(*self.partition, self.offset).wal_id

    @property
    def size_bytes(self) -> int:
        """Return the approximate size of its message."""
        return ORDINARY_BYTES_MAX + (len(self.kept) if isinstance(self.kept, bytes) else 0)

    def message(self, cursor: str) -> Message:
        """Return the message for who gets to *cursor* by it; what all have in common is encoded once."""
        if self._rest is None:
            self._rest = _ENCODER.encode(self.members())[1:]
        head = b'{"type":"%b","cursor":"%b",' % (self.kind.encode(), cursor.encode())
        return Message(head + self._rest, cursor)


def plain(kind: str, *, cursor: str | None = None, **members: Any) -> Message:
    """Return a message that tells of no record."""
    given = {"type": kind} | ({} if cursor is None else {"cursor": cursor}) | members
    return Message(_ENCODER.encode(given), cursor)


def framed(payload: bytes) -> bytes:
    """Return the frame of a server's text message (RFC 6455, 5.2): whole, unmasked, not compressed."""
    size = len(payload)
    if size <= _BYTE_MAX:
        return struct.pack("!BB", _TEXT, size) + payload
    if size <= _SHORT_MAX:
        return struct.pack("!BBH", _TEXT, 126, size) + payload
    return struct.pack("!BBQ", _TEXT, 127, size) + payload


def closing_frame(code: int, reason: str) -> bytes:
    """Return the frame by which a server closes (RFC 6455, 5.5.1); *reason* is a short word."""
    payload = struct.pack("!H", code) + reason.encode()
    return struct.pack("!BB", _CLOSE, len(payload)) + payload
