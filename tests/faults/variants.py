"""
The product with one thing changed: `python -m tests.faults.variants NAME gateway|processors ...`.

Faults that no signal can make, and mutations: mistakes that the suite must see. A variant is a function here that
changes one name of the product before it starts.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import count
from time import sleep
from typing import IO, Any

from gateway import __main__ as gateway_main
from gateway.kafka import publisher
from gateway.runs.parsing import prepared
from processors import __main__ as processors_main
from processors.jobs.executor import executor
from processors.postgres import writes
from processors.runs.persistence import finalization, handler, process
from processors.runs.persistence.trace import StoredEvent, Trace
from processors.runs.retention import rules
from processors.runtime import group, worker
from processors.runtime.batch import Batch
from processors.runtime.contract import Arrival, Handler, Settled
from processors.runtime.failpoints import EXIT_KILLED
from processors.runtime.gathering import Bounds
from processors.runtime.health import Health
from processors.runtime.lanes import Lanes, Work
from processors.runtime.offset_tracker import OffsetTracker
from schemas.archive.names import ObjectName
from schemas.archive.storage import ObstoreArchive
from schemas.kafka import registry
from schemas.kafka.clients import producer_config
from schemas.kafka.codec import Codec, RecordType
from schemas.kafka.connection import KafkaSettings
from schemas.kafka.places import Partition, RecordPlace
from schemas.kafka.topics import Group
from schemas.runs import codec as run_codec
from schemas.runs import records as schema_events
from schemas.runs.records import RunRecord
from tests.faults.next_release import COST, RUN_EVENT
from tests.support.builders import Raw

SLICES_BEFORE_THE_ERROR = 5
REPORTS_BEFORE_DEATH = 500
IMPATIENT_S = 2.0
HOUR = timedelta(hours=1)
READINGS_BETWEEN_STEPS = 3
TAKEN_MAX = 500
GATHERED = Bounds(records_max=50, bytes_max=64 * 1024, seconds_max=0.5)
TAKEN_WITHIN_S = 0.1


def impatient() -> None:
    """Give Postgres 2 s for a transaction instead of 30."""
    change(writes, "TRANSACTION_S", IMPATIENT_S)


def slow_summary() -> None:
    """Give a transaction a second for each step, and take a tenth for each five events that are summed up."""

    def add(trace: Trace, event: StoredEvent) -> None:
        sleep(0.02)
        add_at_once(trace, event)

    add_at_once = Trace.add
    change(Trace, "add", add)
    change(finalization, "ROWS_A_FETCH", 5)
    change(writes, "TRANSACTION_S", 1.0)


def raising() -> None:
    """Raise from within the handler after some slices."""

    def persistence(*parts: Any) -> Handler[RunRecord]:
        handle, slices_left = handler.persistence(*parts), SLICES_BEFORE_THE_ERROR

        async def handle_or_raise(arrivals: Sequence[Arrival[RunRecord]]) -> Settled[RunRecord]:
            nonlocal slices_left
            slices_left -= 1
            if slices_left < 0:
                raise RuntimeError("a bug in the handler")
            return await handle(arrivals)

        return handle_or_raise

    change(process, "persistence", persistence)


def gathering() -> None:
    """Gather slices into batches, as a sink does."""
    change(process, "run_group", partial(process.run_group, gathering=GATHERED))


def gateway_dies_before_a_report() -> None:
    """Die when a delivery report is in and its request not answered."""
    settle = publisher._Delivery.settle

    def die_or_settle(delivery: publisher._Delivery) -> None:
        if next(reports) == REPORTS_BEFORE_DEATH:
            os._exit(EXIT_KILLED)
        settle(delivery)

    reports = count(1)
    change(publisher._Delivery, "settle", die_or_settle)


def gateway_dies_after_a_report() -> None:
    """Die when a request knows its receipt and has not said so."""
    settle = publisher._Delivery.settle

    def settle_or_die(delivery: publisher._Delivery) -> None:
        settle(delivery)
        if next(reports) == REPORTS_BEFORE_DEATH:
            os._exit(EXIT_KILLED)

    reports = count(1)
    change(publisher._Delivery, "settle", settle_or_die)


def gateway_with_a_wandering_clock() -> None:
    """Read a clock that is an hour fast or slow, and steps from one to the other."""

    def wandering() -> datetime:
        return datetime.now(UTC) + (HOUR if next(readings) % READINGS_BETWEEN_STEPS else -HOUR)

    readings = count()
    change(gateway_main, "_now", wandering)


def next_release() -> None:
    """Know one version of RunEvent more than is released, and write that one."""

    class RunEvent(schema_events.RunEvent, frozen=True, kw_only=True):
        cost: float | None  # no default: that of an earlier record must come from the schema

    known = registry.released()
    change(registry, "released", lambda: (*known, RUN_EVENT))
    change(schema_events, "RunEvent", RunEvent)
    change(prepared, "RunEvent", partial(RunEvent, cost=COST))
    newer = RecordType(name=RUN_EVENT.record_name, cls=RunEvent, converters=run_codec.RUN_EVENT.converters)
    # In place: whoever has imported the codec has this object.
    Codec.__init__(run_codec.RUN_CODEC, (newer, run_codec.ENVIRONMENT_CAPTURED, run_codec.RUN_FINALIZED))


# Mutations


def ack_before_the_database() -> None:
    """Count a slice as finished when it is handed to its lane."""
    dispatch = Lanes.dispatch

    def finish_and_dispatch(lanes: Lanes, batch: Batch) -> None:
        lanes._finished(batch)
        dispatch(lanes, batch)

    change(Lanes, "dispatch", finish_and_dispatch)


def commit_past_an_unfinished_slice() -> None:
    """When a slice is finished, commit to the end of the last one that was fetched."""
    finish = OffsetTracker.finish

    def finish_all(tracker: OffsetTracker, batch: Batch) -> None:
        finish(tracker, batch)
        held = tracker._assigned.get(batch.partition)
        if held and held.batches:
            held.pending_commit = held.batches[-1].end_offset

    change(OffsetTracker, "finish", finish_all)


def concurrency_2() -> None:
    """Let two tasks work on one partition."""
    dispatch = Lanes.dispatch
    second: dict[Partition, asyncio.Task[None]] = {}

    def dispatch_to_two(lanes: Lanes, batch: Batch) -> None:
        dispatch(lanes, batch)
        if batch.partition not in second or second[batch.partition].done():
            second[batch.partition] = asyncio.create_task(lanes._run(lanes._queues[batch.partition]))

    change(Lanes, "dispatch", dispatch_to_two)


def take() -> None:
    """Leave slices and acknowledgement to Faust: `take()` on a stock transport."""

    class Taking(worker.Worker):
        def __init__(self, group: Group, *, kafka: KafkaSettings, work: Work, health: Health, **parts: Any) -> None:
            super().__init__(group, kafka=kafka, work=work, health=health, **parts)
            self.app = worker._faust_app(group, kafka)
            source = self.app.topic(*(topic.name for topic in group.sources), value_type=bytes, key_type=bytes)
            health.joined = True

            async def deliver(stream: Any) -> None:
                async for events in stream.take_events(TAKEN_MAX, within=TAKEN_WITHIN_S):
                    for batch in by_partition(events):
                        await work(batch)

            self.app.agent(source, name="taking")(deliver)

    change(group, "Worker", Taking)


def by_partition(events: Sequence[Any]) -> Iterator[Batch]:
    """Faust's events as slices."""
    records: dict[Partition, list[Any]] = {}
    for message in (each.message for each in events):
        record = Raw(
            topic=message.topic,
            partition=message.partition,
            offset=message.offset,
            timestamp=int(message.timestamp * 1000),
            key=message.key,
            value=message.value,
            headers=list(message.headers),
        )
        records.setdefault(Partition(message.topic, message.partition), []).append(record)
    return (Batch(partition, slice_) for partition, slice_ in records.items())


