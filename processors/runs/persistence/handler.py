"""The persistence group's work: store a slice, then publish the traces of the runs it closed."""

from collections.abc import Callable, Sequence

from processors.runs.persistence.store import EventStore
from processors.runtime.contract import Arrival, Handler, Settled
from processors.runtime.dead_letters import LogWriter, OutgoingRecord
from processors.runtime.errors import RecordRefused, Transient
from processors.runtime.failpoints import Failpoint, reach
from processors.runtime.placement import Placement
from schemas.kafka import headers
from schemas.kafka.seal import record_mac
from schemas.runs.codec import TRACE_CODEC
from schemas.runs.records import RunRecord, TraceRecord
from schemas.runs.topics import RUN_TRACES, trace_key


def persistence(
    store: EventStore, log: LogWriter, mac_secret: Callable[[], str], placement: Placement
) -> Handler[RunRecord]:
    """
    Return the handler: rows first, then traces; a crash between the two publishes the traces again on redelivery.

    Traces are sealed with *mac_secret*, so that who reads them knows them from what others write to their topic.
    """

    async def persist(arrivals: Sequence[Arrival[RunRecord]]) -> Settled[RunRecord]:
        partition_count = await placement.check(arrivals)
        appended = await store.append(arrivals, partition_count=partition_count)
        if appended.traces:
            reach(Failpoint.BEFORE_TRACE)
            try:
                await log.write(RUN_TRACES, [_sealed(trace, mac_secret()) for trace in appended.traces])
            except RecordRefused as refusal:
                # A trace record is bounded far below what its topic takes as we make it: an operator can mend it.
                raise Transient(f"{refusal}; see the topic's settings") from refusal
        return Settled(appended.tally)

    return persist


def _sealed(trace: TraceRecord, mac_secret: str) -> OutgoingRecord:
    key, tenant, value = trace_key(trace.tenant, trace.run_id), trace.tenant.encode(), TRACE_CODEC.encode(trace)
    mac = record_mac(mac_secret, topic=RUN_TRACES.name, key=key, tenant=tenant, value=value)
    return OutgoingRecord(key=key, value=value, headers=[(headers.TENANT, tenant), (headers.GATEWAY_MAC, mac)])
