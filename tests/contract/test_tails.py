"""The ends of partitions: the fake that unit tests of the sequencer read holds what the real reader does."""

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest
from confluent_kafka import Producer

from gateway.kafka.records import OutgoingRecord, Stamp
from gateway.runs.sealing import seal
from gateway.runs.sequence.memory import RunState
from gateway.runs.sequence.tail import PartitionTail
from gateway.runs.sequence.tail_reader import TailReader, Tails
from schemas.access.credentials import CredentialsFile, CurrentCredentials, FileCredentials
from schemas.kafka.clients import producer_config
from schemas.kafka.partitioner import partition_of
from schemas.kafka.places import RecordPlace
from tests.faults.records import WITHIN_S, new_run
from tests.support.builders import MAC_SECRET, TENANT, credentials, event, run_event
from tests.support.fakes import InForce, MemoryTails
from tests.support.stack import RunningStack

READ_TIMEOUT_S = 30.0  # the second that a read has may be too little on a busy machine


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """The port, a run in one partition, and how its records are written."""

    tails: Tails
    run_id: str
    partition: int
    mac_secret: str
    credentials: CurrentCredentials
    append: Callable[[Sequence[OutgoingRecord]], None]

    def tail(self) -> PartitionTail:
        """Return a tail of which nothing was read."""
        return PartitionTail(self.partition, records_max=100_000, credentials=self.credentials)

    def write(self, *seqs: int) -> None:
        """Write events of the run as a gateway does."""
        stamp = Stamp(received_at=datetime.now(UTC), traceparent="00-1-2-01", mac_secret=self.mac_secret)
        events = [run_event(event(seq, run_id=self.run_id)) for seq in seqs]
        self.append([seal(each, part=each.seq, stamp=stamp) for each in events])

    def head(self, tail: PartitionTail) -> int | None:
        """Return the last seq of the run that *tail* holds."""
        found = tail.add_to(RunState(), (TENANT, self.run_id), [])
        return None if found is None else found.head


@pytest.fixture(params=["memory", "kafka"])
async def case(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Case]:
    """Return a run of which nothing was written."""
    run_id = new_run()
    if request.param == "memory":
        log: list[tuple[RecordPlace, OutgoingRecord]] = []

        def keep(records: Sequence[OutgoingRecord]) -> None:
            for each in records:
                log.append((RecordPlace(each.topic, 0, len(log)), each))

        yield Case(
            tails=MemoryTails(log),
            run_id=run_id,
            partition=0,
            mac_secret=MAC_SECRET,
            credentials=InForce(credentials()),
            append=keep,
        )
        return
    monkeypatch.setattr("gateway.runs.sequence.tail_reader.READ_TIMEOUT_S", READ_TIMEOUT_S)
    stack: RunningStack = request.getfixturevalue("stack")
    in_force = FileCredentials(CredentialsFile(stack.folder / "credentials.toml"))

    def produce(records: Sequence[OutgoingRecord]) -> None:
        producer = Producer(producer_config(stack.kafka, client_id="contract"))
        for each in records:
            producer.produce(each.topic, each.value, each.key, headers=each.headers)
        assert producer.flush(WITHIN_S) == 0

    async with TailReader(stack.kafka) as reader:
        yield Case(
            tails=reader,
            run_id=run_id,
            partition=partition_of(run_id.encode(), await reader.partitions()),
            mac_secret=in_force().gateway.mac_secrets[0],
            credentials=in_force,
            append=produce,
        )


async def test_a_tail_is_read_to_its_end_and_on_from_there(case: Case) -> None:
    tail = case.tail()
    case.write(1, 2, 3)
    assert await case.tails.extend([tail], stored_to={}) == {case.partition}
    assert case.head(tail) == 3
    before = tail.end
    case.write(4, 5)
    assert await case.tails.extend([tail], stored_to={}) == {case.partition}
    assert (case.head(tail), tail.end) == (5, before + 2)


async def test_a_tail_drops_what_the_store_has(case: Case) -> None:
    tail = case.tail()
    case.write(1, 2)
    await case.tails.extend([tail], stored_to={})
    assert await case.tails.extend([tail], stored_to={case.partition: tail.end}) == {case.partition}
    assert case.head(tail) == 0
    case.write(3)
    await case.tails.extend([tail], stored_to={})
    assert case.head(tail) == 3


async def test_what_the_store_has_is_not_read(case: Case) -> None:
    first, second = case.tail(), case.tail()
    case.write(1)
    await case.tails.extend([first], stored_to={})
    case.write(2)
    await case.tails.extend([second], stored_to={case.partition: first.end})
    assert (case.head(second), second.end) == (2, first.end + 1)
