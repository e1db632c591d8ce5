"""The persistence group's work: store a slice, then publish the traces of the runs it closed."""

from collections.abc import Sequence

from processors.persistence.store import EventStore
from processors.runtime.dead_letters import LogWriter, Outgoing
from processors.runtime.failpoints import Failpoint, reach
from processors.runtime.outcomes import Arrival, Handler, Tally
from schemas import codec, headers
from schemas.topics import RUN_TRACES


def persistence(store: EventStore, log: LogWriter) -> Handler:
    """The handler: rows first, then traces; a crash between the two publishes the traces again on redelivery."""

    async def persist(arrivals: Sequence[Arrival]) -> Tally:
        appended = await store.append(arrivals)
        if appended.traces:
            reach(Failpoint.BEFORE_TRACE)
            await log.write(
                RUN_TRACES,
                [
                    Outgoing(
                        key=f"{trace.tenant}/{trace.run_id}".encode(),
                        value=codec.encode(trace),
                        headers=[(headers.TENANT, trace.tenant.encode())],
                    )
                    for trace in appended.traces
                ],
            )
        return appended.tally

    return persist
