"""
CloudEvents 1.0 over HTTP: structured, a batch of structured ones, and binary (`ce-` headers).

`id`, `source`, `type`, `subject`, `time`, `data` and the extension `partitionkey` become an event's id, source, type,
user, time, payload and key; every other attribute stays in its context. A type is kept in lower case, as its name it
stands as it was sent.
"""

import base64
import json
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

from gateway.events.parsing.prepared import NO_PAYLOAD, Offer
from gateway.http.documents import read_object
from schemas import strictjson
from schemas.errors import Fault, Invalid
from schemas.ids import type_fault
from schemas.strictjson import NotJson

SPECVERSION = "1.0"
HEADER_PREFIX = "ce-"
ATTRIBUTES_MAX = 50

# An attribute of CloudEvents, by the name of the field that it becomes.
_NAMES = {
    "event_id": "id",
    "source": "source",
    "type": "type",
    "user_id": "subject",
    "occurred_at": "time",
    "partition_key": "partitionkey",
    "payload": "data",
}
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")
_REQUIRED = ("id", "source", "type")
_MAPPED = frozenset({*_NAMES.values(), "specversion", "data", "data_base64"})


def translate(body: bytes) -> Offer:
    """Read one structured event. Raises NotJson or Invalid, as `api.translate` does."""
    document = read_object(body, "a CloudEvent")
    members = document.members
    if "data" in members and "data_base64" in members:
        raise Invalid([Fault(pointer="/data_base64", detail="an event has data or data_base64, not both")])
    payload, text = members.get("data", {}), NO_PAYLOAD
    if "data" in members:
        text = document.text("data")
    elif "data_base64" in members:
        payload = {"data_base64": _checked_base64(members["data_base64"])}
        text = json.dumps(payload)
    attributes = {name: value for name, value in members.items() if name not in ("data", "data_base64")}
    return _offer(attributes, payload=payload, payload_text=text, is_plain=document.is_plain)


def is_binary(headers: Mapping[str, str]) -> bool:
    """Return True if the headers of a request are those of an event in binary mode."""
    return f"{HEADER_PREFIX}specversion" in headers


def translate_binary(body: bytes, attributes: Mapping[str, str], content_type: str) -> Offer:
    """
    Read an event whose *attributes* came as headers, and its data as *body*. Raises NotJson or Invalid.

    JSON is the payload; text is one JSON string; anything else is kept as base64.
    """
    media_type = content_type.partition(";")[0].strip().lower()
    payload, text, is_plain = _payload(body, media_type)
    given: dict[str, Any] = dict(attributes)
    if media_type:
        given.setdefault("datacontenttype", media_type)
    return _offer(given, payload=payload, payload_text=text, is_plain=is_plain)


def attributes_of(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the attributes in the headers of a request, percent-decoded. Raises Invalid: too many."""
    found = {
        name.lower().removeprefix(HEADER_PREFIX): unquote(value)
        for name, value in headers.items()
        if name.lower().startswith(HEADER_PREFIX)
    }
    if len(found) > ATTRIBUTES_MAX:
        raise Invalid([Fault(pointer="", detail=f"more than {ATTRIBUTES_MAX} attributes")])
    if wrong := [name for name, value in found.items() if not _is_text(name + value)]:
        pointer = f"/{strictjson.escape_pointer(wrong[0])}"
        raise Invalid([Fault(pointer=pointer, detail="not UTF-8, or a NUL character")])
    return found


def _is_text(value: str) -> bool:
    # A header's bytes that are not UTF-8 come as surrogates, which nothing can encode.
    return not _UNSTORABLE.search(value)


def _offer(attributes: Mapping[str, Any], *, payload: object, payload_text: str, is_plain: bool) -> Offer:
    faults = [Fault(pointer=f"/{name}", detail="required") for name in _REQUIRED if attributes.get(name) in (None, "")]
    if attributes.get("specversion") != SPECVERSION:
        faults.append(Fault(pointer="/specversion", detail=f'"{SPECVERSION}"'))
    if faults:
        raise Invalid(faults)
    others = {name: value for name, value in attributes.items() if name not in _MAPPED}
    given = attributes["type"]
    kept = given.lower() if isinstance(given, str) and type_fault(given) else given
    fields = {name: attributes.get(attribute) for name, attribute in _NAMES.items() if name != "payload"}
    return Offer(
        fields=fields | {"type": kept, "name": given if kept != given else None},
        payload=payload,
        payload_text=payload_text,
        context=others or None,
        context_text=json.dumps(others, ensure_ascii=False, separators=(",", ":")) if others else None,
        names=_NAMES,
        is_plain=is_plain and not others,
    )


def _payload(body: bytes, media_type: str) -> tuple[object, str, bool]:
    if not body:
        return {}, NO_PAYLOAD, True
    if media_type in ("", "application/json") or media_type.endswith("+json"):
        text = _utf8(body).strip()
        return strictjson.decode(text, depth_max=strictjson.PART_DEPTH_MAX), text, False
    if media_type.startswith("text/"):
        value: object = _utf8(body)
        if "\0" in str(value):
            raise Invalid([Fault(pointer="/data", detail=strictjson.NUL_FAULT)])
    else:
        value = {"data_base64": base64.b64encode(body).decode()}
    return value, json.dumps(value, ensure_ascii=False), False


def _utf8(body: bytes) -> str:
    try:
        return body.decode()
    except UnicodeDecodeError as error:
        raise NotJson(f"not UTF-8 at byte {error.start}") from None


def _checked_base64(value: object) -> str:
    if not isinstance(value, str) or not _is_base64(value):
        raise Invalid([Fault(pointer="/data_base64", detail="not base64")])
    return value


def _is_base64(text: str) -> bool:
    try:
        base64.b64decode(text, validate=True)
    except ValueError:
        return False
    return True
