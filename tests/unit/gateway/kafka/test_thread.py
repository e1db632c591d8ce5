"""Blocking calls on one thread."""

import asyncio
import threading

import pytest
from confluent_kafka import KafkaError, KafkaException

from gateway.errors import LogUnavailable, QueueFull
from gateway.kafka.thread import WAITING_MAX, ClientThread


async def test_calls_run_in_their_order_and_the_close_comes_last() -> None:
    thread, seen, gate = ClientThread("test"), [], threading.Event()
    first = asyncio.create_task(thread.run(gate.wait, 5))
    second = asyncio.create_task(thread.run(seen.append, "call"))
    await asyncio.sleep(0)
    closed = asyncio.create_task(thread.close(lambda: seen.append("close")))
    await asyncio.sleep(0)
    gate.set()
    await asyncio.gather(first, second, closed)
    assert seen == ["call", "close"]


async def test_only_so_many_may_wait() -> None:
    thread, gate = ClientThread("test"), threading.Event()
    waiting = [asyncio.create_task(thread.run(gate.wait, 5)) for _ in range(WAITING_MAX)]
    await asyncio.sleep(0)
    with pytest.raises(QueueFull):
        await thread.run(gate.wait, 5)
    gate.set()
    await asyncio.gather(*waiting)
    assert await thread.run(gate.wait, 5)
    await thread.close(gate.clear)


async def test_kafkas_errors_say_that_the_log_is_unavailable() -> None:
    def fail() -> None:
        raise KafkaException(KafkaError(KafkaError._TRANSPORT))

    thread = ClientThread("test")
    with pytest.raises(LogUnavailable, match="cannot be read"):
        await thread.run(fail)
    await thread.close(lambda: None)
