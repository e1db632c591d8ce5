"""
Direct records in another partition than murmur2 gives their key: their producer is set to another partitioner.

Such a record is handled like any other, but its place says nothing about its order against others of its key, which
another worker may handle at the same time. What a gateway of ours wrote needs no check.
"""

from collections.abc import Awaitable, Callable, Sequence
from functools import lru_cache
from typing import Any, Protocol

import structlog

from processors.runtime.batch import RawRecord
from processors.runtime.contract import Arrival
from schemas.kafka.partitioner import KEY_BYTES_MAX, partition_of

KEYS_REMEMBERED_MAX = 10_000

log = structlog.get_logger()

_partition_of = lru_cache(maxsize=KEYS_REMEMBERED_MAX)(partition_of)  # it takes 20 us, and a key has many records


class Counts(Protocol):
    """A counter, such as prometheus_client's."""

    def inc(self, amount: float = 1) -> None:
        """Add *amount*."""


class Placement:
    """A count of the records that are in the wrong partition; the first is logged."""

    def __init__(self, partition_count: Callable[[], Awaitable[int]], counter: Counts) -> None:
        """Ask *partition_count* how many partitions the source has."""
        self._partition_count = partition_count
        self._counter = counter
        self._logged = False

    async def check(self, arrivals: Sequence[Arrival[Any]]) -> int:
        """
        Look at *arrivals*; return how many partitions their topic has.

        Raises:
            Transient: Kafka does not answer.
        """
        count = await self._partition_count()
        direct = [arrival.raw for arrival in arrivals if not arrival.is_sealed]
        if direct and (wrong := [raw for raw in direct if is_in_wrong_partition(raw, count)]):
            self._counter.inc(len(wrong))
            if not self._logged:
                self._logged = True
                _log_first(wrong[0], count)
        return count


def is_in_wrong_partition(raw: RawRecord, partition_count: int) -> bool:
    """Return True if *raw* is in another partition than its key belongs in."""
    if raw.key is None or len(raw.key) > KEY_BYTES_MAX:
        return False
    return _partition_of(raw.key, partition_count) != raw.partition


def _log_first(raw: RawRecord, partition_count: int) -> None:
    log.warning(
        "a direct producer uses the wrong partitioner; set it to murmur2 (in librdkafka partitioner=murmur2_random)",
        topic=raw.topic,
        partition=raw.partition,
        offset=raw.offset,
        expected_partition=_partition_of(raw.key or b"", partition_count),
    )
