"""
Bodies to valid documents: every fault listed, JSON texts kept as they were sent.

Why two decoders: the strict one judges the whole, duplicates and numbers included; msgspec then cuts the
verbatim text of the free parts out of the same bytes, which is safe because only what was judged valid gets there.
"""

import hashlib
import json
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from gateway.errors import InvalidPath
from gateway.http.lists import text_of
from gateway.runs.parsing.plain_body import read_plain
from schemas import strictjson
from schemas.canonical import canonical, event_digest
from schemas.errors import Fault, Invalid
from schemas.ids import ID_PATTERN, TYPE_CHARACTERS_MAX, TYPE_PATTERN, is_id
from schemas.runs.records import RunStatus
from schemas.runs.rules import ACTOR_PATTERN, SEQ_MAX, event_faults, size_faults

BATCH_EVENTS_MAX = 1_000


class EventBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One event of a run, as a client sends it."""

    seq: Annotated[int, Meta(ge=1, le=SEQ_MAX, description="Place in the run: 1, 2, 3, ...", examples=[1])]
    t: Annotated[
        str,
        Meta(
            description="When it happened: RFC 3339 with offset",
            examples=["2025-12-05T10:00:00Z"],
            extra_json_schema={"format": "date-time"},
        ),
    ]
    actor: Annotated[
        str,
        Meta(
            description="agent, user, tool, system, environment, or another lower-case word",
            pattern=ACTOR_PATTERN,
            examples=["agent"],
        ),
    ]
    type: Annotated[
        str,
        Meta(
            description="A lower-case dotted name",
            pattern=TYPE_PATTERN,
            max_length=TYPE_CHARACTERS_MAX,
            examples=["tool_call"],
        ),
    ]
    payload: Annotated[
        msgspec.Raw,
        Meta(
            description="Any JSON value, kept verbatim",
            extra_json_schema={"examples": [{"tool": "search", "arguments": {"query": "tide tables"}}]},
        ),
    ]
    meta: Annotated[
        msgspec.Raw,
        Meta(
            description="Which run and agent the event belongs to; unknown fields are kept; at most 64 KiB",
            extra_json_schema={
                "type": "object",
                "required": ["run_id", "agent_id"],
                "properties": {
                    "run_id": {"type": "string", "pattern": ID_PATTERN, "description": "The run named in the path"},
                    "agent_id": {
                        "type": ["string", "integer"],
                        "pattern": ID_PATTERN,
                        "description": "The agent that speaks; a number is kept as its digits",
                    },
                    "signature": {
                        "type": "string",
                        "description": "Lower-case hex HMAC-SHA256 of the RFC 8785 form without this field",
                    },
                    "idempotency_key": {
                        "type": "string",
                        "pattern": "^[ -~]{1,128}$",
                        "description": "Unique within the run; the same event sent again is answered as a duplicate",
                    },
                },
                "examples": [{"run_id": "run-1", "agent_id": "plain-agent"}],
            },
        ),
    ]


class FinalizationBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The end of a run."""

    status: RunStatus
    event_count: Annotated[int, Meta(ge=0, le=SEQ_MAX, description="How many events were sent")] | None = None


class ParsedEvent(msgspec.Struct, frozen=True, kw_only=True):
    """A valid event: the document, and its two free parts as they were sent."""

    document: dict[str, Any]
    payload: str
    meta: str
    sha256: bytes


def check_run_id(run_id: str) -> str:
    """Return the run named in the path. Raises InvalidPath if no run can have that name."""
    if not is_id(run_id):
        raise InvalidPath([Fault(pointer="", detail="the run_id in the path is not [A-Za-z0-9._:-]{1,128}")])
    return run_id


def parse_event(body: bytes, *, run_id: str) -> ParsedEvent:
    """
    Return the event in *body*.

    Raises:
        NotJson: it does not parse.
        Invalid: it breaks a rule; every fault is listed.
    """
    document, sha256 = _read_event(body, run_id)
    if faults := event_faults(document, run_id=run_id):
        raise Invalid(faults)
    parts = _EVENT.decode(body)
    payload, meta = str(parts.payload, "utf-8"), str(parts.meta, "utf-8")
    if faults := size_faults(payload=payload, meta=meta):
        raise Invalid(faults)
    return ParsedEvent(document=document, payload=payload, meta=meta, sha256=sha256)


def parse_finalization(body: bytes) -> FinalizationBody:
    """Return how the run ended. Raises as `parse_event`."""
    document = _object(text_of(body), "a finalization")
    faults = [
        Fault(pointer=f"/{strictjson.escape_pointer(name)}", detail="unknown field")
        for name in document
        if name not in ("status", "event_count")
    ]
    status: Any = document.get("status")
    count: Any = document.get("event_count")
    if status not in tuple(RunStatus):
        faults.append(Fault(pointer="/status", detail=f"one of {', '.join(RunStatus)}"))
    if count is not None and (not isinstance(count, int) or isinstance(count, bool) or not 0 <= count <= SEQ_MAX):
        faults.append(Fault(pointer="/event_count", detail="an integer from 0"))
    if faults:
        raise Invalid(faults[: strictjson.FAULTS_MAX])
    return FinalizationBody(status=RunStatus(status), event_count=count)


def parse_environment(body: bytes) -> tuple[str, bytes]:
    """Return the snapshot's text as it was sent, and the canonical form's bytes. Raises as `parse_event`."""
    text = text_of(body)
    return text.strip(), canonical(_object(text, "an environment"))


class _Parts(msgspec.Struct, frozen=True, kw_only=True):
    payload: msgspec.Raw
    meta: msgspec.Raw


_EVENT = msgspec.json.Decoder(_Parts)


def _read_event(body: bytes, run_id: str) -> tuple[Any, bytes]:
    if (plain := read_plain(body)) is not None:
        document, canonical_form = plain
        return document, hashlib.sha256(canonical_form).digest()
    text = text_of(body)
    try:
        decoded: Any = strictjson.decode(text)
    except Invalid as error:
        raise Invalid(_with_rule_faults(error.faults, text, run_id)) from error
    return decoded, event_digest(decoded) if isinstance(decoded, dict) else b""


def _object(text: str, what: str) -> dict[str, Any]:
    document = strictjson.decode(text)
    if not isinstance(document, dict):
        raise Invalid([Fault(pointer="", detail=f"{what} is a JSON object")])
    return document


def _with_rule_faults(faults: list[Fault], text: str, run_id: str) -> list[Fault]:
    # Read once more, leniently, so that one answer names the faults of form and those of content.
    try:
        document = json.loads(text, parse_int=lambda digits: int(digits[: strictjson.INT_DIGITS_MAX]))
    except RecursionError:
        return faults
    placed = {fault.pointer for fault in faults}
    return faults + [fault for fault in event_faults(document, run_id=run_id) if fault.pointer not in placed]
