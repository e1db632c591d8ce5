"""
Live streams in a small world: a log that grows, lanes that tell of it, clients that come, stall, go and come back.

The hub, the catching up, the dispatch and the outboxes are the product's; the log, the clients and their connections
are not. Everything runs on one loop in an order that a seed decides.
"""

import asyncio
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import msgspec

from processors.fanout.catchup import CatchUp
from processors.fanout.dispatch import Dispatch
from processors.fanout.hub import Hub
from processors.fanout.log import LogSlice
from processors.fanout.messages import Kind, StreamRecord
from processors.fanout.outbox import Outbox
from processors.fanout.places import Places, TopicEnds
from processors.fanout.resolving import Resolver
from processors.fanout.streams.table import SOURCES
from processors.fanout.subscriber import Subscriber
from processors.fanout.tallies import Tallies
from processors.runtime.batch import Batch, RawRecord
from processors.runtime.errors import Transient
from schemas.jobs.records import JobChanged, JobOutput, JobProgress
from schemas.jobs.states import JobStatus
from schemas.jobs.topics import JOB_EVENTS, JOB_REPORTS
from schemas.kafka import cursors
from schemas.kafka.partitioner import partition_of
from schemas.kafka.places import Partition
from schemas.kafka.topics import Topic
from schemas.objects.references import PayloadProblem, PayloadRef, reference_to
from schemas.process import telemetry
from schemas.runs.records import RunEvent, RunFinalized, RunStatus, TraceRecord
from schemas.runs.topics import RUN_EVENTS, RUN_TRACES, trace_key
from tests.support.builders import TENANT, event, run_event

IDS = {RUN_EVENTS.name: "E" * 22, RUN_TRACES.name: "T" * 22, JOB_EVENTS.name: "J" * 22, JOB_REPORTS.name: "R" * 22}
PARTITIONS = {RUN_EVENTS.name: 2, RUN_TRACES.name: 2}
JOB_PARTITIONS = {JOB_EVENTS.name: 2, JOB_REPORTS.name: 2}
RUNS = [f"run-{number}" for number in (1, 2, 6, 9)]  # two in each partition
AGENTS = ["agent-0", "agent-1"]
JOBS = [f"job-{number}" for number in range(6)]
SLICE_MAX = 4
MESSAGES_MAX = 8  # of an outbox
INSTRUMENTS = telemetry.Telemetry(telemetry.OF_FANOUT)
FINALIZED_AT = "2026-01-01T00:00:00Z"

Record = RunEvent | RunFinalized | TraceRecord | JobChanged | JobProgress | JobOutput
KEPT = b'"kept in object storage"'


class KeptPayloads:
    """Object storage: there, or away for a while."""

    def __init__(self, dice: random.Random) -> None:
        """Hold one payload."""
        self._dice = dice

    async def fetch(self, reference: PayloadRef) -> bytes | PayloadProblem:
        """See `processors.runtime.payloads.Payloads.fetch`."""
        assert reference.size_bytes == len(KEPT)
        for _ in range(self._dice.randrange(6)):
            await asyncio.sleep(0)
        if self._dice.random() < 0.1:
            raise Transient("the storage does not answer")
        return KEPT


class MemoryLog:
    """The log: what was written, by partition."""

    def __init__(self, dice: random.Random, partitions: Mapping[str, int] = PARTITIONS) -> None:
        """Hold nothing; some offsets stay empty, as markers of transactions and compaction leave them."""
        self._dice = dice
        self.records: dict[Partition, dict[int, Record]] = {
            Partition(topic, each): {} for topic, many in partitions.items() for each in range(many)
        }
        self.ends_of: dict[Partition, int] = dict.fromkeys(self.records, 0)
        self.first: dict[Partition, int] = dict.fromkeys(self.records, 0)

    def append(self, partition: Partition, record: Record) -> None:
        """Write *record*."""
        self.ends_of[partition] += self._dice.random() < 0.1
        self.records[partition][self.ends_of[partition]] = record
        self.ends_of[partition] += 1

    def slice(self, partition: Partition, start: int, end: int, most: int) -> list[RawRecord]:
        """Return at most so many records from *start* on and below *end*."""
        offsets = sorted(each for each in self.records[partition] if start <= each < end)[:most]
        return [_raw(partition, each, self.records[partition][each]) for each in offsets]

    async def read(self, partition: Partition, start: int, end: int) -> LogSlice:
        """See `processors.fanout.log.Log.read`."""
        for _ in range(self._dice.randrange(6)):
            await asyncio.sleep(0)
        if self._dice.random() < 0.05:
            raise Transient("the log does not answer")
        records = self.slice(partition, start, end, SLICE_MAX)
        whole = len(records) < SLICE_MAX
        for _ in range(self._dice.randrange(6)):
            await asyncio.sleep(0)
        return LogSlice(records=records, next_offset=max(start, end) if whole else records[-1].offset + 1)

    async def ends(self, topic: Topic) -> dict[int, int]:
        """See `processors.fanout.log.Log.ends`."""
        return {each.partition: end for each, end in self.ends_of.items() if each.topic == topic.name}

    def read_records(self, partition: Partition, records: Sequence[RawRecord]) -> Sequence[StreamRecord]:
        """Take every record for valid."""
        return [_streamed(partition, raw.offset, self.records[partition][raw.offset]) for raw in records]


