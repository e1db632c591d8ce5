"""Records of the log to what sockets are told: decoded, judged, and passed by where they are not valid."""

from collections.abc import Iterator, Sequence

from processors.fanout.messages import Told
from processors.runtime.batch import Partition, RawRecord
from processors.runtime.reading import read, refuses_any
from schemas.access.credentials import Credentials, CurrentCredentials, decide
from schemas.errors import Poison
from schemas.kafka.seal import is_sealed
from schemas.runs.codec import TRACE_CODEC
from schemas.runs.records import EnvironmentCaptured
from schemas.runs.topics import RUN_TRACES, trace_key


def judge(partition: Partition, records: Sequence[RawRecord], credentials: CurrentCredentials) -> Sequence[Told]:
    """
    What of *records* may be told, in their order.

    Poison and what breaks a rule is told to nobody: persistence keeps it. A trace record counts if a process of ours
    has sealed it. What only the tables can tell (an idempotency key that was used before) is not judged here.
    """
    if partition.topic == RUN_TRACES.name:
        sealed = decide(
            lambda by: [raw for raw in records if _is_sealed(raw, by)],
            credentials,
            refuses=lambda found: len(found) < len(records),
        )
        return list(_traces(partition, sealed))
    arrivals, _ = decide(lambda by: read(records, by), credentials, refuses=refuses_any)
    return [
        Told(arrival.record, partition=partition, offset=arrival.raw.offset, timestamp_ms=arrival.raw.timestamp)
        for arrival in arrivals
        if arrival.rejection is None and not isinstance(arrival.record, EnvironmentCaptured)
    ]


def _is_sealed(raw: RawRecord, credentials: Credentials) -> bool:
    return is_sealed(
        topic=raw.topic,
        key=raw.key,
        value=raw.value,
        headers=dict(raw.headers),
        secrets=credentials.gateway.mac_secrets,
    )


def _traces(partition: Partition, sealed: Sequence[RawRecord]) -> Iterator[Told]:
    for raw in sealed:
        try:
            record = TRACE_CODEC.decode(raw.value)
        except Poison:
            continue
        if raw.key == trace_key(record.tenant, record.run_id):
            yield Told(record, partition=partition, offset=raw.offset, timestamp_ms=raw.timestamp)
