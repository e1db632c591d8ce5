"""The store's tables in memory: the rules of its SQL around the real `judge`, and the dead-letter topic beside them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from processors.runs.persistence.store import AppendResult
from processors.runs.persistence.verdicts import (
    Finalization,
    Place,
    RunKey,
    StoredState,
    Verdicts,
    judge,
    may_repeat_stored,
    place_of,
    run_of,
)
from processors.runtime.contract import Arrival
from processors.runtime.dead_letters import OutgoingRecord
from processors.runtime.errors import Transient
from schemas.catalogue import CODEC
from schemas.errors import Poison, Reason
from schemas.kafka import headers
from schemas.kafka.topics import Topic
from schemas.runs.records import RunEvent, RunStatus, TraceRecord
from schemas.runs.topics import PERSISTENCE, RUN_TRACES
from tests.simulation.calls import Calls
from tests.simulation.log import UNSTORABLE, End, Log
from tests.support.builders import TENANT

Judge = Callable[[Sequence[Arrival], StoredState], Verdicts]


class MustLookUp(Exception):
    """Two rows under one key, or the same is to be feared."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    place: Place
    event: RunEvent


class Tables:
    """What is durable, whoever wrote it; nothing is ever taken out."""

    def __init__(self, log: Log) -> None:
        """Hold nothing of *log* yet."""
        self._log = log
        self.rows: list[_Row] = []  # in the order in which they were written
        self.found: dict[Place, list[End]] = {}  # one entry for each table that a record is in
        self.letters: list[Place] = []
        self.unsure: set[Place] = set()  # of dead letters: those whose writer once got no acknowledgement
        self.traces: set[RunKey] = set()  # published at least once
        self.finalized: dict[RunKey, Finalization] = {}
        self.environments: dict[RunKey, Place] = {}
        self._by_seq: dict[tuple[str, str, int], _Row] = {}
        self._by_key: dict[tuple[str, str, str], _Row] = {}
        self._by_place: dict[Place, _Row] = {}

    def known(self, arrivals: Sequence[Arrival], *, look_up: bool) -> StoredState:
        """Return what a transaction sees: closed runs always, stored events when it looks them up."""
        known = StoredState(
            finalized={run: self.finalized[run] for run in map(run_of, arrivals) if run in self.finalized}
        )
        if look_up:
            known.sha256 = {identity: row.event.event_sha256 for identity, row in self._by_seq.items()}
            known.seq = {identity: row.event.seq for identity, row in self._by_key.items()}
            known.at = {
                place: (row.event.tenant, row.event.run_id, row.event.seq, row.event.event_sha256)
                for place, row in self._by_place.items()
            }
        return known

    def commit(self, verdicts: Verdicts) -> AppendResult:
        """
        Write all that *verdicts* call for, or nothing.

        Raises:
            MustLookUp: another transaction was faster.
        """
        rows = [_Row(place=place_of(each), event=each.record) for each in verdicts.events]  # type: ignore[arg-type]
        if any(self._is_taken(row) for row in rows) or verdicts.finalizations.keys() & self.finalized.keys():
            raise MustLookUp
        for row in rows:
            self._insert(row)
        for run, arrival in verdicts.finalizations.items():
            self.finalized[run] = Finalization(status=arrival.record.status, place=place_of(arrival))  # type: ignore[union-attr]
            self._find(place_of(arrival), End.STORED)
        for run, arrival in verdicts.environments.items():
            self.environments[run] = max(place_of(arrival), self.environments.get(run, place_of(arrival)))
        for duplicate in verdicts.duplicates:
            self._find(place_of(duplicate), End.DUPLICATE)
        for rejected, _ in verdicts.rejected:
            self._find(place_of(rejected), End.REJECTED)
        traces = [_trace(run) for run in (*verdicts.finalizations, *verdicts.traces_again)]
        return AppendResult(tally=verdicts.tally, traces=traces)

    def append(self, topic: Topic, records: Sequence[OutgoingRecord]) -> None:
        """Keep what a processor writes to *topic*."""
        for record in records:
            if topic == RUN_TRACES:
                self.traces.add(_run_of_trace(record))
                continue
            assert topic == PERSISTENCE.dead_letters
            place = self.origin(record)
            self.letters.append(place)
            self._find(place, End.DEAD_LETTER)

    def origin(self, letter: OutgoingRecord) -> Place:
        """Return the place that *letter* names as its own; it must have that record's bytes, if they can be had."""
        sent = {name: value or b"" for name, value in letter.headers}
        place = int(sent[headers.ORIGINAL_PARTITION]), int(sent[headers.ORIGINAL_OFFSET])
        record = self._log.records[place]
        if headers.CUT_PARTS in sent:
            assert record.cut is not None, f"P1: {place} is a dead letter without its bytes"
        else:
            same = (letter.key, letter.value) == (record.key, record.value)
            assert same, f"P1: {place} has other bytes as a dead letter"
        return place

    def is_settled(self, place: Place) -> bool:
        """Say whether the record at *place* has come to an end; an offset without a record has none to come to."""
        record = self._log.records.get(place)
        if record is None:
            return True
        if place in self._log.ends:
            return place in self.found and self._is_published(place)
        environment = self.environments.get((TENANT, (record.key or b"").decode()))
        return environment is not None and environment >= place

    def _is_published(self, place: Place) -> bool:
        return all(run in self.traces for run, closed in self.finalized.items() if closed.place == place)

    def _is_taken(self, row: _Row) -> bool:
        return row.place in self._by_place or _seq_of(row) in self._by_seq or _key_of(row) in self._by_key

    def _insert(self, row: _Row) -> None:
        earlier = [each.place for each in self.rows if each.event.run_id == row.event.run_id]
        assert not earlier or earlier[-1] < row.place, f"P2: {row.place} was applied after {earlier[-1]}"
        self.rows.append(row)
        self._by_place[row.place] = self._by_seq[_seq_of(row)] = row
        if (key := _key_of(row)) is not None:
            self._by_key[key] = row
        self._find(row.place, End.STORED)

    def _find(self, place: Place, end: End) -> None:
        ends = self.found.setdefault(place, [])
        if end not in ends:  # ON CONFLICT (kafka_partition, kafka_offset) DO NOTHING
            ends.append(end)