def _streamed(partition: Partition, offset: int, record: Record) -> StreamRecord:
    return SOURCES[partition.topic].record(record, partition=partition, offset=offset, timestamp_ms=0)


def place_for(record: Record, partitions: Mapping[str, int]) -> tuple[Partition, bytes]:
    """Return the partition and the key that *record* has in the log."""
    match record:
        case JobChanged():
            topic, key = JOB_EVENTS, record.job_id.encode()
        case JobProgress() | JobOutput():
            topic, key = JOB_REPORTS, record.job_id.encode()
        case TraceRecord():
            topic, key = RUN_TRACES, trace_key(record.tenant, record.run_id)
        case _:
            topic, key = RUN_EVENTS, record.run_id.encode()
    return Partition(topic.name, partition_of(key, partitions[topic.name])), key


def _raw(partition: Partition, offset: int, record: Record) -> RawRecord:
    _, key = place_for(record, {partition.topic: 1})
    # Nothing is decoded, but the size counts.
    value = record.payload.encode() if isinstance(record, RunEvent) and record.payload else b""
    return RawRecord(*partition, offset, 0, key, value, ())


@dataclass(eq=False)
class Connection:
    """What asyncio's transport is to an outbox; its client reads, or does not."""

    reading: bool = True
    unread: bytearray = field(default_factory=bytearray)
    closed: bool = False

    def write(self, data: bytes) -> None:
        """Take *data*."""
        self.unread += data

    def get_write_buffer_size(self) -> int:
        """Return what a client that does not read has left."""
        return 0 if self.reading else len(self.unread)

    def is_closing(self) -> bool:
        """Return whether it is closed."""
        return self.closed


class Client:
    """One that follows a run or an agent, over as many sockets as it takes."""

    def __init__(self, world: "World", kind: str, name: str) -> None:
        """Follow *name* from now on."""
        self._world = world
        self.key = (kind, TENANT, name)
        self.resolves = world.dice.random() < 0.4
        self.cursor: str | None = None
        self.begins: dict[str, dict[int, int]] = {}  # as its first hello says
        self.received: list[dict[str, object]] = []
        self.connect()

    def connect(self) -> None:
        """Open a socket, from the last cursor on."""
        hub, world = self._world.hub, self._world
        self.connection = Connection()
        self._outbox = Outbox(
            self.connection,
            later=world.later,
            overflows=lambda: world.ended.append(self),
            clock=lambda: 0.0,
            messages_max=MESSAGES_MAX,
        )
        self._subscriber = Subscriber(
            key=self.key,
            agents=None,
            covers=hub.places.covered(self.key),
            outbox=self._outbox,
            resolves=self.resolves,
        )
        hub.join(self._subscriber, None if self.cursor is None else cursors.decode(self.cursor))

    def disconnect(self) -> None:
        """Go, with what was read."""
        self.connection.closed = True
        self._outbox.close()
        self._world.hub.leave(self._subscriber)

    def read(self) -> None:
        """Take what was sent."""
        for payload in unframed(bytes(self.connection.unread)):
            message = msgspec.json.decode(payload)
            self.cursor = message["cursor"]
            if message["type"] in list(Kind):
                self.received.append(message)
            elif message["type"] == "hello" and not self.begins:
                self.begins = {topic: dict(places) for topic, places in cursors.decode(self.cursor).items()}
            else:
                assert message["type"] == "hello", message
        self.connection.unread.clear()


def unframed(data: bytes) -> list[bytes]:
    """Return the payloads of a server's text frames."""
    payloads = []
    while data:
        assert data[0] == 0x81
        size, begin = data[1], 2
        if size >= 126:
            begin = 4 if size == 126 else 10
            size = int.from_bytes(data[2:begin], "big")
        payloads.append(data[begin : begin + size])
        data = data[begin + size :]
    return payloads


