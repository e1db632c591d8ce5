"""
Segment's protocol, which RudderStack's libraries speak too: a batch of calls, or one call.

`messageId`, `userId`, `anonymousId`, `event` (or the `name` of a page or screen) and `timestamp` become an event's id,
user, visitor, name and time; `properties` or `traits` its payload. The rest of a call stays in its context, except for
`sentAt`: each attempt to send has another one, and an event that is sent again must be the same.
"""

import json
from collections.abc import Mapping, Sequence
from enum import StrEnum
from functools import partial
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from gateway.events.parsing.api import Label
from gateway.events.parsing.prepared import NO_PAYLOAD, Offer, Translate
from gateway.http.documents import Document, read_object
from gateway.http.lists import split_list
from schemas.errors import Fault, Invalid
from schemas.events.rules import BATCH_EVENTS_MAX
from schemas.strictjson import NotJson

SOURCE = "segment"


class CallType(StrEnum):
    """The types of calls, which are the types of their events."""

    TRACK = "track"
    IDENTIFY = "identify"
    PAGE = "page"
    SCREEN = "screen"
    GROUP = "group"
    ALIAS = "alias"


# The members of a call that become the event's name and payload.
_NAME_MEMBERS: Mapping[CallType, str] = {CallType.TRACK: "event", CallType.PAGE: "name", CallType.SCREEN: "name"}
_PAYLOAD_MEMBERS: Mapping[CallType, str] = {
    CallType.TRACK: "properties",
    CallType.IDENTIFY: "traits",
    CallType.PAGE: "properties",
    CallType.SCREEN: "properties",
    CallType.GROUP: "traits",
    CallType.ALIAS: "traits",
}
_MAPPED = frozenset({"type", "messageId", "userId", "anonymousId", "timestamp", "context", "sentAt"})
_NAMES = {"event_id": "messageId", "user_id": "userId", "anonymous_id": "anonymousId", "occurred_at": "timestamp"}


class SegmentCall(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One call; every member that is not named here is kept in the event's context."""

    type: Annotated[CallType | UnsetType, Meta(description="Not needed at the address of one type")] = UNSET
    message_id: Annotated[
        Label | UnsetType, Meta(description="The same event sent again is stored once. Without one, it gets a UUIDv7")
    ] = UNSET
    user_id: Label | int | UnsetType | None = UNSET
    anonymous_id: Label | int | UnsetType | None = UNSET
    event: Annotated[Label | UnsetType, Meta(description="With track: what happened", examples=["Order Completed"])] = (
        UNSET
    )
    name: Annotated[Label | UnsetType | None, Meta(description="Of a page or screen")] = UNSET
    timestamp: Annotated[str | UnsetType, Meta(extra_json_schema={"format": "date-time"})] = UNSET
    properties: Annotated[Any, Meta(description="With track, page, screen")] = UNSET
    traits: Annotated[Any, Meta(description="With identify, group, alias")] = UNSET
    context: dict[str, Any] | UnsetType | None = UNSET


class SegmentBatch(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Calls, in order; what else libraries send beside them is ignored."""

    batch: Annotated[list[SegmentCall], Meta(min_length=1, max_length=BATCH_EVENTS_MAX)]


class _Envelope(msgspec.Struct, frozen=True):
    batch: msgspec.Raw


_ENVELOPE = msgspec.json.Decoder(_Envelope)


def calls_in(body: bytes, call_type: CallType | None) -> Sequence[bytes]:
    """
    Return the text of each call in *body*: of a batch, or of one call where its type is given.

    Raises:
        NotJson: it does not parse.
        Invalid: no batch, or one of too many calls or none.
    """
    if call_type is not None:
        return split_list(b"[%b]" % body, count_max=1)
    try:
        batch = _ENVELOPE.decode(body).batch
    except msgspec.ValidationError:
        raise Invalid([Fault(pointer="", detail='a batch is an object: {"batch": [...]}')]) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise NotJson(str(error)) from None
    return split_list(bytes(batch), count_max=BATCH_EVENTS_MAX)


def translator(call_type: CallType | None) -> Translate:
    """Return the translator of calls: of any type that they name, or of *call_type*."""
    return partial(_translate, expected=call_type)


def _translate(body: bytes, *, expected: CallType | None) -> Offer:
    """Read one call. Raises NotJson or Invalid, as `api.translate` does."""
    document = read_object(body, "a call")
    members = document.members
    call_type = _type_of(members.get("type")) if expected is None else expected
    name_member, payload_member = _NAME_MEMBERS.get(call_type), _PAYLOAD_MEMBERS[call_type]
    name = None if name_member is None else members.get(name_member) or None
    if call_type is CallType.TRACK and name is None:
        raise Invalid([Fault(pointer="/event", detail="required")])
    payload, payload_text = _payload(document, call_type)
    context, context_text = _context(document, {*_MAPPED, payload_member, name_member})
    return Offer(
        fields={
            "event_id": members.get("messageId") or None,
            "source": SOURCE,
            "type": call_type.value,
            "name": name,
            "user_id": _id(members.get("userId")),
            "anonymous_id": _id(members.get("anonymousId")),
            "occurred_at": members.get("timestamp"),
        },
        payload=payload,
        payload_text=payload_text,
        context=context,
        context_text=context_text,
        names=_NAMES | {"payload": payload_member} | ({} if name_member is None else {"name": name_member}),
        is_plain=document.is_plain,
    )


def _type_of(given: object) -> CallType:
    try:
        return CallType(str(given))
    except ValueError:
        raise Invalid([Fault(pointer="/type", detail=" or ".join(CallType))]) from None


def _id(given: object) -> object:
    """Return an id as a text, as the libraries make it of a number; None of an empty one."""
    if isinstance(given, int) and not isinstance(given, bool):
        return str(given)
    return None if given == "" else given


def _payload(document: Document, call_type: CallType) -> tuple[object, str]:
    """Return the payload of a call, and its JSON text."""
    member, context = _PAYLOAD_MEMBERS[call_type], document.members.get("context")
    if (payload := document.members.get(member)) is not None:
        return payload, document.text(member)
    if call_type is CallType.IDENTIFY and isinstance(context, dict) and context.get(member) is not None:
        # RudderStack's libraries have the traits of a user in the context alone.
        return context[member], _json(context[member])
    return {}, NO_PAYLOAD


def _context(document: Document, taken: set[str | None]) -> tuple[object, str | None]:
    """Return the context of a call with the members beside it that are not *taken*, and its JSON text."""
    given = document.members.get("context")
    others = {name: value for name, value in document.members.items() if name not in taken and value is not None}
    if not others or not isinstance(given, dict | None):
        return given, None if given is None else document.text("context")
    context = {**(given or {}), **others}
    return context, _json(context)


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
