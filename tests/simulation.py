"""
A world in memory around the real delivery loop: a log, a store, dead letters, offsets, and workers that come and go.

What the loop asks for stays pending until the test answers it, with success or with a fault. So every interleaving is a
choice, drawn from a seed or by hypothesis. Nothing here sleeps or asks a clock.
"""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import Enum
from functools import cache
from random import Random
from typing import Any

from processors.persistence.verdicts import (
    Finalization,
    Known,
    Place,
    RunKey,
    Verdicts,
    judge,
    may_repeat_stored,
    place_of,
    run_of,
)
from processors.runtime.batch import Batch, Partition
from processors.runtime.dead_letters import Outgoing
from processors.runtime.delivery import Delivery
from processors.runtime.errors import Transient
from processors.runtime.health import Health
from processors.runtime.lanes import Lanes
from processors.runtime.limit import NO_LIMIT
from processors.runtime.outcomes import Arrival, Tally
from processors.runtime.progress import Progress
from processors.runtime.reading import read
from schemas import headers, telemetry
from schemas.errors import Poison, Reason
from schemas.events import RunEvent, RunFinalized, RunStatus
from schemas.topics import PERSISTENCE, RUN_EVENTS, Topic
from tests.builders import TENANT, Raw, credentials, event, raw, run_event

RUNS = {0: ("a", "b"), 1: ("c",)}  # by partition
CREDENTIALS = credentials()
INSTRUMENTS = telemetry.Telemetry(telemetry.OF_PROCESSORS)  # nobody reads them; making them anew is what costs
NOW = datetime(2026, 1, 1, tzinfo=UTC)
UNREADABLE = b"no avro"
REFUSED_TYPE = "refused"
TURNS = 12  # of the loop: enough for what an answer sets off; where it is not, that is one more interleaving
SLICE_RECORDS_MAX = 4
ROUNDS_MAX = 2_000  # until everything must be settled once nothing fails any more


class Kind(Enum):
    """What a producer appends."""

    NEXT = "the run's next event"
    REPEATED = "an event again"
    CONFLICTING = "other content under a taken seq"
    FINALIZED = "the end of the run"
    UNREADABLE = "bytes that are no record"
    REFUSED = "an event that the store can never take"


class How(Enum):
    """What becomes of something that was asked for."""

    DONE = "done"
    NOT_DONE = "not done"
    REPLY_LOST = "done, and the answer is lost"


@cache
def content(run_id: str, kind: Kind, seq: int) -> Raw:
    """A record without its place."""
    if kind is Kind.UNREADABLE:
        return Raw(key=run_id.encode(), value=UNREADABLE)
    if kind is Kind.FINALIZED:
        return raw(RunFinalized(tenant=TENANT, run_id=run_id, status=RunStatus.SUCCEEDED, finalized_at=NOW))
    changes = {Kind.CONFLICTING: {"payload": "other"}, Kind.REFUSED: {"type": REFUSED_TYPE}}.get(kind, {})
    return raw(run_event(event(seq, run_id=run_id, **changes)))


@dataclass(eq=False)
class Asked:
    """Something that a worker waits for: a transaction of the store, or a dead letter."""

    answer: "asyncio.Future[Tally]"
    arrivals: Sequence[Arrival] = ()
    letters: Sequence[Outgoing] = ()
    known: Known = field(default_factory=Known)  # what its transaction saw when it began
    versions: dict[RunKey, int] = field(default_factory=dict)


