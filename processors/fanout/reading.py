"""Conversion of the log's records to those that sockets are sent: decoded and validated; invalid ones are left out."""

from collections.abc import Callable, Sequence

from processors.fanout.messages import StreamRecord
from processors.runtime.batch import RawRecord
from processors.runtime.reading import trusting_reader
from schemas.access.credentials import Credentials, CurrentCredentials
from schemas.errors import Reason, Rejection
from schemas.kafka.places import Partition
from schemas.runs.codec import RUN_CODEC, TRACE_CODEC
from schemas.runs.records import EnvironmentCaptured, TraceRecord
from schemas.runs.topics import RUN_TRACES, trace_key
from schemas.runs.validity import check_direct

StreamReader = Callable[[Partition, Sequence[RawRecord]], Sequence[StreamRecord]]


def stream_reader(credentials: CurrentCredentials) -> StreamReader:
    """
    Return what finds, among the records of a partition, those that may be sent, in their order.

    Poison and what breaks a rule is sent to nobody: persistence keeps it. A trace record counts if a process of ours
    has sealed it. What only the tables can tell (an idempotency key that was used before) is not judged here.
    """
    read_runs = trusting_reader(check_direct, codec=RUN_CODEC, credentials=credentials)
    read_traces = trusting_reader(_check_unsealed_trace, codec=TRACE_CODEC, credentials=credentials)

    def read(partition: Partition, records: Sequence[RawRecord]) -> Sequence[StreamRecord]:
        found = (read_traces if partition.topic == RUN_TRACES.name else read_runs)(records)
        return [
            StreamRecord(
                arrival.record, partition=partition, offset=arrival.raw.offset, timestamp_ms=arrival.raw.timestamp
            )
            for arrival in found.arrivals
            if arrival.rejection is None and _is_sent(arrival.record, arrival.raw)
        ]

    return read


def _is_sent(record: object, raw: RawRecord) -> bool:
    if isinstance(record, TraceRecord):
        return raw.key == trace_key(record.tenant, record.run_id)
    return not isinstance(record, EnvironmentCaptured)


def _check_unsealed_trace(_record: TraceRecord, /, *, key: bytes | None, credentials: Credentials) -> Rejection | None:  # noqa: ARG001  # as `Check` has it
    return Rejection(reason=Reason.UNSIGNED_DIRECT, detail="no process of ours has sealed it")
