"""Events of the plain door, `POST /events`: an id, a type, data, and perhaps a time."""

from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from gateway.events.parsing.api import Label
from gateway.events.parsing.prepared import NO_PAYLOAD, Offer
from gateway.http.documents import read_object, unknown_fault
from schemas import strictjson
from schemas.errors import Fault, Invalid
from schemas.ids import TYPE_CHARACTERS_MAX, TYPE_PATTERN
from schemas.texts import label_fault

# A time as a number counts seconds or milliseconds since the epoch; in seconds this one is of the year 5138.
SECONDS_MAX = 100_000_000_000

_NAMES = {"event_id": "id", "occurred_at": "timestamp", "payload": "data"}
_FIELDS = ("id", "type", "data", "timestamp")


class PlainEventBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One event; `data.user_id`, where it is a text, is its user."""

    id: Annotated[
        Label | UnsetType, Meta(description="The same event sent again is stored once", examples=["evt-001"])
    ] = UNSET
    type: Annotated[str, Meta(pattern=TYPE_PATTERN, max_length=TYPE_CHARACTERS_MAX, examples=["user_action"])]
    data: Annotated[Any, Meta(extra_json_schema={"examples": [{"user_id": "U123", "action": "click"}]})] = UNSET
    timestamp: Annotated[
        int | float | str | UnsetType,
        Meta(description="When it happened: RFC 3339, or seconds or milliseconds since 1970", examples=[1702261680]),
    ] = UNSET


def translate(body: bytes) -> Offer:
    """Read one event. Raises NotJson or Invalid, as `api.translate` does."""
    document = read_object(body, "an event")
    members = document.members
    if unknown := [name for name in members if name not in _FIELDS]:
        raise Invalid([unknown_fault(name) for name in unknown[: strictjson.FAULTS_MAX]])
    data = members.get("data", {})
    user_id = data.get("user_id") if isinstance(data, dict) else None
    return Offer(
        fields={
            "event_id": members.get("id"),
            "type": members.get("type"),
            "user_id": user_id if label_fault(user_id) is None else None,
            "occurred_at": _time(members.get("timestamp")),
        },
        payload=data,
        payload_text=document.text("data") if "data" in members else NO_PAYLOAD,
        names=_NAMES,
        is_plain=document.is_plain,
    )


def _time(timestamp: object) -> object:
    """Return the time that *timestamp* stands for as a text; what is no number stays as it is, for others to judge."""
    if not isinstance(timestamp, (int, float)) or isinstance(timestamp, bool):
        return timestamp
    seconds = timestamp if abs(timestamp) < SECONDS_MAX else timestamp / 1000
    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat()
    except (ValueError, OverflowError, OSError):
        raise Invalid([Fault(pointer="/timestamp", detail="no such time")]) from None