@dataclass
class Store:
    """The tables. A transaction that another one overtook is rolled back, as locks and unique keys see to."""

    keys: bool = True
    events: dict[Place, RunEvent] = field(default_factory=dict)
    applied: defaultdict[RunKey, list[int]] = field(
        default_factory=lambda: defaultdict(list)
    )  # offsets, in their order
    duplicates: set[Place] = field(default_factory=set)
    rejected: set[Place] = field(default_factory=set)
    finalized: dict[RunKey, Finalization] = field(default_factory=dict)
    versions: Counter[RunKey] = field(default_factory=Counter)

    def begin(self, asked: Asked) -> None:
        """Let a transaction see what is stored now."""
        known = asked.known
        known.finalized.update(self.finalized)
        for place, stored in self.events.items():
            known.sha256[stored.tenant, stored.run_id, stored.seq] = stored.event_sha256
            known.at[place] = (stored.tenant, stored.run_id, stored.seq, stored.event_sha256)
        asked.versions = {run_of(each): self.versions[run_of(each)] for each in asked.arrivals}

    def commit(self, asked: Asked) -> Tally:
        """Write what the slice comes to, or nothing. Raises Transient or Poison."""
        if self.keys and any(self.versions[run] != seen for run, seen in asked.versions.items()):
            raise Transient("overtaken")
        verdicts = self._judge(asked)
        if any(is_refused(each) for each in verdicts.events):
            raise Poison(Reason.NOT_STORABLE, "refused")
        for each in verdicts.events:
            self.events[place_of(each)] = each.record  # type: ignore[assignment]  # verdicts.events holds no other
            self.applied[run_of(each)].append(each.raw.offset)
        self.duplicates.update(map(place_of, verdicts.duplicates))
        self.rejected.update(place_of(each) for each, _ in verdicts.rejected)
        for run, each in verdicts.finalizations.items():
            self.finalized[run] = Finalization(status=RunStatus.SUCCEEDED, place=place_of(each))
        self.versions.update(asked.versions.keys())
        return verdicts.tally

    def _judge(self, asked: Asked) -> Verdicts:
        # As the product does: without a look at stored events, unless something says that it is needed.
        ended = {run: each for run, each in asked.known.finalized.items() if run in asked.versions}
        verdicts = judge(asked.arrivals, Known(finalized=dict(ended)))
        taken = {(each.tenant, each.run_id, each.seq) for each in self.events.values()}
        repeats = any(
            place_of(each) in self.events or (*run_of(each), each.record.seq) in taken  # type: ignore[union-attr]
            for each in verdicts.events
        )
        if self.keys and (ended or repeats or may_repeat_stored(verdicts)):
            return judge(asked.arrivals, asked.known)
        return verdicts

    def settled(self) -> set[Place]:
        """The places of which something is kept."""
        ends = {each.place for each in self.finalized.values()}
        return self.events.keys() | self.duplicates | self.rejected | ends


def is_refused(arrival: Arrival) -> bool:
    """Whether the store can never take it."""
    return isinstance(arrival.record, RunEvent) and arrival.record.type == REFUSED_TYPE


class _Credentials:
    def current(self, *, now_s: float) -> Any:
        return CREDENTIALS


