"""Records to produce: a framed value, its key, and the headers by which consumers trust it."""

from collections.abc import Iterable
from datetime import datetime

import msgspec

from schemas.kafka import headers
from schemas.kafka.seal import record_mac


class Stamp(msgspec.Struct, frozen=True, kw_only=True):
    """The gateway's additions to a record: the time of receipt, the trace context, and the secret that seals it."""

    received_at: datetime
    traceparent: str
    mac_secret: str


class OutgoingRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One record ready for its topic."""

    topic: str
    key: bytes
    value: bytes
    headers: list[tuple[str, bytes]]


def sealed(
    topic: str,
    *,
    key: bytes,
    value: bytes,
    tenant: str,
    event_id: str,
    stamp: Stamp,
    more: Iterable[tuple[str, bytes]] = (),
) -> OutgoingRecord:
    """Return the record with the headers of every record of the gateway, and *more*."""
    owner = tenant.encode()
    mac = record_mac(stamp.mac_secret, topic=topic, key=key, tenant=owner, value=value)
    return OutgoingRecord(
        topic=topic,
        key=key,
        value=value,
        headers=[
            (headers.EVENT_ID, event_id.encode()),
            (headers.TENANT, owner),
            (headers.TRACEPARENT, stamp.traceparent.encode()),
            (headers.RECEIVED_AT, headers.timestamp(stamp.received_at)),
            (headers.GATEWAY_MAC, mac),
            *more,
        ],
    )
