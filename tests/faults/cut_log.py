"""A log that loses records that were acknowledged: what a power cut leaves of it, and a topic deleted and recreated."""

import signal
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from confluent_kafka.admin import AdminClient

from tests.faults.processes import held_down
from tests.faults.records import WITHIN_S
from tests.support.stack import RunningStack, wait_until

_LENGTH = struct.Struct(">qi")  # base offset, length of what follows
# What a batch begins with: these two, leader epoch, magic, CRC, attributes, offset of its last record from the base.
_BATCH = struct.Struct(">qiibIhi")


@contextmanager
def cut_off(stack: RunningStack, topic: str, partition: int, *, before: int) -> Iterator[None]:
    """
    Kill the broker, cut every record from offset *before* on off a partition, and start the broker again.

    Records that share a batch with that one go too: a batch that is not whole is dropped.
    """
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
        base, length, *_, last_delta = _BATCH.unpack_from(data, end)
        if base + last_delta >= before:
            break
        end += _LENGTH.size + length
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
