"""Which direct records count as written to the wrong partition."""

from typing import Any

import pytest
from structlog.testing import capture_logs

from processors.runtime.contract import Arrival
from processors.runtime.errors import Transient
from processors.runtime.placement import Placement
from schemas.kafka.partitioner import KEY_BYTES_MAX, partition_of
from schemas.process import telemetry
from schemas.process.telemetry import WRONG_PARTITION
from tests.support.builders import RUN, raw, run_event

PARTITIONS = 8
HOME = partition_of(RUN.encode(), PARTITIONS)
ELSEWHERE = (HOME + 1) % PARTITIONS


def arrival(partition: int, *, is_sealed: bool = False, **changes: Any) -> Arrival:
    record = run_event()
    given: Any = raw(record, partition=partition, checked=is_sealed)
    for name, value in changes.items():
        setattr(given, name, value)
    return Arrival(given, {}, record, None, is_sealed)


async def count() -> int:
    return PARTITIONS


async def counted(*arrivals: Arrival) -> float | None:
    instruments = telemetry.Telemetry((WRONG_PARTITION,))
    placement = Placement(count, instruments[WRONG_PARTITION].labels("run.events", "persistence"))
    assert await placement.check(arrivals) == PARTITIONS
    labels = {"topic": "run.events", "group": "persistence"}
    return instruments.registry.get_sample_value(WRONG_PARTITION.name, labels)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([arrival(HOME)], 0),
        ([arrival(ELSEWHERE), arrival(HOME), arrival(ELSEWHERE)], 2),
        ([arrival(ELSEWHERE, is_sealed=True)], 0),
        ([arrival(0, key=None)], 0),
        ([arrival(partition, key=b"x" * (KEY_BYTES_MAX + 1)) for partition in range(PARTITIONS)], 0),
    ],
)
async def test_a_direct_record_is_where_murmur2_puts_its_key_or_counted(given: list[Arrival], expected: int) -> None:
    """A gateway of ours partitions with murmur2; a key longer than any run id is rejected for that."""
    assert await counted(*given) == expected


async def test_the_first_one_is_logged_with_its_place_and_the_right_partition() -> None:
    with capture_logs() as logs:
        await counted(arrival(ELSEWHERE, offset=7), arrival(ELSEWHERE, offset=8))
    [said] = logs
    assert "murmur2" in said["event"]
    assert (said["partition"], said["offset"], said["expected_partition"]) == (ELSEWHERE, 7, HOME)


async def test_while_kafka_does_not_say_how_many_partitions_there_are_nothing_is_stored() -> None:
    async def away() -> int:
        raise Transient("Kafka does not answer")

    instruments = telemetry.Telemetry((WRONG_PARTITION,))
    with pytest.raises(Transient):
        await Placement(away, instruments[WRONG_PARTITION].labels("t", "g")).check([])
