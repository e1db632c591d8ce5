"""
An event and the end of a run as JSON, alike wherever they are pushed: on websockets and in webhooks.

Payload and meta are the JSON texts that were sent, numbers untouched. What REST shows has the same names, and more.
"""

import msgspec

from schemas.objects.references import Kept, PayloadProblem, to_json
from schemas.runs.records import RunEvent, RunFinalized, RunStatus

# What a record is called where it is pushed.
TRACE_EVENT = "trace_event"
RUN_FINALIZED = "run_finalized"

_NULL = msgspec.Raw(b"null")


class EventDocument(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """
    One event; `payload` is null where `payload_ref` says that it is kept in object storage.

    Whoever asked for such payloads gets it, or `payload_problem` says why not.
    """

    run_id: str
    seq: int
    t: str
    actor: str
    type: str
    agent_id: str
    payload: msgspec.Raw
    payload_ref: msgspec.Raw
    payload_problem: PayloadProblem | None = None
    meta: msgspec.Raw
    event_sha256: str  # lower-case hex


class FinalizedDocument(msgspec.Struct, frozen=True, kw_only=True):
    """The end of a run; `event_count` is what its client says it sent, or null."""

    run_id: str
    status: RunStatus
    event_count: int | None
    finalized_at: str  # RFC 3339, UTC


def event_document(event: RunEvent, kept: Kept | None = None) -> EventDocument:
    """Return what is shown of *event*; *kept* is what its reference stands for, where that was asked for."""
    reference = event.payload_ref
    return EventDocument(
        run_id=event.run_id,
        seq=event.seq,
        t=event.t,
        actor=event.actor,
        type=event.type,
        agent_id=event.agent_id,
        payload=_payload(event, kept),
        payload_ref=_NULL if reference is None else msgspec.Raw(to_json(reference).encode()),
        payload_problem=kept if isinstance(kept, PayloadProblem) else None,
        meta=msgspec.Raw(event.meta.encode()),
        event_sha256=event.event_sha256.hex(),
    )


def finalized_document(record: RunFinalized) -> FinalizedDocument:
    """Return what is shown of the end of a run."""
    return FinalizedDocument(
        run_id=record.run_id,
        status=record.status,
        event_count=record.event_count,
        finalized_at=record.finalized_at.isoformat().replace("+00:00", "Z"),
    )


def _payload(event: RunEvent, kept: Kept | None) -> msgspec.Raw:
    if event.payload is not None:
        return msgspec.Raw(event.payload.encode())
    return msgspec.Raw(kept) if isinstance(kept, bytes) else _NULL
