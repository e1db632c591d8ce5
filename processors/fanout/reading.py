"""Conversion of the log's records to those that sockets are sent: decoded and validated; invalid ones are left out."""

from collections.abc import Callable, Sequence

from processors.fanout.messages import StreamRecord
from processors.fanout.streams.table import SOURCES
from processors.runtime.batch import RawRecord
from processors.runtime.reading import trusting_reader
from schemas.access.credentials import CurrentCredentials
from schemas.kafka.places import Partition

StreamReader = Callable[[Partition, Sequence[RawRecord]], Sequence[StreamRecord]]


def stream_reader(credentials: CurrentCredentials) -> StreamReader:
    """
    Return what finds, among the records of a partition, those that may be sent, in their order.

    Poison and what breaks a rule is sent to nobody: the group that stores it keeps it. Trace records, and all records
    of jobs that are sent, count if a process of ours has sealed them. What only the tables can tell (an idempotency key
    that was used before) is not judged here.
    """
    readers = {
        name: trusting_reader(source.check, codec=source.codec, credentials=credentials)
        for name, source in SOURCES.items()
    }

    def read(partition: Partition, records: Sequence[RawRecord]) -> Sequence[StreamRecord]:
        source = SOURCES[partition.topic]
        return [
            source.record(
                arrival.record, partition=partition, offset=arrival.raw.offset, timestamp_ms=arrival.raw.timestamp
            )
            for arrival in readers[partition.topic](records).arrivals
            if arrival.rejection is None and source.is_sent(arrival.record, arrival.raw.key)
        ]

    return read
