"""Clients that come, stall, go and come back hold every record once and in order; and that the test can tell."""

import pytest

from processors.fanout.hub import Hub
from processors.fanout.messages import ORDINARY_BYTES_MAX, Kind, StreamRecord
from processors.fanout.subscriber import Subscriber
from processors.fanout.tails import Tail
from schemas.kafka.cursors import Cursor
from schemas.kafka.places import Partition
from tests.simulation.streams import World, play

SEEDS = range(40)
SEEN_WITHIN = range(40)  # worlds


@pytest.mark.parametrize("seed", SEEDS)
async def test_every_client_holds_every_record_once_and_in_order(seed: int) -> None:
    await play(seed)


async def test_a_trace_record_comes_after_the_end_of_its_run() -> None:
    for seed in SEEDS:
        world = World(seed)
        for _ in range(300):
            await world.step()
        await world.settle()
        for client in world.clients:
            kinds = [message["type"] for message in client.received if message["type"] != Kind.TRACE_EVENT]
            assert kinds in ([], ["run_finalized", "trace_record"], ["trace_record"], ["run_finalized"]), kinds
        await world.catch_up.__aexit__()


class LiveWithoutLooking(Hub):
    """Goes live wherever the slice ended."""

    def advance(self, subscriber: Subscriber, partition: Partition, offset: int) -> bool:
        return super().advance(subscriber, partition, max(offset, self.places.position(partition)))


class ForgetfulTail(Tail):
    """Keeps nothing of what is told while the log is read."""

    def add(self, record: StreamRecord) -> None:
        pass


class WithoutTails(Hub):
    """Goes live without what was told while the log was read."""

    def follow(self, partition: Partition) -> Tail:
        tail = ForgetfulTail(self.places.position(partition))
        self._tails[partition].append(tail)
        return tail


class SentTwice(Hub):
    """Tells those that are behind as well."""

    def _hand_to_one_behind(self, subscriber: Subscriber, record: StreamRecord) -> bool:
        return self.send_catch_up(subscriber, record, {})


class CursorOfTheHub(Hub):
    """Gives those that are behind the hub's place."""

    def cursor(self, subscriber: Subscriber) -> str:
        return self.places.cursor(subscriber.covers, {})


class PositionTooEarly(Hub):
    """Says that a record was told which is being told."""

    def broadcast(self, record: StreamRecord) -> None:
        super().broadcast(record)
        self.places.advance(record.partition, record.offset + 2)


class SlowOnesPassed(Hub):
    """Leaves a socket without room where its slice ends."""

    def advance(self, subscriber: Subscriber, partition: Partition, offset: int) -> bool:
        return super().advance(subscriber, partition, offset + (not subscriber.outbox.has_room(ORDINARY_BYTES_MAX)))


class ReferencesAlone(Hub):
    """Tells those who asked for payloads as it tells the others."""

    def join(self, subscriber: Subscriber, cursor: Cursor | None) -> None:
        subscriber.resolves = False
        super().join(subscriber, cursor)


@pytest.mark.parametrize(
    "mistaken",
    [
        LiveWithoutLooking,
        WithoutTails,
        SentTwice,
        CursorOfTheHub,
        PositionTooEarly,
        SlowOnesPassed,
        ReferencesAlone,
    ],
)
async def test_a_mistake_is_seen(mistaken: type[Hub]) -> None:
    for seed in SEEN_WITHIN:
        try:
            await play(seed, mistaken)
        except AssertionError:
            return
    pytest.fail(f"{mistaken.__name__} was not seen")
