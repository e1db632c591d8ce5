"""
One log, one or two gateways, clients that switch between them: seeded schedules of answers, failures and restarts.

The log is judged as persistence judges it, and each answer is held against it.
"""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

import pytest

from gateway.errors import (
    EventTooLarge,
    IdempotencyConflict,
    LogUnavailable,
    ObjectsUnavailable,
    RunClosed,
    SequenceError,
    StoreUnavailable,
)
from gateway.kafka.followers import GroupFollower
from gateway.kafka.publisher import Reported
from gateway.kafka.records import OutgoingRecord
from gateway.objects.uploads import Uploads
from gateway.runs.parsing.prepared import EventIdentity
from gateway.runs.sequence import sequencer, state_reader
from gateway.runs.sequence.decision import Decision, decide
from gateway.runs.sequence.memory import KnownEvent, Run, RunEnd, RunKey, RunState, Unread
from gateway.runs.sequence.sequencer import Sequencer, Submission
from gateway.runs.sequence.state_reader import RunStateReader
from gateway.runs.sequence.tail import PartitionTail
from schemas.catalogue import CODEC
from schemas.kafka.places import RecordPlace
from schemas.objects.references import INLINE_BYTES_MAX
from schemas.runs.records import RunEvent, RunFinalized, RunStatus
from schemas.runs.topics import PERSISTENCE
from tests.support import builders
from tests.support.fakes import InForce, MemoryCommitted, MemoryObjects, MemoryRunStore, RecordingDelivery, log_record
from tests.unit.gateway.runs.sequence.conftest import NOW, finalization, prepared

SEEDS = 60
RUNS = 3
EVENTS = 6  # of each run
CLIENTS = 2  # of each run


@dataclass
class Judged:
    """A run as persistence makes it of a prefix of the log."""

    entries: dict[int, tuple[bytes, int]] = field(default_factory=dict)  # by seq: digest, offset
    closed: tuple[RunStatus, int] | None = None
    rejected: int = 0
    duplicates: int = 0

    @property
    def head(self) -> int:
        return max(self.entries, default=0)


class World:
    """The log, the store behind it, and the gateways before it."""

    def __init__(self, seed: int, *, gateways: int, faults: bool) -> None:
        self.random = Random(seed)
        self.faults = faults
        self.log: list[OutgoingRecord] = []
        self.objects = Objects(self)
        self.committed = MemoryCommitted({0: 0})
        self.stored = 0  # how much of the log the store has
        self.gateways = [self.gateway() for _ in range(gateways)]

    def gateway(self) -> Sequencer:
        """Return a gateway that knows nothing yet."""
        store = Store(self)
        follower = GroupFollower(PERSISTENCE, self.committed, clock=lambda: NOW)
        follower._note(self.committed.read())
        made = RunStateReader(
            tails=Tail(self), store=store, follower=follower, credentials=InForce(builders.credentials())
        )
        return Sequencer(publisher=Link(self), states=made, uploads=Uploads(self.objects), runs_max=2)

    async def turns(self, most: int) -> None:
        """Let others go on, and persistence and the follower's look at it."""
        for _ in range(self.random.randrange(most)):
            await asyncio.sleep(0)
        if self.random.random() < 0.2:
            self.stored = self.random.randint(self.stored, len(self.log))
        if self.random.random() < 0.2:
            self.committed.offsets[0] = self.random.randint(self.committed.offsets[0] or 0, self.stored)
            for gateway in self.gateways:
                gateway._states._follower._note(self.committed.read())
        if self.faults and self.random.random() < 0.02:
            self.gateways[self.random.randrange(len(self.gateways))] = self.gateway()

    def judged(self, key: RunKey, *, to: int | None = None) -> Judged:
        """Return the run as the first *to* records of the log make it."""
        run = Judged()
        for offset, record in enumerate(self.log[:to]):
            decoded = CODEC.decode(record.value)
            if (decoded.tenant, decoded.run_id) != key:
                continue
            if isinstance(decoded, RunFinalized):
                run.closed = run.closed or (decoded.status, offset)
            elif isinstance(decoded, RunEvent):
                held = run.entries.get(decoded.seq)
                if held is not None:
                    run.duplicates += held[0] == decoded.event_sha256
                    run.rejected += held[0] != decoded.event_sha256
                elif run.closed:
                    run.rejected += 1
                else:
                    run.entries[decoded.seq] = decoded.event_sha256, offset
        return run


