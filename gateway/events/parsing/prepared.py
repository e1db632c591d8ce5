"""
Preparation of events, whatever form they came in: bounds, identity, key, record.

A translator turns a request's event into an `Offer`; here it becomes a record, or is refused.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from gateway.errors import Forbidden, HttpError
from gateway.http.child.refusals import Refusal
from gateway.http.documents import renamed
from gateway.http.plain_json import encode_plain
from gateway.kafka.records import OutgoingRecord, Stamp, sealed
from schemas.access.credentials import Principal, Right
from schemas.canonical import canonical
from schemas.errors import Fault, Invalid
from schemas.events.codec import EVENT_CODEC
from schemas.events.records import Authenticated, UserEvent, content_of, key_of, record_id
from schemas.events.rules import DEFAULT_SOURCE, field_faults, text_faults
from schemas.events.topics import USER_EVENTS
from schemas.ids import uuid7
from schemas.strictjson import NotJson

NO_PAYLOAD = "{}"  # of an event that was sent without one


class UserEventOrigin(msgspec.Struct, frozen=True, kw_only=True):
    """The origin of events: the sender, the request, and what the gateway adds."""

    principal: Principal
    stamp: Stamp
    task_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """An event as a translator read it: fields named as the record has them, None where nothing was sent."""

    fields: Mapping[str, Any]
    payload: object = field(default_factory=dict)
    payload_text: str = NO_PAYLOAD
    context: object = None
    context_text: str | None = None
    names: Mapping[str, str] = field(default_factory=dict)  # what the sender calls a field, where that is another name
    is_plain: bool = False  # see `plain_json`


class PreparedUserEvent(msgspec.Struct, frozen=True, kw_only=True):
    """A valid event and its record."""

    event_id: str
    source: str
    user_id: str | None
    type: str
    name: str | None
    occurred_at: str | None
    user_verified: bool
    record: OutgoingRecord


class Prepared(msgspec.Struct, frozen=True, kw_only=True):
    """One event of a request: valid, or refused."""

    event: PreparedUserEvent | None = None
    refusal: Refusal | None = None


class PreparedUserEvents(msgspec.Struct, frozen=True, kw_only=True):
    """The events of a request, in the order in which they were sent."""

    events: Sequence[Prepared]


Translate = Callable[[bytes], Offer]
"""Read one event of a format. Raises NotJson or Invalid."""


def prepare(offer: Offer, origin: UserEventOrigin) -> PreparedUserEvent:
    """
    Return the event in *offer* and its record.

    Raises:
        Invalid: it breaks a rule; every fault is listed, under the sender's names.
        Forbidden: a token may send events of its own subject alone.
    """
    principal = origin.principal
    fields = dict(offer.fields)
    if fields.get("event_id") is None:
        fields["event_id"] = str(uuid7(origin.stamp.received_at))
    if fields.get("source") is None:
        fields["source"] = DEFAULT_SOURCE
    if principal.user_id is not None:
        if fields.get("user_id") not in (None, principal.user_id):
            raise Forbidden("user_id is not the subject of the token; leave it out, or send it as the subject is")
        fields["user_id"] = principal.user_id
    faults = field_faults(fields) + text_faults(payload=offer.payload_text, context=offer.context_text)
    if not isinstance(offer.context, dict | None):
        faults.append(Fault(pointer="/context", detail="a JSON object"))
    if faults:
        raise Invalid([renamed(fault, offer.names) for fault in faults])
    event = UserEvent(
        tenant=principal.tenant,
        payload=offer.payload_text,
        context=offer.context_text,
        authenticated=Authenticated.KEY if principal.user_id is None else Authenticated.TOKEN,
        user_verified=principal.user_id is not None or Right.USERS in principal.rights,
        submitted_by=principal.key_id,
        task_id=origin.task_id,
        event_sha256=b"",
        **fields,
    )
    content = content_of(event, payload=offer.payload, context=offer.context)
    digest = hashlib.sha256(encode_plain(content) if offer.is_plain else canonical(content)).digest()
    event = msgspec.structs.replace(event, event_sha256=digest)
    return PreparedUserEvent(
        event_id=event.event_id,
        source=event.source,
        user_id=event.user_id,
        type=event.type,
        name=event.name,
        occurred_at=event.occurred_at,
        user_verified=event.user_verified,
        record=_sealed(event, origin.stamp),
    )


def prepare_all(bodies: Iterable[bytes], translate: Translate, origin: UserEventOrigin) -> PreparedUserEvents:
    """Return the events in *bodies*, each valid or refused by itself."""
    return PreparedUserEvents(events=[_prepared(body, translate, origin) for body in bodies])


def _prepared(body: bytes, translate: Translate, origin: UserEventOrigin) -> Prepared:
    try:
        return Prepared(event=prepare(translate(body), origin))
    except (HttpError, Invalid, NotJson) as error:
        return Prepared(refusal=Refusal.of(error))


def _sealed(event: UserEvent, stamp: Stamp) -> OutgoingRecord:
    return sealed(
        USER_EVENTS.name,
        key=key_of(event),
        value=EVENT_CODEC.encode(event),
        tenant=event.tenant,
        event_id=record_id(event),
        stamp=stamp,
    )
