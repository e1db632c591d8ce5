"""One thread for one Kafka client, whose calls block: they run one after the other, and few may wait."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from confluent_kafka import KafkaException

from gateway.errors import LogUnavailable, QueueFull

WAITING_MAX = 32

Given = ParamSpec("Given")
Answer = TypeVar("Answer")


class ClientThread:
    """Runs blocking calls in their order; the client is never used by two at once, its closing included."""

    def __init__(self, name: str, *, waiting_max: int = WAITING_MAX) -> None:
        """Prepare; the thread starts with the first call."""
        self._waiting_max = waiting_max
        self._executor = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._waiting = 0

    async def run(self, call: Callable[Given, Answer], *args: Given.args, **kwargs: Given.kwargs) -> Answer:
        """
        Return what *call* returns.

        Raises:
            QueueFull: too many wait already. Answer 429.
            LogUnavailable: Kafka does not answer. Answer 503.
        """
        if self._waiting >= self._waiting_max:
            raise QueueFull("too many look into the log at this moment")
        self._waiting += 1
        try:
            return await asyncio.wrap_future(self._executor.submit(call, *args, **kwargs))
        except KafkaException as error:
            raise LogUnavailable(f"the log cannot be read: {error}") from error
        finally:
            self._waiting -= 1

    async def close(self, last: Callable[[], object]) -> None:
        """Run *last* behind what still runs, and end the thread."""
        await asyncio.wrap_future(self._executor.submit(last))
        self._executor.shutdown(wait=False)