class Link:
    """One gateway's producer: records arrive in order, reports come late, and some never."""

    ready = True
    in_flight = 0

    def __init__(self, world: World) -> None:
        self._world = world
        self._last: asyncio.Task[None] | None = None

    async def publish(self, record: OutgoingRecord) -> RecordPlace:
        return await self.submit(record).acknowledged()

    def submit(self, record: OutgoingRecord, *, reported: Reported | None = None) -> RecordingDelivery:
        if self._world.faults and self._world.random.random() < 0.05:
            raise LogUnavailable("away")
        self._world.objects.expect(record)
        delivery = RecordingDelivery(reported or (lambda _receipt: None))
        self._last = asyncio.create_task(self._carry(record, delivery, self._last))
        return delivery

    async def _carry(
        self, record: OutgoingRecord, delivery: RecordingDelivery, before: "asyncio.Task[None] | None"
    ) -> None:
        world = self._world
        if before is not None:
            await before
        await world.turns(6)
        fate = world.random.random() if world.faults else 1.0
        if fate < 0.05:
            delivery.settle(EventTooLarge("too large"))  # refused by the broker, not written
            return
        if fate < 0.15:
            delivery.give_up(LogUnavailable("no acknowledgement"))
            await world.turns(6)
        world.log.append(record)
        place = RecordPlace(record.topic, 0, len(world.log) - 1)
        await world.turns(6)
        # Written, and reported as an error all the same: its fate is unknown.
        delivery.settle(LogUnavailable("timed out") if 0.15 <= fate < 0.2 else place)


class Objects(MemoryObjects):
    """Where every third event's payload is kept."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self._world = world

    def expect(self, record: OutgoingRecord) -> None:
        """Check that what goes to the log refers to nothing that is not here."""
        decoded = CODEC.decode(record.value)
        if isinstance(decoded, RunEvent):
            assert (decoded.payload is None) == (decoded.payload_ref is not None) == (decoded.seq % 3 == 0)
            assert decoded.payload_ref is None or decoded.payload_ref.key in self.kept

    async def put(self, key: str, content: bytes) -> None:
        await self._world.turns(6)
        if self._world.faults and self._world.random.random() < 0.2:
            raise ObjectsUnavailable("away")
        await super().put(key, content)


class Tail:
    """The log's end."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def partitions(self) -> int:
        return 1

    async def extend(self, tails: Collection[PartitionTail], *, stored_to: Mapping[int, int]) -> frozenset[int]:
        end = len(self._world.log)
        await self._world.turns(3)
        (tail,) = tails
        tail.begin_at(stored_to.get(tail.partition, 0))
        while tail.end < end:
            tail.add(log_record(self._world.log[tail.end], RecordPlace("run.events", 0, tail.end)))
        await self._world.turns(3)
        return frozenset([tail.partition])


class Store(MemoryRunStore):
    """What persistence has stored."""

    def __init__(self, world: World) -> None:
        super().__init__(builders.TENANT)
        self._world = world

    async def run_states(self, asked: Sequence[tuple[RunKey, Sequence[EventIdentity]]]) -> Mapping[RunKey, RunState]:
        await self._world.turns(3)
        if self._world.faults and self._world.random.random() < 0.1:
            raise StoreUnavailable("away")
        found = {}
        for key, events in asked:
            run = self._world.judged(key, to=self._world.stored)
            entries = {
                event.seq: KnownEvent(
                    sha256=run.entries[event.seq][0],
                    idempotency_key=None,
                    place=RecordPlace("run.events", 0, run.entries[event.seq][1]),
                )
                for event in events
                if event.seq in run.entries
            }
            closing = run.closed and RunEnd(status=run.closed[0], place=RecordPlace("run.events", 0, run.closed[1]))
            before = found.get(key)
            entries |= before.entries if before else {}
            found[key] = RunState(head=run.head, entries=entries, closing=closing)
        return found


async def client(world: World, key: RunKey) -> None:
    """Send a run's events until each is taken, some of them wrong, to whichever gateway; close the run."""
    seq = 1
    while seq <= EVENTS:
        await world.turns(4)
        wrong = world.random.random()
        sent, content = (seq + 2, "") if wrong < 0.1 else (seq, "other") if wrong < 0.2 else (seq, "")
        if await answered(world, key, sent, content) and sent == seq and not content:
            seq += 1
    while not await closed(world, key):
        await world.turns(4)


