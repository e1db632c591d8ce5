"""What a record says: decoded and checked as a processor would, or why it cannot be."""

from dataclasses import dataclass
from typing import Any

import msgspec

from deploy.log.reading import Raw
from schemas.access.credentials import CurrentCredentials
from schemas.catalogue import CODEC
from schemas.errors import Poison
from schemas.kafka import headers as header_names
from schemas.objects.references import to_json
from schemas.runs.records import RunEvent, RunRecord
from schemas.runs.validity import check_record_now

HEX_HEAD_BYTES = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodedRecord:
    """One record for people and programs."""

    raw: Raw
    record: object  # None: undecodable
    verified: bool | None  # None: nothing was checked (no credentials, or a record without a proof)
    problem: str | None  # why it does not decode or does not hold

    @property
    def wal_id(self) -> str:
        """Return its place in the log."""
        return self.raw.place.wal_id

    def document(self) -> dict[str, object]:
        """Return the whole of it as JSON shows it."""
        moment = None if self.raw.timestamp_ms is None else header_names.moment_of(self.raw.timestamp_ms)
        value = self.raw.value
        return {
            "wal_id": self.wal_id,
            "timestamp": None if moment is None else moment.isoformat(),
            "key": _text(self.raw.key),
            "headers": {name: _text(value) for name, value in self.raw.headers},
            "verified": self.verified,
            "problem": self.problem,
            "record": None if self.record is None else {"name": type(self.record).__name__, **_fields(self.record)},
            "hex_head": value[:HEX_HEAD_BYTES].hex() if self.record is None and value is not None else None,
        }

    def line(self) -> str:
        """Return one line: place, proof, and what it says."""
        mark = {True: "verified", False: "INVALID", None: "-"}[self.verified]
        text = f"{self.wal_id:<22} {mark:<9} {_summary(self)}" + (f"  [{self.problem}]" if self.problem else "")
        # Whoever may produce to a topic writes on this terminal: nothing that steers it gets through.
        return "".join(one if one.isprintable() else f"\\u{ord(one):04x}" for one in text)


def show(raw: Raw, credentials: CurrentCredentials | None) -> DecodedRecord:
    """Decode *raw* and check it against *credentials*, if there are any."""
    if raw.problem is not None:
        return DecodedRecord(raw=raw, record=None, verified=False, problem=raw.problem)
    try:
        record = CODEC.decode(raw.value)
    except Poison as poison:
        return DecodedRecord(raw=raw, record=None, verified=False, problem=f"{poison.reason}: {poison.detail}")
    if credentials is None or not isinstance(record, RunRecord) or raw.value is None:
        return DecodedRecord(raw=raw, record=record, verified=None, problem=None)
    # A dead letter's proof was made for the topic that it comes from.
    origin = header_names.find(raw.headers, header_names.ORIGINAL_TOPIC)
    try:
        rejection = check_record_now(
            record,
            topic=raw.topic if origin is None else origin.decode("utf-8", "replace"),
            key=raw.key,
            value=raw.value,
            headers=raw.headers,
            credentials=credentials,
        )
    except Poison as poison:
        return DecodedRecord(raw=raw, record=record, verified=False, problem=f"{poison.reason}: {poison.detail}")
    problem = None if rejection is None else f"{rejection.reason}: {rejection.detail}"
    return DecodedRecord(raw=raw, record=record, verified=rejection is None, problem=problem)


def _summary(shown: DecodedRecord) -> str:
    record = shown.record
    if record is None:
        return f"undecodable {(shown.raw.value or b'')[:HEX_HEAD_BYTES].hex(' ')}"
    if isinstance(record, RunEvent):
        payload = record.payload if record.payload_ref is None else to_json(record.payload_ref)
        return f"{record.run_id} #{record.seq} {record.actor} {record.type} {payload}"
    fields = _fields(record)
    named = next((name for name in ("run_id", "endpoint", "event_id") if fields.get(name) is not None), None)
    rest = {name: value for name, value in fields.items() if name not in ("tenant", named)}
    of = "" if named is None else f"{fields[named]} "
    return f"{of}{type(record).__name__} {msgspec.json.encode(rest).decode()}"


def _fields(record: object) -> dict[str, Any]:
    """Return a record's fields, digests as hex."""
    fields: dict[str, Any] = msgspec.to_builtins(record, builtin_types=(bytes,))
    if isinstance(record, RunEvent) and record.payload_ref is not None:
        fields["payload_ref"] = msgspec.json.decode(to_json(record.payload_ref))
    return {name: value.hex() if isinstance(value, bytes) else value for name, value in fields.items()}


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode("utf-8", "backslashreplace")
