"""
A group of two workers over a log, a database, a dead-letter topic and a broker that fail as the schedule says.

Every method of `World` is one step, harmless where it has nothing to do, so that a schedule is any list of steps. What
may never be seen is checked in each step; what must hold once the faults are over, in `recover`.
"""

from collections.abc import Callable, Coroutine
from typing import Any

from processors.runs.persistence.verdicts import Place
from processors.runtime.limit import DeadLetterLimit
from schemas.catalogue import CODEC
from schemas.kafka.places import Partition
from tests.simulation.calls import Calls, Fate
from tests.simulation.log import PARTITIONS, End, Kind, Log
from tests.simulation.tables import Tables
from tests.simulation.turns import Turns
from tests.simulation.workers import Broker, Parts, Worker

WORKERS = range(2)
ROUNDS_MAX = 1_000  # of recovery; a lag that is left by then does not go
NARROW = DeadLetterLimit(consecutive_max=3)
WIDE = DeadLetterLimit(consecutive_max=10_000, share_max=1.0)


class World:
    """One simulation."""

    def __init__(self, parts: Parts | None = None) -> None:
        """Start with an empty log and two workers that hold nothing."""
        self._parts = parts or Parts()
        self._turns = Turns()
        self._calls = Calls()
        self._log = Log()
        self._tables = Tables(self._log)
        self._broker = Broker(self._log, self._tables)
        self._workers = [self._new_worker() for _ in WORKERS]
        self._disturbed: set[Partition] = set()  # those that changed hands

    def append(self, kind: Kind, run_id: str) -> None:
        """Write a record to the log."""
        self._log.append(kind, run_id)

    def assign(self, partition: Partition, worker: int) -> None:
        """Give *partition* to *worker*, if nobody owns it and the worker knows that it has lost it before."""
        if partition not in self._broker.owners and partition not in self._workers[worker].held:
            self._step(lambda: self._workers[worker].assign(partition))

    def fetch(self, partition: Partition, count: int, worker: int) -> None:
        """Let *worker* fetch up to *count* records; also one that has lost the partition and does not know yet."""
        self._step(lambda: self._workers[worker].fetch(partition, count))

    def answer(self, index: int, fate: Fate) -> None:
        """End one of the calls under way."""
        self._step(lambda: self._calls.answer(index, fate))

    def commit(self, partition: Partition, worker: int) -> None:
        """Let *worker* ask the broker to take what is finished."""
        self._begin(self._workers[worker].commit(partition))

    def revoke(self, partition: Partition, worker: int) -> None:
        """Ask *worker* for the partition: it drains and commits while other steps go on."""
        self._disturbed.add(partition)
        self._begin(self._workers[worker].give_up(partition))

    def pass_time(self) -> None:
        """Let the next timer go off: of a drain, or of a batch that is gathered."""
        self._step(self._turns.pass_time)

    def cut_off(self, partition: Partition, worker: int) -> None:
        """Take the partition from *worker* at once: its lane ends wherever it is, what it has sent may still land."""
        self._disturbed.add(partition)
        self._begin(self._workers[worker].cut_off(partition))

    def expire(self, partition: Partition) -> None:
        """Let the broker forget the owner, who goes on without knowing."""
        self._disturbed.add(partition)
        self._broker.owners.pop(partition, None)

    def crash(self, worker: int) -> None:
        """End *worker* and start it again; its session ends at once."""
        for partition in PARTITIONS:
            self.cut_off(partition, worker)
        self._workers[worker] = self._new_worker()

    def recover(self) -> None:
        """End all faults, bring everything to its end, and check that nothing is lost, doubled or left over."""
        for worker in self._workers:
            worker.limit = WIDE
        for _ in range(ROUNDS_MAX):
            if self._is_done():
                break
            self._go_on()
        assert self._is_done(), f"P6: {self._broker.committed} of {self._log.lengths} is committed"
        self._check_ends()

    def close(self) -> None:
        """Leave no task behind."""
        self._turns.end()

    def _new_worker(self) -> Worker:
        return Worker(
            self._parts,
            log=self._log,
            tables=self._tables,
            broker=self._broker,
            calls=self._calls,
            limit=NARROW,
        )

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        self._step(lambda: self._turns.create_task(work))

    def _step(self, function: Callable[[], object]) -> None:
        self._turns.run(function)
        for worker in self._workers:
            for failure in worker.failures:
                raise AssertionError(f"a lane ended with {failure!r}") from failure

    def _go_on(self) -> None:
        self.pass_time()
        for _ in range(len(self._calls.waiting)):
            self.answer(0, Fate.DONE)
        for partition in PARTITIONS:
            for number, worker in enumerate(self._workers):
                if partition in worker.held and worker.held[partition] is not self._broker.owners.get(partition):
                    self.cut_off(partition, number)
            self.assign(partition, 0)
            for number in WORKERS:
                self.fetch(partition, 10, number)
                self.commit(partition, number)

    def _is_done(self) -> bool:
        return not self._calls.waiting and self._broker.committed == self._log.lengths

    def _check_ends(self) -> None:
        wanted = {place: [end] for place, end in self._log.ends.items()}
        assert self._tables.found == wanted, f"P1, P4: {_difference(self._tables.found, wanted)}"
        assert self._tables.environments == self._log.environments, "P1: another environment than the last one is kept"
        assert self._tables.traces == set(self._tables.finalized), "P1: a closed run's trace is not published"
        for row in self._tables.rows:
            assert row.event == CODEC.decode(self._log.records[row.place].value), f"P4: {row.place} holds another event"
        unsure = self._tables.unsure | {place for place in self._log.ends if PARTITIONS[place[0]] in self._disturbed}
        letters = [place for place in self._tables.letters if place not in unsure]
        assert len(letters) == len(set(letters)), "P1: a dead letter was written twice without a reason"


def _difference(found: dict[Place, list[End]], wanted: dict[Place, list[End]]) -> str:
    places = sorted(place for place in found.keys() | wanted if found.get(place) != wanted.get(place))
    return ", ".join(f"{place}: {found.get(place)} instead of {wanted.get(place)}" for place in places)
