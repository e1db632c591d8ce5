"""Events in our own form: `/api/v1/events`."""

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from gateway.events.parsing.prepared import NO_PAYLOAD, Offer
from gateway.http.documents import read_object, unknown_fault
from schemas import strictjson
from schemas.errors import Fault, Invalid
from schemas.ids import ID_PATTERN, TYPE_CHARACTERS_MAX, TYPE_PATTERN
from schemas.strictjson import NotJson
from schemas.texts import LABEL_CHARACTERS_MAX, LABEL_PATTERN

Label = Annotated[str, Meta(pattern=LABEL_PATTERN, max_length=LABEL_CHARACTERS_MAX)]
RunId = Annotated[str, Meta(pattern=ID_PATTERN)]

# What a field is called in the record; some have a second name, by which older clients know them.
_RECORD_NAMES = {
    "id": "event_id",
    "event_id": "event_id",
    "event_type": "type",
    "timestamp": "occurred_at",
    **{name: name for name in ("type", "name", "occurred_at", "source", "user_id", "anonymous_id", "session_id")},
    **{name: name for name in ("run_id", "partition_key")},
}
_TEXTS = ("payload", "context")


class UserEventBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One event of a user, as a client sends it."""

    id: Annotated[
        Label | UnsetType,
        Meta(description="The sender's id: the same event sent again is stored once. Without one, it gets a UUIDv7"),
    ] = UNSET
    type: Annotated[
        str,
        Meta(
            description="What happened: a lower-case dotted name",
            pattern=TYPE_PATTERN,
            max_length=TYPE_CHARACTERS_MAX,
            examples=["order_completed"],
        ),
    ]
    name: Annotated[Label | UnsetType, Meta(description="What people call it", examples=["Order Completed"])] = UNSET
    occurred_at: Annotated[
        str | UnsetType,
        Meta(
            description="When it happened by the sender's clock: RFC 3339 with offset",
            examples=["2026-11-20T10:00:00Z"],
            extra_json_schema={"format": "date-time"},
        ),
    ] = UNSET
    source: Annotated[Label | UnsetType, Meta(description="What sent it; `api` where nothing is said")] = UNSET
    user_id: Annotated[
        Label | UnsetType, Meta(description="Whose event it is; with a JWT its subject, and nobody else")
    ] = UNSET
    anonymous_id: Annotated[Label | UnsetType, Meta(description="A visitor who is not known yet")] = UNSET
    session_id: Annotated[Label | UnsetType, Meta(description="The session that it belongs to")] = UNSET
    run_id: Annotated[RunId | UnsetType, Meta(description="The agent run that it belongs to; it orders the event")] = (
        UNSET
    )
    partition_key: Annotated[
        Label | UnsetType, Meta(description="What orders the event, instead of its user, visitor or session")
    ] = UNSET
    payload: Annotated[
        Any, Meta(description="Any JSON value, kept verbatim", extra_json_schema={"examples": [{"total": 12.5}]})
    ] = UNSET
    context: Annotated[
        dict[str, Any] | UnsetType, Meta(description="What else is known of the event: device, campaign, ...")
    ] = UNSET


def translate(body: bytes) -> Offer:
    """
    Read one event.

    Raises:
        NotJson: it does not parse.
        Invalid: no object, an unknown field, or one that is named twice.
    """
    document = read_object(body, "an event")
    members = document.members
    fields, names = _fields(members)
    return Offer(
        fields=fields,
        payload=members.get("payload", {}),
        payload_text=document.text("payload") if "payload" in members else NO_PAYLOAD,
        context=members.get("context"),
        context_text=document.text("context") if members.get("context") is not None else None,
        names=names,
        is_plain=document.is_plain,
    )


def _fields(members: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the fields by their names in the record, and the name that was sent for each."""
    fields: dict[str, Any] = {}
    names = {"event_id": "id"}
    faults: list[Fault] = []
    for given, value in members.items():
        name = _RECORD_NAMES.get(given)
        if name is None:
            if given not in _TEXTS:
                faults.append(unknown_fault(given))
        elif name in fields:
            faults.append(Fault(pointer=f"/{given}", detail=f"the same as /{names[name]}: send one of the two"))
        else:
            fields[name], names[name] = value, given
    if faults:
        raise Invalid(faults[: strictjson.FAULTS_MAX])
    return fields, names


class _Envelope(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    events: msgspec.Raw


_ENVELOPE = msgspec.json.Decoder(_Envelope)


def list_in(body: bytes) -> bytes:
    """Return the list of a batch, which older clients send as the member `events` of an object."""
    if not body.lstrip().startswith(b"{"):
        return body
    try:
        return bytes(_ENVELOPE.decode(body).events)
    except msgspec.ValidationError:
        raise Invalid([Fault(pointer="", detail='a batch is a list of events, or {"events": [...]}')]) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise NotJson(str(error)) from None
