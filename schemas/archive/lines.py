"""
The lines of an archived object: one JSON object for each record.

`value` is the record's exact bytes, each as the character of its number (latin-1), and so are the key and the values
of headers: what was sealed stays sealed, and what cannot be decoded is kept as well. `record` is what the value decodes
to, for queries; a payload in it stays a JSON text, since a query tool would read its numbers as floating point.
"""

from collections.abc import Sequence
from typing import Any

import msgspec

from schemas.errors import Poison
from schemas.kafka.codec import Codec

LATIN_1 = "latin-1"

# DuckDB's types of the fields: what it would guess depends on the records that it happens to see first.
COLUMNS = {
    "topic": "VARCHAR",
    "partition": "INTEGER",
    "offset": "BIGINT",
    "timestamp": "BIGINT",
    "key": "VARCHAR",
    "headers": "VARCHAR[][]",
    "record": "JSON",
    "value": "VARCHAR",
}


class _Written(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    topic: str
    partition: int
    offset: int
    timestamp: int
    key: str | None
    headers: Sequence[tuple[str, str | None]]
    record: Any
    value: str | None
    cut: str | msgspec.UnsetType = msgspec.UNSET


class Line(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One archived record as it is read; `timestamp` is in milliseconds."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: str | None
    headers: Sequence[tuple[str, str | None]]
    record: msgspec.Raw
    value: str | None
    cut: str | None = None  # why the log could not give the record's bytes; None: they are all here

    @property
    def key_bytes(self) -> bytes | None:
        """Return the record's key."""
        return _bytes(self.key)

    @property
    def value_bytes(self) -> bytes | None:
        """Return the record's exact value."""
        return _bytes(self.value)

    @property
    def header_bytes(self) -> list[tuple[str, bytes | None]]:
        """Return the record's headers, in their order."""
        return [(name, _bytes(value)) for name, value in self.headers]


_ENCODER = msgspec.json.Encoder()
_DECODER = msgspec.json.Decoder(Line)


def write(
    *,
    topic: str,
    partition: int,
    offset: int,
    timestamp: int,
    key: bytes | None,
    headers: Sequence[tuple[str, bytes | None]],
    record: msgspec.Struct | None,
    value: bytes | None,
    cut: str | None = None,
) -> bytes:
    """Return the line of one record, its end included."""
    line = _Written(
        topic=topic,
        partition=partition,
        offset=offset,
        timestamp=timestamp,
        key=_text(key),
        headers=[(name, _text(each)) for name, each in headers],
        record=record,
        value=_text(value),
        cut=msgspec.UNSET if cut is None else cut,
    )
    return _ENCODER.encode(line) + b"\n"


def read(line: bytes) -> Line:
    """
    Return the record that `write` made *line* of.

    Raises:
        ValueError: it made no such line.
    """
    return _DECODER.decode(line)


def decoded(codec: Codec[msgspec.Struct], value: bytes | None) -> msgspec.Struct | None:
    """Return the record in *value*; None where it does not decode."""
    try:
        return codec.decode(value)
    except Poison:
        return None


def _text(content: bytes | None) -> str | None:
    return None if content is None else content.decode(LATIN_1)


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else text.encode(LATIN_1)
