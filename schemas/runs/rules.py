"""
The form of an event: names, bounds and fields. It needs no credentials and no record, so the client applies it too.

`schemas.runs.validity` says what makes a record valid; these rules are part of it.
"""

import re
from collections.abc import Mapping
from itertools import islice

from schemas import strictjson
from schemas.errors import Fault
from schemas.ids import is_id, type_fault
from schemas.texts import exceeds
from schemas.times import time_fault

EVENT_BYTES_MAX = 10 * 1024 * 1024
META_BYTES_MAX = 64 * 1024
ENVIRONMENT_BYTES_MAX = 512 * 1024
SEQ_MAX = 2**63 - 1

# As the API's description has them.
ACTOR_PATTERN = "^[a-z][a-z0-9_-]{0,63}$"

_END = r"\Z"  # in Python, $ lets a line break pass
_ACTOR = re.compile(ACTOR_PATTERN[1:-1] + _END)
_IDEMPOTENCY_KEY = re.compile(r"[ -~]{1,128}\Z")
_FIELDS = ("seq", "t", "actor", "type", "payload", "meta")
_FIELD_NAMES = frozenset(_FIELDS)


def event_faults(event: object, *, run_id: str) -> list[Fault]:
    """Return everything that is wrong with a decoded event that must belong to *run_id*; empty if it is valid."""
    if not isinstance(event, dict):
        return [Fault(pointer="", detail="an event is a JSON object")]
    faults = [] if event.keys() == _FIELD_NAMES else _field_faults(event)
    for name, check in _CHECKS:
        if name in event and (detail := check(event[name])):
            faults.append(Fault(pointer=f"/{name}", detail=detail))
    if "meta" in event:
        faults += _meta_faults(event["meta"], run_id)
    return faults


def _field_faults(event: Mapping[str, object]) -> list[Fault]:
    faults = [Fault(pointer=f"/{name}", detail="required") for name in _FIELDS if name not in event]
    unknown = islice((name for name in event if name not in _FIELDS), strictjson.FAULTS_MAX)
    return faults + [Fault(pointer=f"/{strictjson.escape_pointer(name)}", detail="unknown field") for name in unknown]


def agent_id_of(meta: Mapping[str, object]) -> str:
    """Return the agent that a valid *meta* names; a number is kept as its digits."""
    return str(meta["agent_id"])


def size_faults(*, payload: str, meta: str) -> list[Fault]:
    """Return what exceeds its bound in the JSON texts of an event's two free parts."""
    faults = []
    if exceeds(meta, META_BYTES_MAX):
        faults.append(Fault(pointer="/meta", detail=f"more than {META_BYTES_MAX} bytes"))
    if exceeds(payload, EVENT_BYTES_MAX):
        faults.append(Fault(pointer="/payload", detail=f"more than {EVENT_BYTES_MAX} bytes"))
    return faults


def _seq_fault(value: object) -> str | None:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= SEQ_MAX:
        return "an integer from 1"
    return None


def _actor_fault(value: object) -> str | None:
    if not isinstance(value, str) or not _ACTOR.match(value):
        return "a lower-case word of at most 64 characters"
    return None


_CHECKS = (("seq", _seq_fault), ("t", time_fault), ("actor", _actor_fault), ("type", type_fault))


def _meta_faults(meta: object, run_id: str) -> list[Fault]:
    if not isinstance(meta, dict):
        return [Fault(pointer="/meta", detail="a JSON object")]
    faults = []
    if meta.get("run_id") != run_id:
        faults.append(Fault(pointer="/meta/run_id", detail="must equal the run the event is sent to"))
    agent_id = meta.get("agent_id")
    if isinstance(agent_id, bool) or not isinstance(agent_id, (str, int)) or not is_id(str(agent_id)):
        faults.append(Fault(pointer="/meta/agent_id", detail="[A-Za-z0-9._:-]{1,128} or an integer"))
    key = meta.get("idempotency_key", "-")
    if not isinstance(key, str) or not _IDEMPOTENCY_KEY.match(key):
        faults.append(Fault(pointer="/meta/idempotency_key", detail="1 to 128 printable ASCII characters"))
    if not isinstance(meta.get("signature", ""), str):
        faults.append(Fault(pointer="/meta/signature", detail="a string"))
    return faults
