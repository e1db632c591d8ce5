"""The last commit before partitions are given up, beside one that is under way."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from processors.runtime import transport
from processors.runtime.transport import BatchConsumer


class Committing(BatchConsumer):
    """Faust's consumer as far as its commits go; what the broker does is told."""

    def __init__(self, broker: Callable[[], Awaitable[None]]) -> None:
        self.app = type("App", (), {"client_only": False})()
        self._commit_fut = None
        self.loop = asyncio.get_running_loop()
        self._broker = broker
        self.commits = 0

    async def force_commit(self, *_: object, **__: object) -> bool:
        await self._broker()
        self.commits += 1
        return True


async def test_a_commit_under_way_is_waited_for_and_followed_by_one_of_all_there_is() -> None:
    answers = asyncio.Event()
    consumer = Committing(answers.wait)
    periodic = asyncio.create_task(consumer.commit())
    await asyncio.sleep(0)
    last = asyncio.create_task(consumer._commit_last())
    await asyncio.sleep(0)
    answers.set()
    await asyncio.gather(periodic, last)
    assert consumer.commits == 2


async def test_a_broker_that_is_away_holds_up_nobody_for_longer_than_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "COMMIT_S", 0.01)
    consumer = Committing(asyncio.Event().wait)
    periodic = asyncio.create_task(consumer.commit())
    await asyncio.sleep(0)
    async with asyncio.timeout(5):
        await consumer._commit_last()
    assert not periodic.done()
    periodic.cancel()
    await asyncio.wait([periodic])
    assert consumer.commits == 0
