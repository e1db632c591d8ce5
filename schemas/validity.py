"""
What makes an event and a record valid. Applied at the gateway's door, and again by every consumer group before
its effect, since anyone with access to Kafka can produce to a topic.

A record that bears a `gateway-mac` of ours was checked at the door: schema and signature are not checked again.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice

from schemas import headers as header_names
from schemas import strictjson
from schemas.canonical import event_digest
from schemas.credentials import Agent, Credentials, CurrentCredentials, Tenant, decide
from schemas.errors import Fault, Invalid, Poison, Reason
from schemas.events import EnvironmentCaptured, RunEvent, RunRecord
from schemas.signature import event_signature_holds, record_mac_holds

EVENT_BYTES_MAX = 10 * 1024 * 1024
META_BYTES_MAX = 64 * 1024
ENVIRONMENT_BYTES_MAX = 512 * 1024
SEQ_MAX = 2**63 - 1

# As the API's description has them.
ID_PATTERN = "^[A-Za-z0-9._:-]{1,128}$"
TYPE_CHARACTERS_MAX = 128
ACTOR_PATTERN = "^[a-z][a-z0-9_-]{0,63}$"
TYPE_PATTERN = r"^[a-z][a-z0-9_-]*(\.[a-z0-9_-]+)*$"

_END = r"\Z"  # in Python, $ lets a line break pass
_ID = re.compile(r"(?!\.{1,2}\Z)" + ID_PATTERN[1:-1] + _END)
_ACTOR = re.compile(ACTOR_PATTERN[1:-1] + _END)
_TYPE = re.compile(rf"(?=.{{1,{TYPE_CHARACTERS_MAX}}}\Z)" + TYPE_PATTERN[1:-1] + _END)
_TIME = re.compile(r"\d{4}-\d{2}-\d{2}[Tt]\d{2}:\d{2}:\d{2}(?:\.\d{1,9})?(?:[Zz]|[+-]\d{2}:\d{2})\Z")
_IDEMPOTENCY_KEY = re.compile(r"[ -~]{1,128}\Z")
_FIELDS = ("seq", "t", "actor", "type", "payload", "meta")
_FIELD_NAMES = frozenset(_FIELDS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejection:
    """Why a record that decodes is not a valid one."""

    reason: Reason
    detail: str


_UNSIGNED_DIRECT = Rejection(reason=Reason.UNSIGNED_DIRECT, detail="the tenant takes no unsigned direct records")


def is_id(value: str) -> bool:
    """Say whether *value* may name a run or an agent."""
    return _ID.match(value) is not None


def event_faults(event: object, *, run_id: str) -> list[Fault]:
    """Everything that is wrong with a decoded event that is to belong to *run_id*; empty if it is valid."""
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
    """The agent that a valid *meta* names; a number is kept as its digits."""
    return str(meta["agent_id"])


def check_record(
    record: RunRecord,
    *,
    topic: str,
    key: bytes | None,
    value: bytes,
    headers: Sequence[tuple[str, bytes | None]],
    credentials: Credentials,
) -> Rejection | None:
    """
    Judge a decoded record of the log by its own content; None if it is valid.

    Raises:
        Poison: it holds a NUL, which no text column can keep.
    """
    if is_sealed(topic=topic, key=key, value=value, headers=dict(headers), credentials=credentials):
        return None
    return check_direct(record, key=key, credentials=credentials)


def check_record_now(
    record: RunRecord,
    *,
    topic: str,
    key: bytes | None,
    value: bytes,
    headers: Sequence[tuple[str, bytes | None]],
    credentials: CurrentCredentials,
) -> Rejection | None:
    """Validate as `check_record` does; before a record is rejected, by what the credentials file says now."""
    return decide(
        lambda by: check_record(record, topic=topic, key=key, value=value, headers=headers, credentials=by),
        credentials,
        refuses=lambda rejection: rejection is not None,
    )


def is_sealed(
    *, topic: str, key: bytes | None, value: bytes | None, headers: Mapping[str, bytes | None], credentials: Credentials
) -> bool:
    """Say whether a gateway of ours vouches for these bytes, their key and the tenant in the headers."""
    mac, tenant = headers.get(header_names.GATEWAY_MAC), headers.get(header_names.TENANT)
    if mac is None or tenant is None or key is None or value is None:
        return False
    return record_mac_holds(mac, credentials.gateway.mac_secrets, topic=topic, key=key, tenant=tenant, value=value)


def check_direct(record: RunRecord, *, key: bytes | None, credentials: Credentials) -> Rejection | None:
    """Judge what a record says that no gateway of ours vouches for; see `check_record`."""
    if _bears_nul(record):
        raise Poison(Reason.NUL_CHARACTER, "a text field holds a NUL character")
    if key != record.run_id.encode():
        return Rejection(reason=Reason.KEY_MISMATCH, detail="the record's key is not its run_id")
    tenant = credentials.tenants.get(record.tenant)
    if tenant is None:
        return Rejection(reason=Reason.UNKNOWN_TENANT, detail=f"no tenant {record.tenant!r}")
    if not is_id(record.run_id):
        return Rejection(reason=Reason.INVALID_EVENT, detail="/run_id: not [A-Za-z0-9._:-]{1,128}")
    if isinstance(record, RunEvent):
        return _check_direct_event(record, tenant)
    # The API key authorises the other two; nothing in the record does.
    if not tenant.allow_unsigned_direct:
        return _UNSIGNED_DIRECT
    return _environment_rejection(record) if isinstance(record, EnvironmentCaptured) else None


def _bears_nul(record: RunRecord) -> bool:
    texts: tuple[str, ...] = (record.tenant, record.run_id)
    if isinstance(record, RunEvent):
        # Joined: one search instead of nine.
        texts = (
            record.payload or "", record.meta, record.tenant, record.run_id, record.t, record.actor,
            record.type, record.agent_id, record.idempotency_key or "",
        )  # fmt: skip
    elif isinstance(record, EnvironmentCaptured):
        texts = (record.environment, record.tenant, record.run_id)
    return "\0" in "".join(texts)


def _check_direct_event(record: RunEvent, tenant: Tenant) -> Rejection | None:
    try:
        event = _event_of(record)
    except Invalid as error:
        if any(fault.detail == strictjson.NUL_FAULT for fault in error.faults):
            raise Poison(Reason.NUL_CHARACTER, str(error)) from error
        return Rejection(reason=Reason.INVALID_EVENT, detail=str(error))
    except strictjson.NotJson as error:
        return Rejection(reason=Reason.INVALID_EVENT, detail=str(error))
    if event_digest(event) != record.event_sha256:
        return Rejection(reason=Reason.DIGEST_MISMATCH, detail="event_sha256 is not the digest of the event")
    agent = tenant.agents.get(record.agent_id)
    if agent is None:
        return Rejection(reason=Reason.UNKNOWN_AGENT, detail=f"the tenant has no agent {record.agent_id!r}")
    detail = signature_fault(event, agent)
    if detail is not None:
        return Rejection(reason=Reason.SIGNATURE_INVALID, detail=detail)
    return None if agent.secrets or tenant.allow_unsigned_direct else _UNSIGNED_DIRECT


def signature_fault(event: Mapping[str, object], agent: Agent) -> str | None:
    """What is wrong with the signature of a valid *event* that *agent* is to have sent; None if nothing is."""
    meta: Mapping[str, object] = event["meta"]  # type: ignore[assignment]  # a valid event's meta is an object
    signature = meta.get("signature")
    if not agent.secrets:
        return None if signature is None else "an agent without a secret must not sign"
    if not isinstance(signature, str):
        return "an agent with a secret must sign"
    return None if event_signature_holds(event, signature, agent.secrets) else "the signature does not verify"


def _event_of(record: RunEvent) -> dict[str, object]:
    """Put the event together again as its agent sent it. Raises Invalid or NotJson."""
    if record.payload is None or record.payload_ref is not None:
        raise Invalid([Fault(pointer="/payload", detail="a direct record carries its payload itself")])
    faults = size_faults(payload=record.payload, meta=record.meta)
    if faults:
        raise Invalid(faults)
    event: dict[str, object] = {
        "seq": record.seq,
        "t": record.t,
        "actor": record.actor,
        "type": record.type,
        "payload": strictjson.decode(record.payload),
        "meta": strictjson.decode(record.meta),
    }
    faults = event_faults(event, run_id=record.run_id)
    if not faults:
        meta: Mapping[str, object] = event["meta"]  # type: ignore[assignment]  # event_faults saw an object
        if agent_id_of(meta) != record.agent_id:
            faults.append(Fault(pointer="/agent_id", detail="not meta.agent_id"))
        if meta.get("idempotency_key") != record.idempotency_key:
            faults.append(Fault(pointer="/idempotency_key", detail="not meta.idempotency_key"))
    if faults:
        raise Invalid(faults)
    return event


def size_faults(*, payload: str, meta: str) -> list[Fault]:
    """What exceeds its bound in the JSON texts of an event's two free parts."""
    faults = []
    if len(meta) > META_BYTES_MAX or len(meta.encode()) > META_BYTES_MAX:
        faults.append(Fault(pointer="/meta", detail=f"more than {META_BYTES_MAX} bytes"))
    if len(payload) > EVENT_BYTES_MAX:
        faults.append(Fault(pointer="/payload", detail=f"more than {EVENT_BYTES_MAX} bytes"))
    return faults