class Database:
    """`EventStore.append` over the tables, each step of its transaction a call."""

    def __init__(self, tables: Tables, calls: Calls, *, judge: Judge = judge) -> None:
        """Sort slices with *judge*."""
        self._tables = tables
        self._calls = calls
        self._judge = judge

    async def append(self, arrivals: Sequence[Arrival], *, partition_count: int) -> AppendResult:
        """Store a slice at once, looking up what is stored if it collides with it, as the real store does."""
        try:
            return await self._append(arrivals, look_up=False)
        except MustLookUp:
            pass
        try:
            return await self._append(arrivals, look_up=True)
        except MustLookUp as error:
            raise Transient("another worker writes the same rows") from error

    async def _append(self, arrivals: Sequence[Arrival], *, look_up: bool) -> AppendResult:
        verdicts = await self._calls.make(lambda: self._look(arrivals, look_up=look_up))
        appended: AppendResult = await self._calls.make(lambda: self._tables.commit(verdicts))
        return appended

    def _look(self, arrivals: Sequence[Arrival], *, look_up: bool) -> Verdicts:
        known = self._tables.known(arrivals, look_up=look_up)
        if known.finalized and not look_up:
            raise MustLookUp  # what comes for a closed run may be old
        verdicts = self._judge(arrivals, known)
        if not look_up and may_repeat_stored(verdicts):
            raise MustLookUp
        if any(UNSTORABLE in (each.record.payload or "") for each in verdicts.events):  # type: ignore[union-attr]
            raise Poison(Reason.NOT_STORABLE, UNSTORABLE)
        return verdicts


class Writer:
    """`LogWriter` over the tables."""

    def __init__(self, tables: Tables, calls: Calls) -> None:
        """Write into *tables*."""
        self._tables = tables
        self._calls = calls

    async def write(self, topic: Topic, records: Sequence[OutgoingRecord]) -> None:
        """Append *records*; acknowledged or not as the schedule says."""
        try:
            await self._calls.make(lambda: self._tables.append(topic, records))
        except Transient:
            if topic == PERSISTENCE.dead_letters:
                self._tables.unsure.update(self._tables.origin(record) for record in records)
            raise


def _seq_of(row: _Row) -> tuple[str, str, int]:
    return row.event.tenant, row.event.run_id, row.event.seq


def _key_of(row: _Row) -> tuple[str, str, str] | None:
    key = row.event.idempotency_key
    return None if key is None else (row.event.tenant, row.event.run_id, key)


def _trace(run: RunKey) -> TraceRecord:
    tenant, run_id = run
    return TraceRecord(
        tenant=tenant, run_id=run_id, status=RunStatus.SUCCEEDED, event_count=0, chain_head=bytes(32), document="{}"
    )


def _run_of_trace(record: OutgoingRecord) -> RunKey:
    trace = CODEC.decode(record.value)
    assert isinstance(trace, TraceRecord)
    return trace.tenant, trace.run_id
