"""A log that loses records that were acknowledged: what a power cut leaves of it, and a topic deleted and recreated."""

import signal
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from confluent_kafka.admin import AdminClient

from tests.faults.processes import held_down
from tests.faults.records import WITHIN_S
from tests.stack import RunningStack, wait_until

_BATCH = struct.Struct(">qi")  # base offset, length of what follows


@contextmanager
def cut_off(stack: RunningStack, topic: str, partition: int, *, before: int) -> Iterator[None]:
    """Kill the broker, cut every record from offset *before* on off a partition, and start the broker again."""
    with held_down(stack, "kafka", signal.SIGKILL):
        folder = stack.folder / "kafka" / "data" / f"{topic}-{partition}"
        [segment] = folder.glob("*.log")
        _cut(segment, before)
        for state in (
            "leader-epoch-checkpoint",
            "*.snapshot",
        ):  # as old as the records that are left, after a power cut
            for each in folder.glob(state):
                each.unlink()
        yield


def _cut(segment: Path, before: int) -> None:
    data = segment.read_bytes()
    end = 0
    while end < len(data):
        offset, length = _BATCH.unpack_from(data, end)
        if offset >= before:
            break
        end += _BATCH.size + length
    assert end < len(data), f"{segment} has no record at or after {before}"
    with segment.open("r+b") as file:
        file.truncate(end)


def delete(stack: RunningStack, *topics: str) -> None:
    """Delete topics, and wait until the broker has."""
    admin = AdminClient({"bootstrap.servers": stack.addresses.kafka})
    for deleted in admin.delete_topics(list(topics)).values():
        deleted.result(WITHIN_S)
    wait_until(
        lambda: not set(topics) & admin.list_topics(timeout=WITHIN_S).topics.keys(),
        timeout_s=WITHIN_S,
        what="the topics to be gone",
    )