class World:
    """One log, and the workers of one group one after the other."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        lanes: type[Lanes] = Lanes,
        progress: type[Progress] = Progress,
        delivery: type[Delivery] = Delivery,
        keys: bool = True,
    ) -> None:
        """Start a first worker over an empty log; the parts may be variants of the product's."""
        self.log: dict[int, list[Raw]] = {partition: [] for partition in RUNS}
        self.store = Store(keys=keys)
        self.letters: list[Outgoing] = []
        self.committed = dict.fromkeys(RUNS, 0)
        self.asked: list[Asked] = []
        self.left_behind: list[Asked] = []  # by workers that are gone; they may still happen
        self.fatal: list[BaseException] = []
        self._loop = loop
        self._lanes_type, self._progress_type, self._delivery_type = lanes, progress, delivery
        self._next_seq: Counter[str] = Counter()
        self._start()

    def _start(self) -> None:
        self._delivery = self._delivery_type(
            PERSISTENCE,
            self._append,
            dead_letters=self,
            credentials=_Credentials(),  # type: ignore[arg-type]  # the one method that is used
            instruments=INSTRUMENTS,
            health=Health(),
            limit=lambda: NO_LIMIT,
            sleep=_turn,
        )
        self._progress = self._progress_type()
        self._lanes = self._lanes_type(self._delivery.deliver, finished=self._progress.finish, fatal=self.fatal.append)
        self._progress.assign(map(_tp, RUNS))
        self._position = dict(self.committed)

    # What the loop asks for

    async def _append(self, arrivals: Sequence[Arrival]) -> Tally:
        asked = Asked(self._loop.create_future(), arrivals=arrivals)
        self.store.begin(asked)
        return await self._wait(asked)

    async def write(self, topic: Topic, records: Sequence[Outgoing]) -> None:
        """Take dead letters."""
        assert topic == PERSISTENCE.dead_letters
        await self._wait(Asked(self._loop.create_future(), letters=records))

    async def _wait(self, asked: Asked) -> Tally:
        self.asked.append(asked)
        try:
            return await asked.answer
        except asyncio.CancelledError:
            self.left_behind.append(asked)
            raise
        finally:
            self.asked.remove(asked)

    # What may happen

    def append(self, partition: int, run: int, kind: Kind) -> None:
        """A producer writes a record."""
        run_id = RUNS[partition][run % len(RUNS[partition])]
        if kind in (Kind.NEXT, Kind.REFUSED):
            self._next_seq[run_id] += 1
        record = content(run_id, kind, max(1, self._next_seq[run_id]))
        self.log[partition].append(replace(record, partition=partition, offset=len(self.log[partition])))

    def fetch(self, partition: int, count: int) -> None:
        """The worker fetches a slice, if it has room."""
        start = self._position[partition]
        records = self.log[partition][start : start + count]
        if records and self._progress.has_room(_tp(partition)):
            batch = Batch(_tp(partition), records)  # type: ignore[arg-type]  # tests' records have the same fields
            assert self._progress.open(batch)
            self._position[partition] = batch.end_offset
            self._run(self._dispatch(batch))

    async def _dispatch(self, batch: Batch) -> None:
        self._lanes.dispatch(batch)
        await self._settle_down()

    def answer(self, pick: int, how: How) -> None:
        """Something that a worker waits for happens, or does not."""
        if self.asked:
            self._run(self._answer(self.asked[pick % len(self.asked)], how))

    async def _answer(self, asked: Asked, how: How) -> None:
        try:
            tally = Tally() if how is How.NOT_DONE else self._happens(asked)
        except (Transient, Poison) as error:
            asked.answer.set_exception(error)
        else:
            if how is How.DONE:
                asked.answer.set_result(tally)
            else:
                asked.answer.set_exception(Transient(how.value))
        await self._settle_down()

    def late(self, pick: int) -> None:
        """What a worker that is gone had begun happens after all."""
        if self.left_behind:
            asked = self.left_behind.pop(pick % len(self.left_behind))
            try:
                self._happens(asked)
            except (Transient, Poison):
                return  # nobody is there to hear it

    def _happens(self, asked: Asked) -> Tally:
        if asked.letters:
            self.letters += asked.letters
            return Tally()
        return self.store.commit(asked)

    def commit(self, how: How) -> None:
        """The worker commits its offsets."""
        for partition in self._progress.to_commit():
            offset = self._progress.committable(partition)
            assert offset is not None
            if how is not How.NOT_DONE:
                self.committed[partition.partition] = offset
            if how is How.DONE:
                self._progress.committed(partition, offset)

    def next_worker(self) -> None:
        """The worker loses its partitions at this moment, and another one goes on where the offsets say."""
        self._run(self._give_up())
        self._start()

    async def _give_up(self) -> None:
        await self._lanes.cancel(list(map(_tp, RUNS)))
        self._progress.forget(map(_tp, RUNS))

    async def _settle_down(self) -> None:
        for _ in range(TURNS):
            await asyncio.sleep(0)

    def _run(self, act: Any) -> None:
        self._loop.run_until_complete(act)

    # What must hold

    def check(self) -> None:
        """At every moment: P5 and P2, and nothing ended a worker."""
        assert not self.fatal, self.fatal
        settled = self.store.settled() | self.buried().keys()
        for partition, offset in self.committed.items():
            unsettled = [each for each in range(offset) if (partition, each) not in settled]
            assert not unsettled, f"P5: {partition} is committed to {offset}, and nothing became of {unsettled}"
        for run, offsets in self.store.applied.items():
            assert offsets == sorted(set(offsets)), f"P2: {run} was applied as {offsets}"

    def buried(self) -> dict[Place, bytes | None]:
        """What the dead letters hold, by the places that they come from."""
        return {_origin(each): each.value for each in self.letters}

    def finish(self) -> None:
        """Let nothing fail any more; then lag is 0 (P6), and all is as if nothing had ever failed (P1, P4)."""
        for _ in range(ROUNDS_MAX):
            if all(self.committed[partition] == len(records) for partition, records in self.log.items()):
                break
            for partition in RUNS:
                self.fetch(partition, SLICE_RECORDS_MAX)
            self.answer(0, How.DONE)
            self.commit(How.DONE)
        while self.left_behind:
            self.late(0)
        self.check()
        assert self.committed == {partition: len(records) for partition, records in self.log.items()}, "P6"
        expected, poison = self._without_faults()
        assert self.store.events == expected.events, "P1: other events are stored than without faults"
        assert self.store.duplicates == expected.duplicates, "P1: others are duplicates than without faults"
        # A dead letter's record that is read again may be rejected for what was stored behind it meanwhile.
        assert self.store.rejected - poison.keys() == expected.rejected, "P1: others are rejected than without faults"
        assert self.store.finalized == expected.finalized, "P1: other runs are closed than without faults"
        assert self.buried() == poison, "P1: other records are dead letters than without faults"

    def _without_faults(self) -> tuple[Store, dict[Place, bytes | None]]:
        store, poison = Store(), dict[Place, bytes | None]()
        for partition, records in self.log.items():
            arrivals, unreadable = read(records, CREDENTIALS)  # type: ignore[arg-type]  # see fetch
            poison |= {(partition, each.raw.offset): each.raw.value for each in unreadable}
            for arrival in arrivals:
                asked = Asked(self._loop.create_future(), arrivals=[arrival])
                store.begin(asked)
                try:
                    store.commit(asked)
                except Poison:
                    poison[place_of(arrival)] = arrival.raw.value
        return store, poison

    def close(self) -> None:
        """End the last worker."""
        self._run(self._give_up())


