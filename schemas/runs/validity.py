"""
The rules for a valid event and a valid record. They are applied by the gateway, and again by every consumer group
before its effect, since anyone with access to Kafka can produce to a topic.

A record with a valid `gateway-mac` was checked by the gateway: schema and signature are not checked again.
"""

from collections.abc import Mapping, Sequence

from schemas import strictjson
from schemas.access.credentials import Agent, Credentials, CurrentCredentials, Tenant, decide
from schemas.canonical import event_digest
from schemas.errors import Fault, Invalid, Poison, Reason, Rejection
from schemas.ids import is_id
from schemas.kafka.seal import is_sealed
from schemas.runs.records import EnvironmentCaptured, RunEvent, RunFinalized, RunRecord
from schemas.runs.rules import ENVIRONMENT_BYTES_MAX, agent_id_of, event_faults, size_faults
from schemas.runs.signature import event_signature_holds
from schemas.texts import exceeds

_UNSIGNED_DIRECT = Rejection(reason=Reason.UNSIGNED_DIRECT, detail="the tenant takes no unsigned direct records")


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
    if is_sealed(topic=topic, key=key, value=value, headers=dict(headers), secrets=credentials.gateway.mac_secrets):
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


def check_direct(record: RunRecord, *, key: bytes | None, credentials: Credentials) -> Rejection | None:
    """Judge what a record says that no gateway of ours vouches for; see `check_record`."""
    if _has_nul(record):
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
    return _finalization_rejection(record) if isinstance(record, RunFinalized) else _environment_rejection(record)


def _has_nul(record: RunRecord) -> bool:
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
    """Return what is wrong with the signature of a valid *event* that *agent* must have sent; None if nothing is."""
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
        "payload": strictjson.decode_part("payload", record.payload),
        "meta": strictjson.decode_part("meta", record.meta),
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


def _finalization_rejection(record: RunFinalized) -> Rejection | None:
    if record.event_count is not None and record.event_count < 0:
        return Rejection(reason=Reason.INVALID_EVENT, detail="/event_count: an integer from 0")
    return None


def _environment_rejection(record: EnvironmentCaptured) -> Rejection | None:
    try:
        environment = strictjson.decode(record.environment)
    except (Invalid, strictjson.NotJson) as error:
        return Rejection(reason=Reason.INVALID_EVENT, detail=f"/environment: {error}")
    if not isinstance(environment, dict) or exceeds(record.environment, ENVIRONMENT_BYTES_MAX):
        return Rejection(
            reason=Reason.INVALID_EVENT,
            detail=f"/environment: a JSON object of at most {ENVIRONMENT_BYTES_MAX} bytes",
        )
    return None