def _environment_rejection(record: EnvironmentCaptured) -> Rejection | None:
    try:
        environment = strictjson.decode(record.environment)
    except (Invalid, strictjson.NotJson) as error:
        return Rejection(reason=Reason.INVALID_EVENT, detail=f"/environment: {error}")
    if not isinstance(environment, dict) or len(record.environment) > ENVIRONMENT_BYTES_MAX:
        return Rejection(
            reason=Reason.INVALID_EVENT,
            detail=f"/environment: a JSON object of at most {ENVIRONMENT_BYTES_MAX} bytes",
        )
    return None


def _seq_fault(value: object) -> str | None:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= SEQ_MAX:
        return "an integer from 1"
    return None


def _time_fault(value: object) -> str | None:
    if not isinstance(value, str) or not _TIME.match(value):
        return "an RFC 3339 time with its offset"
    try:
        moment = datetime.fromisoformat(value.upper())
        if moment.tzinfo is UTC:  # nearly always
            return None
        moment.astimezone(UTC)
    except ValueError:
        return "no such time"
    except OverflowError:  # Postgres would store it, and nobody could read it as a datetime again
        return "not within the years 1 to 9999 of UTC"
    # An offset of up to 23:59 parses here; Postgres takes less than 16 hours.
    offset = moment.utcoffset()
    if offset is None or abs(offset.total_seconds()) >= 16 * 3600:
        return "no such offset"
    return None


def _actor_fault(value: object) -> str | None:
    if not isinstance(value, str) or not _ACTOR.match(value):
        return "a lower-case word of at most 64 characters"
    return None


def _type_fault(value: object) -> str | None:
    if not isinstance(value, str) or not _TYPE.match(value):
        return "a lower-case dotted name of at most 128 characters"
    return None


_CHECKS = (("seq", _seq_fault), ("t", _time_fault), ("actor", _actor_fault), ("type", _type_fault))


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
