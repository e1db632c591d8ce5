"""
An event as it waits to be sent: encoded and checked when it is made, numbered and signed when its turn comes.

Why numbers are given when an event is sent: a refused event leaves its number to the next one, and the rest of the run
arrives without a gap. Why it is encoded when it is made: the caller may change what it passed, and a payload that
cannot be encoded must be reported where it came from.
"""

import json
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from schemas import strictjson
from schemas.errors import Fault, Invalid
from schemas.runs.rules import EVENT_BYTES_MAX, event_faults
from schemas.runs.signature import sign_event

FRAME_BYTES = 1024  # of an event around its payload: ids, key, signature and names


@dataclass(frozen=True, slots=True, kw_only=True)
class Agent:
    """The agent that sends events, and its signing secret, if it has one."""

    agent_id: str
    secret: str | None


@dataclass(slots=True, kw_only=True, eq=False)
class PendingEvent:
    """An encoded event. `seq` is None until it is sent; `in_doubt`: an attempt with this `seq` may have been taken."""

    type: str
    actor: str
    t: str
    idempotency_key: str
    payload: str  # JSON text
    size_bytes: int  # of the whole event, about
    seq: int | None = None
    in_doubt: bool = False
    renumbered_count: int = 0

    def body(self, run_id: str, agent: Agent) -> bytes:
        """Return the JSON text of the event under its `seq`, signed if *agent* has a secret."""
        meta: dict[str, object] = {
            "run_id": run_id,
            "agent_id": agent.agent_id,
            "idempotency_key": self.idempotency_key,
        }
        frame: dict[str, object] = {"seq": self.seq, "t": self.t, "actor": self.actor, "type": self.type}
        if agent.secret is not None:
            event = {**frame, "payload": json.loads(self.payload), "meta": meta}
            meta["signature"] = sign_event(event, agent.secret)
        # The payload's text goes out as it was checked, never decoded and written again.
        return f'{_json(frame)[:-1]},"payload":{self.payload},"meta":{_json(meta)}}}'.encode()


def encode(
    type: str,  # noqa: A002
    payload: object,
    *,
    actor: str,
    at: datetime,
    run_id: str,
    agent_id: str,
) -> PendingEvent:
    """
    Return the event, checked by the rules that the gateway applies.

    Raises:
        Invalid: it breaks one of them, or is not JSON; every fault is listed.
    """
    text = _encode_payload(payload)
    key = uuid.uuid4().hex
    t = _moment(at)
    meta = {"run_id": run_id, "agent_id": agent_id, "idempotency_key": key}
    event: dict[str, Any] = {"seq": 1, "t": t, "actor": actor, "type": type, "payload": None, "meta": meta}
    if faults := event_faults(event, run_id=run_id):
        raise Invalid(faults)
    size_bytes = len(text.encode()) + FRAME_BYTES
    if size_bytes > EVENT_BYTES_MAX:
        raise _invalid("/payload", f"the event has more than {EVENT_BYTES_MAX} bytes")
    return PendingEvent(type=type, actor=actor, t=t, idempotency_key=key, payload=text, size_bytes=size_bytes)


def _encode_payload(payload: object) -> str:
    try:
        text = json.dumps(payload, ensure_ascii=False, separators=(",", ":"))
        text.encode()
    except UnicodeEncodeError as error:
        raise _invalid("/payload", "a string holds a lone surrogate, which UTF-8 cannot encode") from error
    except Exception as error:  # a payload's own methods may raise anything
        raise _invalid("/payload", f"cannot be encoded as JSON: {_explain(error)}") from error
    if len(text) > EVENT_BYTES_MAX:
        raise _invalid("/payload", f"more than {EVENT_BYTES_MAX} bytes")
    try:
        strictjson.decode(text)
    except Invalid as error:
        raise Invalid([Fault(pointer=f"/payload{one.pointer}", detail=one.detail) for one in error.faults]) from error
    except ValueError as error:
        raise _invalid("/payload", str(error)) from error
    return text


def _moment(at: datetime) -> str:
    if not isinstance(at, datetime) or at.utcoffset() is None:
        raise _invalid("/t", f"{at!r} has no UTC offset: pass a datetime with tzinfo")
    try:
        return at.astimezone(UTC).isoformat().replace("+00:00", "Z")
    except (OverflowError, ValueError) as error:
        raise _invalid("/t", f"{at!r} is not within the years 1 to 9999 of UTC") from error


def _invalid(pointer: str, detail: str) -> Invalid:
    return Invalid([Fault(pointer=pointer, detail=detail)])


def _explain(error: Exception) -> str:
    try:
        return f"{type(error).__name__}: {error}"
    except Exception:  # noqa: BLE001  # an exception's own __str__ may raise anything
        return type(error).__name__


def _json(document: dict[str, object]) -> str:
    return json.dumps(document, ensure_ascii=False, separators=(",", ":"))