def crc32() -> None:
    """Leave the partitioner to librdkafka."""

    def without_partitioner(*arguments: Any, **settings: Any) -> dict[str, Any]:
        config = producer_config(*arguments, **settings)
        return {name: value for name, value in config.items() if name != "partitioner"}

    change(publisher, "producer_config", without_partitioner)


def acks_of_the_leader() -> None:
    """Count a record as written once its leader has it."""

    def leader_only(*arguments: Any, **settings: Any) -> dict[str, Any]:
        return {**producer_config(*arguments, **settings), "acks": 1, "enable.idempotence": False}

    change(publisher, "producer_config", leader_only)


def accepted_before_the_ack() -> None:
    """Answer 202 once librdkafka has the record in its queue."""

    async def at_once(self: publisher._Delivery) -> RecordPlace:
        return RecordPlace(self.topic, 0, 0)

    change(publisher._Delivery, "acknowledged", at_once)


def retention_without_offsets() -> None:
    """Remove whatever is old, also what a group has yet to pass."""
    change(rules.CommittedFloors, "holds", lambda _passed, _partition, _offset: False)


def retention_without_references() -> None:
    """Remove every old object, whatever refers to it."""
    change(rules, "is_referred", lambda _key, **_referring: False)


def change(owner: object, name: str, changed: object) -> None:
    """Give *name* of a module or class another value; it must be there."""
    assert hasattr(owner, name), f"the product has no {name} any more"
    setattr(owner, name, changed)


def no_beats_in_drain() -> None:
    """Renew no lease once an executor drains."""
    beat = executor.Executor._beat

    async def beat_before(self: executor.Executor) -> None:
        if not self._is_draining:
            await beat(self)

    change(executor.Executor, "_beat", beat_before)


def stops_before_its_put() -> None:
    """Let the archive's first put wait until somebody continues the process."""
    _stop_in_first_put(before=True)


def stops_after_its_put() -> None:
    """Let the archive's first put be done, and its answer wait until somebody continues the process."""
    _stop_in_first_put(before=False)


def _stop_in_first_put(*, before: bool) -> None:
    create, hits = ObstoreArchive.create, count()

    def stopping(self: ObstoreArchive, name: ObjectName, content: IO[bytes]) -> bool:
        is_first = next(hits) == 0
        if is_first and before:
            os.kill(os.getpid(), signal.SIGSTOP)
        is_created = create(self, name, content)
        if is_first and not before:
            os.kill(os.getpid(), signal.SIGSTOP)
        return is_created

    change(ObstoreArchive, "create", stopping)


VARIANTS: dict[str, Callable[[], None]] = {
    each.__name__: each
    for each in (
        impatient,
        slow_summary,
        raising,
        gathering,
        gateway_dies_before_a_report,
        gateway_dies_after_a_report,
        gateway_with_a_wandering_clock,
        next_release,
        ack_before_the_database,
        commit_past_an_unfinished_slice,
        concurrency_2,
        take,
        crc32,
        acks_of_the_leader,
        accepted_before_the_ack,
        retention_without_offsets,
        retention_without_references,
        no_beats_in_drain,
        stops_before_its_put,
        stops_after_its_put,
    )
}
MAINS = {"gateway": gateway_main.main, "processors": processors_main.main}

if __name__ == "__main__":
    name, *program = sys.argv[1:]
    VARIANTS[name]()
    sys.argv = program
    sys.exit(MAINS[program[0]]())