async def _turn(_delay_s: float) -> None:
    await asyncio.sleep(0)


def _tp(partition: int) -> Partition:
    return Partition(RUN_EVENTS.name, partition)


def _origin(letter: Outgoing) -> Place:
    bears = dict(letter.headers)
    return int(bears[headers.ORIGINAL_PARTITION]), int(bears[headers.ORIGINAL_OFFSET])


KINDS = [Kind.NEXT] * 8 + [Kind.REPEATED, Kind.CONFLICTING, Kind.UNREADABLE, Kind.REFUSED, Kind.FINALIZED]
ANSWERS = [How.DONE] * 3 + [How.NOT_DONE, How.REPLY_LOST]
STEPS = ["append"] * 4 + ["fetch"] * 3 + ["answer"] * 5 + ["commit"] * 2 + ["next_worker", "late"]


def live(world: World, random: Random, *, steps: int) -> None:
    """Let *steps* things happen that *random* draws, checking after each, and then everything be settled."""
    for _ in range(steps):
        match random.choice(STEPS):
            case "append":
                world.append(random.choice(list(RUNS)), random.randrange(2), random.choice(KINDS))
            case "fetch":
                world.fetch(random.choice(list(RUNS)), random.randint(1, SLICE_RECORDS_MAX))
            case "answer":
                world.answer(random.randrange(8), random.choice(ANSWERS))
            case "commit":
                world.commit(random.choice(ANSWERS))
            case "next_worker":
                world.next_worker()
            case "late":
                world.late(random.randrange(8))
        world.check()
    world.finish()
