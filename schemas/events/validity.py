"""
The rules for a record of `user.events` that no gateway of ours has sealed: anyone with access to Kafka can produce.

A sealed record was checked by the gateway.
"""

import hashlib

import msgspec

from schemas import strictjson
from schemas.access.credentials import Credentials
from schemas.canonical import canonical
from schemas.errors import Invalid, Poison, Reason, Rejection
from schemas.events.records import Authenticated, UserEvent, content_of, key_of
from schemas.events.rules import field_faults, text_faults

_OF_GATEWAYS = ("user_verified", "submitted_by", "task_id")  # what only a gateway can vouch for


def check_direct(event: UserEvent, *, key: bytes | None, credentials: Credentials) -> Rejection | None:
    """
    Return why a record is not valid that was produced to Kafka directly; None if it is.

    Raises:
        Poison: it holds a NUL, which no text column can keep.
    """
    fields = msgspec.structs.asdict(event)
    if any("\0" in value for value in fields.values() if isinstance(value, str)):
        raise Poison(Reason.NUL_CHARACTER, "a text field holds a NUL character")
    if key != key_of(event):
        return Rejection(reason=Reason.KEY_MISMATCH, detail="the record's key is not the one that its content gives it")
    tenant = credentials.tenants.get(event.tenant)
    if tenant is None:
        return Rejection(reason=Reason.UNKNOWN_TENANT, detail=f"no tenant {event.tenant!r}")
    if not tenant.allow_unsigned_direct:
        return Rejection(reason=Reason.UNSIGNED_DIRECT, detail="the tenant takes no unsigned direct records")
    if event.authenticated is not Authenticated.DIRECT or any(fields[name] for name in _OF_GATEWAYS):
        detail = f"/authenticated: a direct record says direct, and leaves {', '.join(_OF_GATEWAYS)} empty"
        return Rejection(reason=Reason.INVALID_EVENT, detail=detail)
    return _content_rejection(event, fields)


def _content_rejection(event: UserEvent, fields: dict[str, object]) -> Rejection | None:
    faults = field_faults(fields) + text_faults(payload=event.payload, context=event.context)
    if faults:
        return Rejection(reason=Reason.INVALID_EVENT, detail=str(Invalid(faults)))
    try:
        payload = strictjson.decode_part("payload", event.payload)
        context = None if event.context is None else strictjson.decode_part("context", event.context)
    except Invalid as error:
        if any(fault.detail == strictjson.NUL_FAULT for fault in error.faults):
            raise Poison(Reason.NUL_CHARACTER, str(error)) from error
        return Rejection(reason=Reason.INVALID_EVENT, detail=str(error))
    except strictjson.NotJson as error:
        return Rejection(reason=Reason.INVALID_EVENT, detail=str(error))
    if not isinstance(context, dict | None):
        return Rejection(reason=Reason.INVALID_EVENT, detail="/context: a JSON object")
    if hashlib.sha256(canonical(content_of(event, payload=payload, context=context))).digest() != event.event_sha256:
        return Rejection(reason=Reason.DIGEST_MISMATCH, detail="event_sha256 is not the digest of the event's content")
    return None
