"""What is valid to what is produced: the framed value, its key, and headers that let consumers trust it."""

from datetime import datetime

import msgspec

from schemas.kafka import headers
from schemas.kafka.seal import record_mac
from schemas.runs.codec import RUN_CODEC
from schemas.runs.records import RunEvent, RunRecord, event_id
from schemas.runs.topics import RUN_EVENTS


class Stamp(msgspec.Struct, frozen=True, kw_only=True):
    """What the gateway adds to a record: when it came, in which trace, and the key that seals it."""

    received_at: datetime
    traceparent: str
    mac_secret: str


class Outgoing(msgspec.Struct, frozen=True, kw_only=True):
    """One record ready for its topic."""

    topic: str
    key: bytes
    value: bytes
    headers: list[tuple[str, bytes]]


def seal(record: RunRecord, *, part: int | str, stamp: Stamp) -> Outgoing:
    """
    Return *record* as it goes to its topic.

    *part* names it within its run: the seq of an event, `finalized` or `environment`.
    """
    topic, key, value = RUN_EVENTS.name, record.run_id.encode(), RUN_CODEC.encode(record)
    bears: list[tuple[str, bytes]] = [
        (headers.EVENT_ID, event_id(record.tenant, record.run_id, part).encode()),
        (headers.TENANT, record.tenant.encode()),
        (headers.TRACEPARENT, stamp.traceparent.encode()),
        (headers.RECEIVED_AT, headers.timestamp(stamp.received_at)),
        (
            headers.GATEWAY_MAC,
            record_mac(stamp.mac_secret, topic=topic, key=key, tenant=record.tenant.encode(), value=value),
        ),
    ]
    if isinstance(record, RunEvent):
        bears.append((headers.SEQ, b"%d" % record.seq))
    return Outgoing(topic=topic, key=key, value=value, headers=bears)