async def answered(world: World, key: RunKey, seq: int, content: str) -> bool:
    """Send one event and hold the answer against the log; whether it is there now."""
    filler = "" if seq % 3 else "x" * INLINE_BYTES_MAX
    given = prepared(seq, content=content + filler, run_id=key[1])
    before = world.judged(key)
    (outcome,) = await world.random.choice(world.gateways).submit(key, [given])
    try:
        if not isinstance(outcome, Submission):
            raise outcome
        place = await outcome.acknowledged()
    except SequenceError as error:
        assert before.head + 1 < seq, "it was the next"
        assert before.head + 1 <= error.expected_seq < seq
        return False
    except IdempotencyConflict:
        assert world.judged(key).entries[seq][0] != given.identity.sha256, "the log has no other content"
        return content == ""  # another client's wrong event got there first: this place is taken
    except RunClosed:
        assert world.judged(key).closed is not None, "the run is open"
        return True
    except (LogUnavailable, EventTooLarge, ObjectsUnavailable):
        return False
    decoded = CODEC.decode(world.log[place.offset].value)
    assert isinstance(decoded, RunEvent)
    assert (decoded.run_id, decoded.seq, decoded.event_sha256) == (key[1], seq, given.identity.sha256)
    return True


async def closed(world: World, key: RunKey) -> bool:
    try:
        submission = await world.random.choice(world.gateways).close(
            key, RunStatus.SUCCEEDED, finalization(run_id=key[1])
        )
        await submission.acknowledged()
    except (LogUnavailable, EventTooLarge):
        return False
    return True


async def played(seed: int, *, gateways: int, faults: bool) -> World:
    world = World(seed, gateways=gateways, faults=faults)
    keys = [(builders.TENANT, f"run-{number}") for number in range(RUNS)]
    async with asyncio.timeout(60):
        await asyncio.gather(*(client(world, key) for key in keys for _ in range(CLIENTS)))
        await asyncio.sleep(0.01)
    for key in keys:
        run = world.judged(key)
        assert run.closed is not None
        assert set(range(1, EVENTS + 1)) <= run.entries.keys(), f"{key[1]} lacks events"
    return world


def demand_exact(world: World) -> None:
    """Demand that each event is in the log once, in its turn, and that persistence rejects nothing."""
    runs = [world.judged((builders.TENANT, f"run-{number}")) for number in range(RUNS)]
    assert [(run.duplicates, run.rejected) for run in runs] == [(0, 0)] * RUNS
    for run in runs:
        places = [offset for _, (_, offset) in sorted(run.entries.items())]
        assert places == sorted(places), "one was taken before its turn"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask a store that was away again at once."""
    monkeypatch.setattr(state_reader, "RETRY_DELAY_S", 0.0)


@pytest.mark.parametrize("seed", range(SEEDS))
async def test_one_gateway_without_faults_is_exact(seed: int) -> None:
    """Nothing is written twice, nothing that persistence rejects."""
    world = await played(seed, gateways=1, faults=False)
    demand_exact(world)


@pytest.mark.parametrize("gateways", [1, 2])
@pytest.mark.parametrize("seed", range(SEEDS))
async def test_every_refusal_is_right(seed: int, gateways: int) -> None:
    """With two gateways, restarts, unknown outcomes and a store that goes away: what is wrong is taken, not refused."""
    await played(seed, gateways=gateways, faults=True)


def refuse_without_a_look(run: Run, event: EventIdentity, state: RunState | Unread) -> Any:
    verdict = decide(run, event, state)
    return decide(run, event, RunState(head=run.head)) if verdict is Decision.READ and run.verified else verdict


def believe_memory(run: Run, event: EventIdentity, state: RunState | Unread) -> Any:
    entry = run.find(event, state)
    if entry is not None and entry.place is not None and entry.sha256 != event.sha256:
        return IdempotencyConflict("as far as is remembered")
    return decide(run, event, state)


def take_what_is_below_the_head(run: Run, event: EventIdentity, state: RunState | Unread) -> Any:
    verdict = decide(run, event, state)
    return Decision.SUBMIT if verdict is Decision.READ and run.verified and event.seq <= run.head else verdict


@pytest.mark.parametrize(
    ("mutant", "gateways", "faults"),
    [(refuse_without_a_look, 2, True), (believe_memory, 2, True), (take_what_is_below_the_head, 1, False)],
)
async def test_each_of_these_mistakes_is_seen(
    monkeypatch: pytest.MonkeyPatch, mutant: object, gateways: int, faults: bool
) -> None:
    async def play_all() -> None:
        for seed in range(SEEDS):
            world = await played(seed, gateways=gateways, faults=faults)
            if not faults:
                demand_exact(world)

    monkeypatch.setattr(sequencer, "decide", mutant)
    with pytest.raises(AssertionError):
        await play_all()
