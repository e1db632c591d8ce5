"""
Records to bytes and back, in Confluent's wire format: byte 0, schema id (4 bytes, big-endian), Avro body.

Ids and schemas come from the registry file in the repository: nothing is asked over the network. A domain declares its
types of record (`RecordType`); a `Codec` knows those that it is given, and no other.
"""

import io
import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Generic, TypeVar

import msgspec
from fastavro import parse_schema, schemaless_reader, schemaless_writer

from schemas.errors import Poison, Reason
from schemas.kafka import registry

FRAME = struct.Struct(">bI")  # magic byte and schema id
MAGIC = 0

R = TypeVar("R", bound=msgspec.Struct)
R_co = TypeVar("R_co", bound=msgspec.Struct, covariant=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shortcut(Generic[R]):
    """A faster writer and reader of one schema version, which agree with fastavro in every byte."""

    schema_id: int
    write: Callable[[R], bytes | None]  # the Avro body; None: fastavro must write this record
    read: Callable[[bytes, int], R | None]  # the record whose body begins at an index; None: fastavro must read it


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)  # hashable, though its converters are not
class RecordType(Generic[R_co]):
    """A type of record: its full Avro name, its class, and what turns values of Avro into those of its fields."""

    name: str
    cls: type[R_co]
    converters: Mapping[str, Callable[[Any], Any]] = field(default_factory=dict)
    shortcut: Shortcut[Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Version:
    """One released version of a schema, ready to be read."""

    type: RecordType[Any]
    written: Any  # the schema
    resolved: Any  # the schema of the newest version, where that is another


class Codec(Generic[R]):
    """An encoder and decoder of given record types."""

    def __init__(self, types: Iterable[RecordType[R]]) -> None:
        by_name = {each.name: each for each in types}
        newest = {name: entry for name, entry in registry.last_released().items() if name in by_name}
        schemas = {name: parse_schema(dict(entry.schema)) for name, entry in newest.items()}
        self._versions: dict[int, _Version] = {
            entry.id: _Version(
                type=by_name[entry.record_name],
                written=parse_schema(dict(entry.schema)),
                resolved=None if newest[entry.record_name].id == entry.id else schemas[entry.record_name],
            )
            for entry in registry.released()
            if entry.record_name in by_name
        }
        self._writers = {by_name[name].cls: (_frame(entry.id), schemas[name]) for name, entry in newest.items()}
        shortcuts = [(each, each.shortcut) for each in by_name.values() if each.shortcut is not None]
        self._short_readers = {_frame(shortcut.schema_id): shortcut.read for _, shortcut in shortcuts}
        self._short_writers = {
            each.cls: (_frame(shortcut.schema_id), shortcut.write)
            for each, shortcut in shortcuts
            if newest[each.name].id == shortcut.schema_id  # else it would write an old version
        }

    def encode(self, record: R) -> bytes:
        """Return the framed bytes of *record*."""
        if (short := self._short_writers.get(type(record))) is not None:
            frame, write = short
            if (body := write(record)) is not None:
                return frame + body
        return self.encode_by_schema(record)

    def encode_by_schema(self, record: R) -> bytes:
        """Return what `encode` does, without any shortcut."""
        frame, schema = self._writers[type(record)]
        body = io.BytesIO()
        body.write(frame)
        schemaless_writer(body, schema, msgspec.to_builtins(record, builtin_types=(bytes, datetime)))
        return body.getvalue()

    def decode(self, value: bytes | None) -> R:
        """
        Return the record in *value*.

        Raises:
            Poison: no frame, an id that was never released or is of another type, or a body that its schema does not
                describe.
        """
        if value is None or len(value) < FRAME.size:
            raise Poison(Reason.UNDECODABLE, "shorter than the 5 bytes of magic byte and schema id")
        read = self._short_readers.get(value[: FRAME.size])
        if read is not None and (record := read(value, FRAME.size)) is not None:
            return record  # type: ignore[no-any-return]  # of a type that this codec was given
        return self.decode_by_schema(value)

    def decode_by_schema(self, value: bytes) -> R:
        """Return or raise what `decode` does, without any shortcut; *value* has a frame."""
        magic, schema_id = FRAME.unpack_from(value)
        if magic != MAGIC:
            raise Poison(Reason.UNDECODABLE, f"magic byte is {magic}, not {MAGIC}")
        if (version := self._versions.get(schema_id)) is None:
            raise Poison(Reason.UNKNOWN_SCHEMA, _unknown(schema_id))
        name = version.type.cls.__name__
        body = io.BytesIO(value)
        body.seek(FRAME.size)
        try:
            fields: Any = schemaless_reader(body, version.written, version.resolved)
            for field_name, convert in version.type.converters.items():
                fields[field_name] = convert(fields[field_name])
            record: R = version.type.cls(**fields)
        except Exception as error:
            # fastavro names no error type of its own for a body that breaks the schema (EOFError, IndexError,
            # ValueError, UnicodeDecodeError, ...): whatever it raises says that these bytes are not the record.
            raise Poison(Reason.UNDECODABLE, f"no {name}: {type(error).__name__}: {error}") from error
        if body.tell() != len(value):
            raise Poison(Reason.UNDECODABLE, f"{len(value) - body.tell()} bytes follow the {name}")
        return record


def _frame(schema_id: int) -> bytes:
    return FRAME.pack(MAGIC, schema_id)


def _unknown(schema_id: int) -> str:
    for entry in registry.released():
        if entry.id == schema_id:
            return f"schema id {schema_id} is a {entry.record_name}, which does not belong on this topic"
    return f"schema id {schema_id} was never released"
