"""The content of a record: decoded and checked as a processor would, or the reason why it cannot be."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import msgspec

from deploy.log.reading import Raw
from schemas.access.credentials import Credentials, CurrentCredentials, decide
from schemas.catalogue import CODEC
from schemas.documents.records import (
    ChangeDocumentJob,
    DeleteCollection,
    DeleteDocument,
    DocumentChanged,
    DocumentEmbedded,
    DocumentWork,
    PutDocument,
    ReembedCollection,
)
from schemas.documents.validity import check_direct as check_document_command
from schemas.errors import Poison, Reason, Rejection
from schemas.events.records import UserEvent
from schemas.events.validity import check_direct as check_user_event
from schemas.jobs.records import (
    ChangeJob,
    ChangeQueue,
    ChangeSchedule,
    JobChanged,
    JobOutput,
    JobProgress,
    StartOperation,
    SubmitJob,
)
from schemas.jobs.validity import check_direct as check_command
from schemas.kafka import headers as header_names
from schemas.kafka.seal import is_sealed
from schemas.objects.references import to_json
from schemas.runs.records import EnvironmentCaptured, RunEvent, RunFinalized
from schemas.runs.validity import check_direct as check_run_record

HEX_HEAD_BYTES = 32
DIGEST_BYTES_MAX = 64
NAMES = (
    "run_id",
    "endpoint",
    "job_id",
    "queue",
    "schedule_id",
    "operation_id",
    "collection",
)  # what a record is about, first found

# The group that turns commands into rows is the only one that writes of them.
_UNSEALED = Rejection(reason=Reason.UNSIGNED_DIRECT, detail="no process of ours wrote it")

# The rules for records that no gateway of ours has sealed; records of other types have no proof.
_CHECKS: Mapping[type[object], Callable[..., Rejection | None]] = {
    **dict.fromkeys((RunEvent, RunFinalized, EnvironmentCaptured), check_run_record),
    UserEvent: check_user_event,
    **dict.fromkeys((SubmitJob, ChangeJob, ChangeQueue, ChangeSchedule, StartOperation), check_command),
    **dict.fromkeys(
        (PutDocument, DeleteDocument, DeleteCollection, ChangeDocumentJob, ReembedCollection), check_document_command
    ),
    **dict.fromkeys(
        (JobChanged, JobProgress, JobOutput, DocumentWork, DocumentEmbedded, DocumentChanged),
        lambda *_, **__: _UNSEALED,
    ),
}


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
    if credentials is None or type(record) not in _CHECKS:
        return DecodedRecord(raw=raw, record=record, verified=None, problem=None)
    try:
        # Before a record is refused, what the credentials file says now counts.
        rejection = decide(partial(_rejection, raw, record), credentials, refuses=lambda found: found is not None)
    except Poison as poison:
        return DecodedRecord(raw=raw, record=record, verified=False, problem=f"{poison.reason}: {poison.detail}")
    problem = None if rejection is None else f"{rejection.reason}: {rejection.detail}"
    return DecodedRecord(raw=raw, record=record, verified=rejection is None, problem=problem)


def _rejection(raw: Raw, record: object, credentials: Credentials) -> Rejection | None:
    # A dead letter's proof was made for the topic that it comes from.
    origin = header_names.find(raw.headers, header_names.ORIGINAL_TOPIC)
    if raw.value is not None and is_sealed(
        topic=raw.topic if origin is None else origin.decode("utf-8", "replace"),
        key=raw.key,
        value=raw.value,
        headers=dict(raw.headers),
        secrets=credentials.gateway.mac_secrets,
    ):
        return None
    return _CHECKS[type(record)](record, key=raw.key, credentials=credentials)


def _summary(shown: DecodedRecord) -> str:
    record = shown.record
    if record is None:
        return f"undecodable {(shown.raw.value or b'')[:HEX_HEAD_BYTES].hex(' ')}"
    if isinstance(record, RunEvent):
        payload = record.payload if record.payload_ref is None else to_json(record.payload_ref)
        return f"{record.run_id} #{record.seq} {record.actor} {record.type} {payload}"
    if isinstance(record, UserEvent):
        return f"{record.user_id or '-'} {record.event_id} {record.type} {record.payload}"
    fields = _fields(record)
    named = next((name for name in NAMES if name in fields), None)
    rest = {name: value for name, value in fields.items() if name not in ("tenant", named)}
    of = "" if named is None else f"{fields[named]} "
    return f"{of}{type(record).__name__} {msgspec.json.encode(rest).decode()}"


def _fields(record: object) -> dict[str, Any]:
    """Return a record's fields, digests as hex."""
    fields: dict[str, Any] = msgspec.to_builtins(record, builtin_types=(bytes,))
    if isinstance(record, RunEvent) and record.payload_ref is not None:
        fields["payload_ref"] = msgspec.json.decode(to_json(record.payload_ref))
    return {name: _shown(value) for name, value in fields.items()}


def _shown(value: Any) -> Any:
    """Return a value with its bytes as hex: digests. Of more bytes, such as vectors and files, only their number."""
    match value:
        case bytes():
            return value.hex() if len(value) <= DIGEST_BYTES_MAX else f"{len(value)} bytes"
        case dict():
            return {name: _shown(each) for name, each in value.items()}
        case list() | tuple():
            return [_shown(each) for each in value]
        case _:
            return value


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode("utf-8", "backslashreplace")
