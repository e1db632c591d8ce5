"""
The short way for the records that nearly all of the log is made of: events as a gateway writes them.

Read or written here, an event costs less than half of what fastavro takes, which goes by a dict, and was the largest
part of what any consumer spends on it. fastavro remains the judge of everything else: what is not plain in every byte
(a payload that is kept elsewhere, a length that makes no sense, a byte too many) is left to it, and what is read or
written here it would read or write alike.
"""

from schemas.kafka.plain_avro import (
    LONG_BITS_MAX,
    NULL,
    NULL_BYTE,
    long_of,
    read_long,
    read_text,
    read_text_or_null,
    text_of,
    text_or_null_of,
)
from schemas.runs.records import RunEvent

SCHEMA_ID = 1  # the one version of RunEvent, in registry.json, whose fields stand as they are read below
SHA256_BYTES = 32


def read_event(value: bytes, at: int) -> RunEvent | None:
    """Return the event whose Avro body begins in *value* at *at* and ends with it; None where that is not plain."""
    try:
        tenant, at = read_text(value, at)
        run_id, at = read_text(value, at)
        seq, at = read_long(value, at)
        t, at = read_text(value, at)
        actor, at = read_text(value, at)
        event_type, at = read_text(value, at)
        agent_id, at = read_text(value, at)
        idempotency_key, at = read_text_or_null(value, at)
        payload, at = read_text_or_null(value, at)
        if value[at] != NULL:  # payload_ref
            return None
        meta, at = read_text(value, at + 1)
    except (IndexError, ValueError):
        return None
    if len(value) - at != SHA256_BYTES:
        return None
    return RunEvent(
        tenant=tenant,
        run_id=run_id,
        seq=seq,
        t=t,
        actor=actor,
        type=event_type,
        agent_id=agent_id,
        idempotency_key=idempotency_key,
        payload=payload,
        meta=meta,
        event_sha256=value[at:],
    )


def write_event(event: RunEvent) -> bytes | None:
    """Return the Avro body of *event*; None where that is not plain."""
    fits = len(event.event_sha256) == SHA256_BYTES and event.seq >> LONG_BITS_MAX in (0, -1)
    if event.payload_ref is not None or not fits:
        return None
    return b"".join(
        (
            text_of(event.tenant),
            text_of(event.run_id),
            long_of(event.seq),
            text_of(event.t),
            text_of(event.actor),
            text_of(event.type),
            text_of(event.agent_id),
            text_or_null_of(event.idempotency_key),
            text_or_null_of(event.payload),
            NULL_BYTE,  # payload_ref
            text_of(event.meta),
            event.event_sha256,
        )
    )
