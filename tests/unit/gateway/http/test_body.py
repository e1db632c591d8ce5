"""Bodies that are being read share one room."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from aiohttp import StreamReader
from aiohttp.base_protocol import BaseProtocol

from gateway.errors import EventTooLarge, QueueFull
from gateway.http.body import receive
from gateway.http.budget import BodyBudget
from gateway.http.call import BodyLimits
from gateway.http.connections import DEADLINES


class Sending:
    """A body that comes in pieces, and the call that it belongs to."""

    def __init__(self, budget: BodyBudget, *, bytes_max: int = 100) -> None:
        loop = asyncio.get_running_loop()
        protocol = BaseProtocol(loop)
        protocol.connection_made(asyncio.Transport())
        self.stream = StreamReader(protocol, limit=2**16, loop=loop)
        self.call: Any = SimpleNamespace(
            request=SimpleNamespace(content=self.stream, headers={}),
            body=BodyLimits(bytes_max=bytes_max, deadline_s=DEADLINES.body_s, budget=budget),
        )
        self.received = asyncio.create_task(receive(self.call))

    async def feed(self, data: bytes) -> None:
        self.stream.feed_data(data)
        await asyncio.sleep(0.01)


async def test_slow_bodies_take_no_more_than_the_room_there_is_and_give_it_back() -> None:
    budget = BodyBudget(bytes_max=10)
    one, other = Sending(budget), Sending(budget)
    await one.feed(b"123456")
    await other.feed(b"12345")
    with pytest.raises(QueueFull):
        await other.received
    assert budget.taken_bytes == 6
    await one.feed(b"7890")
    one.stream.feed_eof()
    assert await one.received == b"1234567890"
    assert budget.taken_bytes == 0


async def test_whoever_is_refused_or_goes_away_gives_its_room_back() -> None:
    budget = BodyBudget(bytes_max=100)
    large, gone = Sending(budget, bytes_max=3), Sending(budget)
    await large.feed(b"1234")
    with pytest.raises(EventTooLarge):
        await large.received
    await gone.feed(b"1234")
    gone.received.cancel()
    await asyncio.wait([gone.received])
    assert budget.taken_bytes == 0
