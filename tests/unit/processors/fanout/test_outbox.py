"""What a socket has still to be sent: bounded, in order, and written in as few pieces as there is room for."""

import asyncio

import pytest

from processors.fanout.backlog import Backlog
from processors.fanout.messages import Message, plain
from processors.fanout.outbox import BYTES_MAX, MESSAGES_MAX, WRITE_BYTES, Outbox
from tests.simulation.streams import Connection


class Parts:
    def __init__(self) -> None:
        self.connection = Connection()
        self.written = asyncio.Event()
        self.later: list[Outbox] = []
        self.overflows = 0
        self.outbox = Outbox(self.connection, later=self.later.append, overflows=self.overflow, clock=lambda: 0.0)

    def overflow(self) -> None:
        self.overflows += 1

    def stall(self) -> None:
        """Let the client stop reading with something unread."""
        self.connection.reading = False
        self.outbox.put(plain("first", cursor="first"))
        self.outbox.flush()


class Noticing(Connection):
    def __init__(self, written: asyncio.Event) -> None:
        super().__init__()
        self._written = written

    def write(self, data: bytes) -> None:
        super().write(data)
        self._written.set()


@pytest.fixture
def parts() -> Parts:
    return Parts()


def sized(size_bytes: int) -> Message:
    return plain("sized", text="x" * size_bytes)


def test_what_is_put_is_written_in_one_piece(parts: Parts) -> None:
    first, second = plain("a", cursor="1"), plain("b", cursor="2")
    parts.outbox.put(first)
    parts.outbox.put(second)
    assert not parts.connection.unread
    parts.outbox.flush()
    assert (bytes(parts.connection.unread), parts.outbox.cursor) == (first.frame + second.frame, "2")
    assert not parts.outbox.waits()
    assert parts.outbox.size_bytes == 0


def test_what_a_client_has_not_read_is_not_added_to(parts: Parts) -> None:
    parts.stall()
    parts.outbox.put(plain("second", cursor="second"))
    parts.outbox.flush()
    assert (parts.outbox.cursor, parts.later) == ("first", [parts.outbox])
    parts.connection.reading = True
    parts.outbox.flush()
    assert parts.outbox.cursor == "second"


def test_a_thousand_messages_wait_and_no_more(parts: Parts) -> None:
    parts.stall()
    for _ in range(MESSAGES_MAX):
        parts.outbox.put(plain("mark_waiting"))
    assert parts.overflows == 0
    assert not parts.outbox.has_room(1)
    for _ in range(2):
        parts.outbox.put(plain("too many"))
    assert parts.overflows == 1
    assert (parts.outbox.waits(), parts.outbox.cursor) == (False, "first")


def test_four_mebibytes_wait_and_no_more(parts: Parts) -> None:
    parts.stall()
    for _ in range(4):
        parts.outbox.put(sized(BYTES_MAX // 5))
    assert parts.overflows == 0
    parts.outbox.put(sized(BYTES_MAX // 5))
    assert parts.overflows == 1


def test_a_message_above_the_bound_passes_by_itself(parts: Parts) -> None:
    parts.outbox.put(sized(BYTES_MAX + 1))
    parts.outbox.flush()
    assert (parts.overflows, len(parts.connection.unread) > BYTES_MAX) == (0, True)


def test_a_piece_is_not_larger_than_the_transport_is_to_hold(parts: Parts) -> None:
    parts.connection.reading = False
    for _ in range(20):
        parts.outbox.put(sized(WRITE_BYTES // 4))
    parts.outbox.flush()
    assert len(parts.connection.unread) < WRITE_BYTES * 1.5
    assert parts.outbox.waits()


async def test_the_largest_backlog_is_cut_when_all_together_hold_too_much() -> None:
    cut: list[Outbox] = []
    backlog = Backlog(cut=cut.append, bytes_max=100_000)
    all_parts = [Parts() for _ in range(5)]
    shared = sized(10_000)
    for number, parts in enumerate(all_parts):
        parts.stall()
        parts.outbox._later = backlog.add
        for _ in range(15):
            parts.outbox.put(shared)  # a message that waits in several queues is held once
        if number == 2:
            parts.outbox.put(sized(95_000))
        parts.outbox.flush()
    backlog.turn(check_size=True)
    assert cut == [all_parts[2].outbox]
    backlog.turn(check_size=True)
    assert len(cut) == 1


async def test_the_backlog_goes_on_when_clients_read() -> None:
    parts = Parts()
    async with Backlog(cut=lambda _outbox: None) as backlog:
        parts.outbox._later = backlog.add
        parts.stall()
        parts.outbox.put(plain("second", cursor="second"))
        parts.outbox.flush()
        parts.connection = parts.outbox._transport = Noticing(parts.written)
        async with asyncio.timeout(5):
            await parts.written.wait()
    assert parts.outbox.cursor == "second"
