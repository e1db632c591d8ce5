"""
Records to bytes and back, in Confluent's wire format: byte 0, schema id (4 bytes, big-endian), Avro body.

Ids and schemas come from the registry file in the repository: nothing is asked over the network.
"""

import io
import struct
from typing import Any

import msgspec
from fastavro import parse_schema, schemaless_reader, schemaless_writer

from schemas import plain_event, registry
from schemas.errors import Poison, Reason
from schemas.events import (
    BreakerState,
    EndpointState,
    EnvironmentCaptured,
    PayloadRef,
    Record,
    RunEvent,
    RunFinalized,
    RunStatus,
    TraceRecord,
)

FRAME = struct.Struct(">bI")  # magic byte and schema id
MAGIC = 0

_TYPES: dict[str, type[Record]] = {
    **{f"tidegate.runs.{each.__name__}": each for each in (RunEvent, EnvironmentCaptured, RunFinalized, TraceRecord)},
    f"tidegate.evaluation.{EndpointState.__name__}": EndpointState,
}
_LATEST = registry.last_released()
_READER_SCHEMA = {name: parse_schema(dict(entry.schema)) for name, entry in _LATEST.items()}
_WRITERS = {_TYPES[name]: (FRAME.pack(MAGIC, entry.id), _READER_SCHEMA[name]) for name, entry in _LATEST.items()}
# Per id: the schema it was written with, the one to resolve it to (None: the same), the type to build.
_READERS: dict[int, tuple[Any, Any, type[Record]]] = {
    entry.id: (
        parse_schema(dict(entry.schema)),
        None if _LATEST[entry.record_name].id == entry.id else _READER_SCHEMA[entry.record_name],
        _TYPES[entry.record_name],
    )
    for entry in registry.released()
}
_PLAIN = FRAME.pack(MAGIC, plain_event.SCHEMA_ID)
_WRITES_PLAIN = _WRITERS[RunEvent][0] == _PLAIN  # else the short way would write an old version


def encode(record: Record) -> bytes:
    """Return the framed bytes of *record*."""
    if _WRITES_PLAIN and isinstance(record, RunEvent) and (plain := plain_event.write_event(record)) is not None:
        return _PLAIN + plain
    return _encode_by_schema(record)


def _encode_by_schema(record: Record) -> bytes:
    frame, schema = _WRITERS[type(record)]
    body = io.BytesIO()
    body.write(frame)
    fields = msgspec.structs.asdict(record)
    if isinstance(reference := fields.get("payload_ref"), PayloadRef):
        fields["payload_ref"] = msgspec.structs.asdict(reference)
    schemaless_writer(body, schema, fields)
    return body.getvalue()


def decode(value: bytes | None) -> Record:
    """
    Return the record in *value*.

    Raises:
        Poison: no frame, an id that was never released, or a body that its schema does not describe.
    """
    if value is None or len(value) < FRAME.size:
        raise Poison(Reason.UNDECODABLE, "shorter than the 5 bytes of magic byte and schema id")
    if value.startswith(_PLAIN) and (event := plain_event.read_event(value, FRAME.size)) is not None:
        return event
    return _decode_by_schema(value)


def _decode_by_schema(value: bytes) -> Record:
    magic, schema_id = FRAME.unpack_from(value)
    if magic != MAGIC:
        raise Poison(Reason.UNDECODABLE, f"magic byte is {magic}, not {MAGIC}")
    if schema_id not in _READERS:
        raise Poison(Reason.UNKNOWN_SCHEMA, f"schema id {schema_id} was never released")
    writer, reader, record_type = _READERS[schema_id]
    body = io.BytesIO(value)
    body.seek(FRAME.size)
    try:
        fields: Any = schemaless_reader(body, writer, reader)
    except Exception as error:
        # fastavro names no error type of its own for a body that breaks the schema (EOFError, IndexError,
        # ValueError, UnicodeDecodeError, ...): whatever it raises says that these bytes are not the record.
        raise Poison(Reason.UNDECODABLE, f"no {record_type.__name__}: {type(error).__name__}: {error}") from error
    if body.tell() != len(value):
        raise Poison(Reason.UNDECODABLE, f"{len(value) - body.tell()} bytes follow the {record_type.__name__}")
    if record_type is RunEvent:
        if (reference := fields["payload_ref"]) is not None:
            fields["payload_ref"] = PayloadRef(**reference)
    elif "status" in fields:
        fields["status"] = RunStatus(fields["status"])
    elif "breaker" in fields:
        fields["breaker"] = BreakerState(fields["breaker"])
    return record_type(**fields)


def endpoint_state(value: bytes | None) -> EndpointState | None:
    """The state in *value*, of the endpoints' topic; None for what others wrote there: everyone may who has access."""
    try:
        record = decode(value)
    except Poison:
        return None
    return record if isinstance(record, EndpointState) else None
