"""
A record as a webhook: Standard Webhooks' body and headers. Pure.

Source: the Standard Webhooks specification. The id is the record's event id: the same over retries, and over
duplicates in the log, so that a receiver can tell what it has seen. Each attempt has a signature and a time of its own.
"""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime

import msgspec
from standardwebhooks import Webhook

from processors.runtime.contract import Arrival
from schemas.kafka import headers
from schemas.objects.references import Kept
from schemas.runs import pushed as documents
from schemas.runs.pushed import RUN_FINALIZED, TRACE_EVENT, EventDocument, FinalizedDocument
from schemas.runs.records import FINALIZED_PART, RunEvent, RunFinalized, RunRecord, event_id

# W3C Trace Context: anything else is not handed on.
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}\Z")


class EventData(msgspec.Struct, frozen=True, kw_only=True):
    """The content of a webhook about an event."""

    tenant: str
    wal_id: str
    event: EventDocument


class FinalizedData(msgspec.Struct, frozen=True, kw_only=True):
    """The content of a webhook about the end of a run."""

    tenant: str
    wal_id: str
    run: FinalizedDocument


class Body(msgspec.Struct, frozen=True, kw_only=True):
    """The body, as the specification recommends it: `timestamp` is when it happened, by the sender's clock."""

    type: str
    timestamp: str
    data: EventData | FinalizedData


class WebhookMessage(msgspec.Struct, frozen=True, kw_only=True):
    """One webhook, before it is signed."""

    id: str
    body: bytes
    traceparent: str | None


def message_of(arrival: Arrival[RunRecord], kept: Kept | None = None) -> WebhookMessage:
    """Return the webhook about a valid event or end of a run; see `event_document` for *kept*."""
    raw, record = arrival.raw, arrival.record
    wal_id = raw.place.wal_id
    if isinstance(record, RunEvent):
        part: int | str = record.seq
        kind, happened_at = TRACE_EVENT, record.t
        data: EventData | FinalizedData = EventData(
            tenant=record.tenant, wal_id=wal_id, event=documents.event_document(record, kept)
        )
    else:
        assert isinstance(record, RunFinalized), "an environment is wanted by nobody"
        run = documents.finalized_document(record)
        part, kind, happened_at = FINALIZED_PART, RUN_FINALIZED, run.finalized_at
        data = FinalizedData(tenant=record.tenant, wal_id=wal_id, run=run)
    return WebhookMessage(
        id=event_id(record.tenant, record.run_id, part),
        body=msgspec.json.encode(Body(type=kind, timestamp=happened_at, data=data)),
        traceparent=_traceparent(arrival.headers),
    )


def signed_headers(
    message: WebhookMessage, secrets: Sequence[str], *, now: datetime, replay: bool, more: Mapping[str, str]
) -> dict[str, str]:
    """Return the headers of one attempt, one signature for each of *secrets*, and an endpoint's own."""
    signatures = [Webhook(secret).sign(message.id, now, message.body.decode()) for secret in secrets]
    return {
        **more,
        "Content-Type": "application/json",
        "webhook-id": message.id,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": " ".join(signatures),
        **({"webhook-replay": "true"} if replay else {}),
        **({"traceparent": message.traceparent} if message.traceparent else {}),
    }


def _traceparent(by_name: Mapping[str, bytes | None]) -> str | None:
    text = (by_name.get(headers.TRACEPARENT) or b"").decode("ascii", "replace")
    return text if _TRACEPARENT.match(text) else None