class World:
    """The log, one fanout, and its clients."""

    partitions: Mapping[str, int] = PARTITIONS

    def __init__(self, seed: int, hub_type: type[Hub] = Hub) -> None:
        """Everything that happens follows from *seed*."""
        self.dice = random.Random(seed)
        self.log = MemoryLog(self.dice, self.partitions)
        self.seqs = {run: count(1) for run in RUNS}
        self.finalized: set[str] = set()
        for _ in range(self.dice.randrange(40)):
            self.append()
        self.ended: list[Client] = []
        self.backlog: list[Outbox] = []
        self.clients: list[Client] = []
        self._hub_type = hub_type
        self.start()

    def start(self) -> None:
        """Start the fanout, as after a crash: whoever is connected is not any more."""
        topics = {
            name: TopicEnds(id=IDS[name], ends={each: self.log.ends_of[Partition(name, each)] for each in range(many)})
            for name, many in self.partitions.items()
        }
        self.hub = self._hub_type(Places(topics), tallies=Tallies(), instruments=INSTRUMENTS, clock_ms=lambda: 0.0)
        self.catch_up = CatchUp(
            self.hub,
            self.log,
            self.log.read_records,
            resolver=Resolver(KeptPayloads(self.dice), clock=count().__next__),
            instruments=INSTRUMENTS,
            sleep=self._sleep,
        )
        self.dispatch = Dispatch(self.hub, self.log, self.log.read_records, sleep=self._sleep)
        self._told: dict[Partition, asyncio.Task[None]] = {}

    async def restart(self) -> None:
        """End the fanout at once, and start another."""
        await self.catch_up.__aexit__()
        for task in self._told.values():
            task.cancel()
        await asyncio.gather(*self._told.values(), return_exceptions=True)
        for client in self.clients:
            if self.dice.random() < 0.5:
                client.read()
            client.disconnect()
        self.start()
        for client in self.clients:
            client.connect()

    def later(self, outbox: Outbox) -> None:
        """See `Backlog.add`."""
        self.backlog.append(outbox)

    def append(self) -> None:
        """Write the next record of some run; what ends it, now and then."""
        run = self.dice.choice([run for run in RUNS if run not in self.finalized] or RUNS)
        partition = Partition(RUN_EVENTS.name, partition_of(run.encode(), PARTITIONS[RUN_EVENTS.name]))
        if run in self.finalized:
            return
        if self.dice.random() < 0.02:
            self.finalized.add(run)
            self.log.append(
                partition,
                msgspec.convert(
                    {"tenant": TENANT, "run_id": run, "status": "succeeded", "finalized_at": FINALIZED_AT}, RunFinalized
                ),
            )
            traces = Partition(RUN_TRACES.name, partition_of(trace_key(TENANT, run), PARTITIONS[RUN_TRACES.name]))
            self.log.append(
                traces,
                TraceRecord(
                    tenant=TENANT,
                    run_id=run,
                    status=RunStatus.SUCCEEDED,
                    event_count=1,
                    chain_head=b"",
                    document="{}",
                ),
            )
            return
        agent = self.dice.choice(AGENTS)
        given = event(next(self.seqs[run]), run_id=run, meta={"agent_id": agent})
        record = run_event(given)
        if self.dice.random() < 0.3:
            reference = reference_to(KEPT, tenant=TENANT, run_id=run)
            record = msgspec.structs.replace(record, payload=None, payload_ref=reference)
        self.log.append(partition, record)

    async def step(self) -> None:
        """Let one thing happen."""
        chance = self.dice.random()
        if chance < 0.45:
            self.append()
        elif chance < 0.75:
            self._tell_some(self.dice.choice(list(self.log.records)))
        elif chance < 0.80 and len(self.clients) < 12:
            self.clients.append(self._new_client())
        elif chance < 0.88 and self.clients:
            client = self.dice.choice(self.clients)
            if self.dice.random() < 0.7:
                client.read()
            client.disconnect()
            client.connect()
        elif chance < 0.94 and self.clients:
            client = self.dice.choice(self.clients)
            client.connection.reading = not client.connection.reading
        elif chance < 0.945:
            await self.restart()
        self._flush()
        for _ in range(self.dice.randrange(4)):
            await asyncio.sleep(0)

    def _new_client(self) -> Client:
        kind = self.dice.choice(["run", "agent"])
        return Client(self, kind, self.dice.choice(RUNS if kind == "run" else AGENTS))

    async def settle(self) -> None:
        """Let everybody read until nothing happens any more."""
        for _ in range(2000):
            for partition in self.log.records:
                self._tell_some(partition)
            for client in self.clients:
                client.connection.reading = True
                client.read()
            self._flush()
            for _ in range(3):
                await asyncio.sleep(0)
            if self._is_quiet():
                return
        raise AssertionError("it does not come to rest")

    def check(self) -> None:
        """Demand of every client that it holds each record of what it follows once, in the order of the log."""
        for client in self.clients:
            for partition, expected in self._expected(client).items():
                got = [_name(message) for message in client.received if _is_of(message, partition, client)]
                assert got == expected, f"{client.key} of {partition}: {got} instead of {expected}"
            for message in client.received:
                _check_payload(message, client)

    def _expected(self, client: Client) -> dict[Partition, list[str]]:
        expected = {}
        for partition in self.hub.places.covered(client.key):
            begin = client.begins[IDS[partition.topic]][partition.partition]
            expected[partition] = [
                _name_of(partition, offset, record)
                for offset, record in sorted(self.log.records[partition].items())
                if offset >= begin and client.key in _streamed(partition, offset, record).keys
            ]
        return expected

    def _tell_some(self, partition: Partition) -> None:
        task = self._told.get(partition)
        if task is not None and not task.done():
            return
        if task is not None:
            task.result()
        start = self.hub.places.position(partition)
        records = self.log.slice(partition, start, self.log.ends_of[partition], self.dice.randrange(1, 6))
        if records:
            self._told[partition] = asyncio.create_task(self.dispatch.deliver(Batch(partition, records)))

    def _flush(self) -> None:
        ended, self.ended = self.ended, []
        for client in ended:  # slow readers are cut, and come back
            client.read()
            client.disconnect()
            client.connect()
        waiting, self.backlog = self.backlog, []
        for outbox in waiting:
            outbox.flush()

    def _is_quiet(self) -> bool:
        record = all(
            not self.log.slice(partition, self.hub.places.position(partition), end, 1)
            for partition, end in self.log.ends_of.items()
        )
        caught_up = not any(self.hub.waiting(partition) for partition in self.log.records)
        read = not any(client.connection.unread for client in self.clients)
        return record and caught_up and read and not self.backlog and all(each.done() for each in self._told.values())

    async def _sleep(self, _seconds: float) -> None:
        await asyncio.sleep(0)


