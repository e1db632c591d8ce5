"""
The short way for records of user events, as `schemas.runs.plain_event` has it for those of runs.

What is not plain in every byte is left to fastavro; what is read or written here it would read or write alike.
"""

from schemas.events.records import Authenticated, UserEvent
from schemas.kafka.plain_avro import read_text, read_text_or_null, text_of, text_or_null_of

SCHEMA_ID = 7  # the one version of UserEvent, in registry.json, whose fields stand as they are read below
SHA256_BYTES = 32

# The index of each symbol of the enum, and both booleans, as Avro writes them: a byte each.
_AUTHENTICATED = {index << 1: symbol for index, symbol in enumerate(Authenticated)}
_BYTES_OF = {symbol: bytes([byte]) for byte, symbol in _AUTHENTICATED.items()}
_BOOLEANS = {0: False, 1: True}
_FALSE, _TRUE = b"\0", b"\1"


def read_event(value: bytes, at: int) -> UserEvent | None:
    """Return the event whose Avro body begins in *value* at *at* and ends with it; None where that is not plain."""
    try:
        tenant, at = read_text(value, at)
        event_id, at = read_text(value, at)
        source, at = read_text(value, at)
        user_id, at = read_text_or_null(value, at)
        anonymous_id, at = read_text_or_null(value, at)
        session_id, at = read_text_or_null(value, at)
        run_id, at = read_text_or_null(value, at)
        partition_key, at = read_text_or_null(value, at)
        event_type, at = read_text(value, at)
        name, at = read_text_or_null(value, at)
        occurred_at, at = read_text_or_null(value, at)
        payload, at = read_text(value, at)
        context, at = read_text_or_null(value, at)
        authenticated, user_verified = _AUTHENTICATED[value[at]], _BOOLEANS[value[at + 1]]
        submitted_by, at = read_text_or_null(value, at + 2)
        task_id, at = read_text_or_null(value, at)
    except (IndexError, KeyError, ValueError):
        return None
    if len(value) - at != SHA256_BYTES:
        return None
    return UserEvent(
        tenant=tenant,
        event_id=event_id,
        source=source,
        user_id=user_id,
        anonymous_id=anonymous_id,
        session_id=session_id,
        run_id=run_id,
        partition_key=partition_key,
        type=event_type,
        name=name,
        occurred_at=occurred_at,
        payload=payload,
        context=context,
        authenticated=authenticated,
        user_verified=user_verified,
        submitted_by=submitted_by,
        task_id=task_id,
        event_sha256=value[at:],
    )


def write_event(event: UserEvent) -> bytes | None:
    """Return the Avro body of *event*; None where that is not plain."""
    if len(event.event_sha256) != SHA256_BYTES:
        return None
    return b"".join(
        (
            text_of(event.tenant),
            text_of(event.event_id),
            text_of(event.source),
            text_or_null_of(event.user_id),
            text_or_null_of(event.anonymous_id),
            text_or_null_of(event.session_id),
            text_or_null_of(event.run_id),
            text_or_null_of(event.partition_key),
            text_of(event.type),
            text_or_null_of(event.name),
            text_or_null_of(event.occurred_at),
            text_of(event.payload),
            text_or_null_of(event.context),
            _BYTES_OF[event.authenticated],
            _TRUE if event.user_verified else _FALSE,
            text_or_null_of(event.submitted_by),
            text_or_null_of(event.task_id),
            event.event_sha256,
        )
    )
