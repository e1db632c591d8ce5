"""Messages to websockets: JSON, each in a websocket frame that is built once for all sockets."""

import struct
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

import msgspec

from schemas.kafka.places import Partition, RecordPlace
from schemas.objects.references import Kept, PayloadRef
from schemas.runs import pushed as documents
from schemas.runs.pushed import EventDocument, FinalizedDocument, event_document, finalized_document
from schemas.runs.records import RunEvent, RunFinalized, TraceRecord, reference_of

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


# Whose messages: ("run", tenant, run_id) or ("agent", tenant, agent_id).
Key = tuple[str, str, str]


class Message:
    """One message in its frame, and the place in the stream that it brings its reader to."""

    __slots__ = ("cursor", "frame")

    def __init__(self, payload: bytes, cursor: str | None = None) -> None:
        """Frame *payload*, a JSON text; *cursor* is None where it does not tell of a record."""
        self.frame = framed(payload)
        self.cursor = cursor


class StreamRecord:
    """A valid record that sockets may be sent."""

    __slots__ = (
        "_rest",
        "agent_id",
        "kept",
        "keys",
        "kind",
        "offset",
        "partition",
        "run_id",
        "seq",
        "timestamp_ms",
        "value",
    )

    def __init__(
        self,
        value: RunEvent | RunFinalized | TraceRecord,
        *,
        partition: Partition,
        offset: int,
        timestamp_ms: int,
        kept: Kept | None = None,
    ) -> None:
        """Hold *value*, found at *offset* of *partition*; *kept* is what its payload's reference stands for."""
        self.partition = partition
        self.offset = offset
        self.timestamp_ms = timestamp_ms
        self.run_id = value.run_id
        self.agent_id: str | None = None
        self.seq = 0
        self.keys: tuple[Key, ...] = (("run", value.tenant, value.run_id),)
        if isinstance(value, RunEvent):
            self.kind = Kind.TRACE_EVENT
            self.agent_id, self.seq = value.agent_id, value.seq
            self.keys = (*self.keys, ("agent", value.tenant, value.agent_id))
        else:
            self.kind = Kind.RUN_FINALIZED if isinstance(value, RunFinalized) else Kind.TRACE_RECORD
        self.kept = kept
        self.value = value
        self._rest: bytes | None = None

    @property
    def reference(self) -> PayloadRef | None:
        """Return what stands for the record's payload, if that is kept in object storage."""
        return reference_of(self.value)

    @property
    def size_bytes(self) -> int:
        """Return the approximate size of its message."""
        return ORDINARY_BYTES_MAX + (len(self.kept) if isinstance(self.kept, bytes) else 0)

    def resolved(self, kept: Kept) -> "StreamRecord":
        """Return the same record, for who asked for what its reference stands for."""
        return StreamRecord(
            self.value, partition=self.partition, offset=self.offset, timestamp_ms=self.timestamp_ms, kept=kept
        )

    def message(self, cursor: str) -> Message:
        """Return the message for who gets to *cursor* by it; what all have in common is encoded once."""
        if self._rest is None:
            self._rest = _ENCODER.encode(self._members())[1:]
        head = b'{"type":"%b","cursor":"%b",' % (self.kind.encode(), cursor.encode())
        return Message(head + self._rest, cursor)

    def _members(self) -> Mapping[str, Any]:
        record = self.value
        if isinstance(record, TraceRecord):
            return {"run_id": record.run_id, "trace": msgspec.Raw(record.document.encode())}
        wal_id = RecordPlace(*self.partition, self.offset).wal_id
        document: EventDocument | FinalizedDocument
        if isinstance(record, RunFinalized):
            document = finalized_document(record)
            return {**msgspec.structs.asdict(document), "wal_id": wal_id}
        document = event_document(record, self.kept)
        return {"event": document, "wal_id": wal_id}


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
