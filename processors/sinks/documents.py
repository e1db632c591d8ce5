"""A record as a sink shows it: one JSON object in one line, the same for every kind of sink."""

from datetime import datetime

import msgspec

from processors.runtime.contract import Arrival
from processors.runtime.receiving import received_at
from processors.sinks.contract import SinkRecord
from schemas.events.records import UserEvent, record_id
from schemas.runs import pushed
from schemas.runs.endpoints import matches
from schemas.runs.records import (
    ENVIRONMENT_PART,
    FINALIZED_PART,
    EnvironmentCaptured,
    RunEvent,
    RunFinalized,
    RunRecord,
    event_id,
)

ENVIRONMENT_CAPTURED = "environment_captured"
_LINE_BREAKS = bytes.maketrans(b"\r\n", b"  ")

SourceRecord = UserEvent | RunRecord


class UserEventDocument(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One user event; what its sender left out is left out."""

    id: str  # the same over retries and duplicates in the log
    place: str
    received_at: str
    tenant: str
    event_id: str
    source: str
    user_id: str | None = None
    anonymous_id: str | None = None
    session_id: str | None = None
    run_id: str | None = None
    type: str
    name: str | None = None
    occurred_at: str | None = None
    payload: msgspec.Raw
    context: msgspec.Raw | None = None
    authenticated: str
    user_verified: bool
    submitted_by: str | None = None


class RunDocument(msgspec.Struct, frozen=True, kw_only=True):
    """One record of a run: an event, its environment or its end, each as it is pushed elsewhere."""

    id: str
    place: str
    received_at: str
    tenant: str
    run_id: str
    type: str
    data: pushed.EventDocument | pushed.FinalizedDocument | msgspec.Raw


def kind_of(record: SourceRecord) -> str:
    """Return the type of *record*, by which a sink asks for it."""
    match record:
        case UserEvent() | RunEvent():
            return record.type
        case RunFinalized():
            return pushed.RUN_FINALIZED
        case EnvironmentCaptured():
            return ENVIRONMENT_CAPTURED


def is_wanted(record: SourceRecord, *, tenant: str | None, types: tuple[str, ...]) -> bool:
    """Return True if a sink of *tenant* (None: of all) that asks for *types* must be sent *record*."""
    return tenant in (None, record.tenant) and any(matches(kind_of(record), pattern) for pattern in types)


def sink_record(arrival: Arrival[SourceRecord]) -> SinkRecord:
    """Return a valid record as a sink is given it."""
    raw, record = arrival.raw, arrival.record
    payload = record.payload if isinstance(record, UserEvent | RunEvent) else None
    return SinkRecord(
        place=raw.place,
        key=raw.key,
        headers=arrival.headers,
        json=_document(record, place=raw.place.wal_id, received=received_at(arrival)),
        payload=payload,
    )


def _document(record: SourceRecord, *, place: str, received: datetime) -> bytes:
    """Return the JSON of *record*; line breaks between its tokens, the only ones that JSON has, are spaces."""
    at = received.isoformat().replace("+00:00", "Z")
    document = _of_event(record, place, at) if isinstance(record, UserEvent) else _of_run(record, place, at)
    return msgspec.json.encode(document).translate(_LINE_BREAKS)


def _of_event(event: UserEvent, place: str, received: str) -> UserEventDocument:
    return UserEventDocument(
        id=record_id(event),
        place=place,
        received_at=received,
        tenant=event.tenant,
        event_id=event.event_id,
        source=event.source,
        user_id=event.user_id,
        anonymous_id=event.anonymous_id,
        session_id=event.session_id,
        run_id=event.run_id,
        type=event.type,
        name=event.name,
        occurred_at=event.occurred_at,
        payload=msgspec.Raw(event.payload.encode()),
        context=None if event.context is None else msgspec.Raw(event.context.encode()),
        authenticated=event.authenticated.value,
        user_verified=event.user_verified,
        submitted_by=event.submitted_by,
    )


def _of_run(record: RunRecord, place: str, received: str) -> RunDocument:
    part: int | str
    data: pushed.EventDocument | pushed.FinalizedDocument | msgspec.Raw
    match record:
        case RunEvent():
            part, data = record.seq, pushed.event_document(record)
        case RunFinalized():
            part, data = FINALIZED_PART, pushed.finalized_document(record)
        case EnvironmentCaptured():
            part, data = ENVIRONMENT_PART, msgspec.Raw(record.environment.encode())
    return RunDocument(
        id=event_id(record.tenant, record.run_id, part),
        place=place,
        received_at=received,
        tenant=record.tenant,
        run_id=record.run_id,
        type=kind_of(record),
        data=data,
    )
