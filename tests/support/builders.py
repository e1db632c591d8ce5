"""Valid things to start a test from; each test changes the one part it is about."""

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

import msgspec

from processors.runtime.batch import Cut
from schemas.access.credentials import Agent, Credentials, Gateway, Tenant
from schemas.canonical import canonical, event_digest
from schemas.catalogue import CODEC
from schemas.events.codec import EVENT_CODEC
from schemas.events.records import Authenticated, UserEvent, content_of, key_of
from schemas.kafka import headers
from schemas.kafka.places import RecordPlace
from schemas.kafka.seal import record_mac
from schemas.objects.references import reference_to
from schemas.runs.records import Record, RunEvent
from schemas.runs.signature import sign_event

TENANT = "demo"
RUN = "run-1"
SECRET = "agent-secret"
MAC_SECRET = "gateway-secret"
TOPIC = "run.events"


def event(seq: int = 1, *, run_id: str = RUN, **changes: Any) -> dict[str, Any]:
    """Return an event as a client sends it."""
    meta = {"run_id": run_id, "agent_id": "plain-agent"} | changes.pop("meta", {})
    base = {
        "seq": seq,
        "t": "2025-12-05T10:00:00Z",
        "actor": "agent",
        "type": "reasoning",
        "payload": {"text": f"thought {seq}"},
        "meta": meta,
    }
    return base | changes


def signed(given: dict[str, Any], *, agent_id: str = "demo-agent", secret: str = SECRET) -> dict[str, Any]:
    """Return the same event, spoken and signed by an agent with a secret."""
    unsigned = given | {"meta": given["meta"] | {"agent_id": agent_id}}
    return unsigned | {"meta": unsigned["meta"] | {"signature": sign_event(unsigned, secret)}}


def run_event(given: dict[str, Any] | None = None, *, tenant: str = TENANT, **changes: Any) -> RunEvent:
    """Return the record of an event."""
    source = given or event()
    fields: dict[str, Any] = {
        "tenant": tenant,
        "run_id": source["meta"]["run_id"],
        "seq": source["seq"],
        "t": source["t"],
        "actor": source["actor"],
        "type": source["type"],
        "agent_id": str(source["meta"]["agent_id"]),
        "idempotency_key": source["meta"].get("idempotency_key"),
        "payload": json.dumps(source["payload"]),
        "meta": json.dumps(source["meta"]),
        "event_sha256": event_digest(source),
    }
    return RunEvent(**(fields | changes))


def referring(content: bytes, seq: int = 1, **changes: Any) -> RunEvent:
    """Return an event whose payload is kept in object storage."""
    record = run_event(event(seq, **changes))
    reference = reference_to(content, tenant=record.tenant, run_id=record.run_id)
    return msgspec.structs.replace(record, payload=None, payload_ref=reference)


def credentials(*, allow_unsigned_direct: bool = False) -> Credentials:
    """Return one tenant with a signing and a plain agent."""
    agents = {"demo-agent": Agent(secrets=[SECRET]), "plain-agent": Agent()}
    tenant = Tenant(agents=agents, allow_unsigned_direct=allow_unsigned_direct)
    return Credentials(gateway=Gateway(mac_secrets=[MAC_SECRET]), tenants={TENANT: tenant})


@dataclass(kw_only=True)
class Raw:
    """A record as it comes from the log."""

    topic: str = TOPIC
    partition: int = 0
    offset: int = 0
    timestamp: int = 1_764_928_800_000
    key: bytes | None = None
    value: bytes | None = None
    headers: list[tuple[str, bytes | None]] = field(default_factory=list)
    attempt: int = 0
    tier: int = 0
    epoch: int = -1
    cut: Cut | None = None

    @property
    def place(self) -> RecordPlace:
        return RecordPlace(self.topic, self.partition, self.offset)


def raw(
    record: Record, *, offset: int = 0, partition: int = 0, checked: bool = True, mac_secret: str = MAC_SECRET
) -> Raw:
    """Return the record in the log, with the gateway's mac if it came through a gateway."""
    key, value = record.run_id.encode(), CODEC.encode(record)
    mac = record_mac(mac_secret, topic=TOPIC, key=key, tenant=record.tenant.encode(), value=value)
    proof: list[tuple[str, bytes | None]] = [(headers.TENANT, record.tenant.encode()), (headers.GATEWAY_MAC, mac)]
    return Raw(key=key, value=value, offset=offset, partition=partition, headers=proof if checked else [])


USER_TOPIC = "user.events"


def user_event(event_id: str = "e-1", *, payload: object = None, context: object = None, **changes: Any) -> UserEvent:
    """Return the record of a user event, its digest right unless *changes* has another."""
    fields: dict[str, Any] = {
        "tenant": TENANT,
        "event_id": event_id,
        "source": "api",
        "user_id": "u-1",
        "type": "order_completed",
        "payload": json.dumps({} if payload is None else payload),
        "context": None if context is None else json.dumps(context),
        "authenticated": Authenticated.KEY,
        "user_verified": True,
        "event_sha256": b"",
    }
    event = UserEvent(**(fields | changes))
    if "event_sha256" in changes:
        return event
    content = content_of(event, payload=json.loads(event.payload), context=context)
    return msgspec.structs.replace(event, event_sha256=hashlib.sha256(canonical(content)).digest())


def direct_user_event(event_id: str = "e-1", **changes: Any) -> UserEvent:
    """Return the record of a user event as a direct producer writes it."""
    return user_event(event_id, authenticated=Authenticated.DIRECT, user_verified=False, **changes)


def raw_user_event(event: UserEvent, *, offset: int = 0, partition: int = 0, checked: bool = True) -> Raw:
    """Return the record in the log, with the gateway's mac if it came through a gateway."""
    key, value, tenant = key_of(event), EVENT_CODEC.encode(event), event.tenant.encode()
    mac = record_mac(MAC_SECRET, topic=USER_TOPIC, key=key, tenant=tenant, value=value)
    proof: list[tuple[str, bytes | None]] = [(headers.TENANT, tenant), (headers.GATEWAY_MAC, mac)]
    return Raw(
        topic=USER_TOPIC,
        key=key,
        value=value,
        offset=offset,
        partition=partition,
        headers=proof if checked else [],
    )