def _name_of(partition: Partition, offset: int, record: Record) -> str:
    return "trace" if isinstance(record, TraceRecord) else f"{partition.topic}/{partition.partition}/{offset}"


def _name(message: dict[str, object]) -> str:
    return str(message.get("wal_id", "trace"))


def _is_of(message: dict[str, object], partition: Partition, client: Client) -> bool:
    if message["type"] == Kind.TRACE_RECORD:
        return partition.topic == RUN_TRACES.name and client.key[2] == message["run_id"]
    return _name(message).startswith(f"{partition.topic}/{partition.partition}/")


def _check_payload(message: dict[str, Any], client: Client) -> None:
    if message["type"] != Kind.TRACE_EVENT or message["event"]["payload_ref"] is None:
        return
    shown = message["event"]["payload"], message["event"].get("payload_problem")
    if client.resolves:
        assert shown in ((msgspec.json.decode(KEPT), None), (None, PayloadProblem.UNAVAILABLE)), shown
    else:
        assert shown == (None, None), shown


class JobWorld(World):
    """A world of jobs: clients follow one or all of a tenant."""

    partitions = JOB_PARTITIONS

    def __init__(self, seed: int, hub_type: type[Hub] = Hub) -> None:
        """Everything that happens follows from *seed*."""
        self.versions = {job: count(1) for job in JOBS}
        super().__init__(seed, hub_type)

    def append(self) -> None:
        """Write the next state of some job, or what an attempt reports."""
        job = self.dice.choice(JOBS)
        kind = self.dice.choice(["state", "progress", "output"])
        record: Record
        if kind == "state":
            record = job_changed(next(self.versions[job]), job_id=job)
        elif kind == "progress":
            record = JobProgress(tenant=TENANT, job_id=job, attempt_id="a", fraction=0.5, at_ms=0)
        else:
            record = JobOutput(tenant=TENANT, job_id=job, attempt_id="a", text="line\n", at_ms=0)
        partition, _ = place_for(record, self.partitions)
        self.log.append(partition, record)

    def _new_client(self) -> Client:
        if self.dice.random() < 0.5:
            return Client(self, "tasks", "")
        return Client(self, "task", self.dice.choice(JOBS))


def job_changed(version: int, *, job_id: str = "job-0", tenant: str = TENANT, **changes: Any) -> JobChanged:
    """Return the state of a job."""
    fields: dict[str, Any] = {
        "type": "echo",
        "queue": "default",
        "status": JobStatus.PENDING,
        "priority": 5,
        "attempts": 0,
        "at_ms": 1_767_225_600_000,
    }
    return JobChanged(tenant=tenant, job_id=job_id, version=version, **(fields | changes))


async def play(seed: int, hub_type: type[Hub] = Hub, *, steps: int = 400, world_type: type[World] = World) -> None:
    """Let a world live, come to rest, and be checked."""
    world = world_type(seed, hub_type)
    for _ in range(steps):
        await world.step()
    await world.settle()
    world.check()
    await world.catch_up.__aexit__()
