"""A stack whose user events are archived, and what is in its archive."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from secrets import token_bytes, token_hex

import pytest
from confluent_kafka import Message, Producer

from deploy.archive.reading import storage
from deploy.local import folders
from schemas.archive.lines import Line
from schemas.archive.storage import ObstoreArchive, branches, prefix_of
from schemas.archive.topics import ARCHIVE
from schemas.events.codec import EVENT_CODEC
from schemas.events.records import key_of
from schemas.events.topics import USER_EVENTS
from schemas.kafka.clients import producer_config
from tests.support.archive import archived
from tests.support.builders import direct_user_event
from tests.support.log import read_topic
from tests.support.stack import RunningStack, TidegateFailed, running, tidegate

GROUP = ARCHIVE.group(USER_EVENTS.name)
PROCESS = f"archive.{USER_EVENTS.name}"
# What the tests do not need would only take the machine's time.
WITHOUT = (
    *("fanout", "maintenance", "evaluation", "jobs-intake", "executor", "documents-intake", "documents-embed"),
    "documents-store",
)
AGE_S = 2.0


@contextmanager
def archiving_stack(folder: Path, environ: Mapping[str, str] | None = None) -> Iterator[RunningStack]:
    """Run a stack that archives user events, each object after two seconds; at the end nothing of it is left."""
    told = os.environ | {
        "TIDEGATE_ARCHIVE_TOPICS": USER_EVENTS.name,
        "TIDEGATE_ARCHIVE_OBJECT_AGE_S": str(AGE_S),
        **(environ or {}),
    }
    options = [word for name in WITHOUT for word in ("--without", name)]
    try:
        with running(folder, "--ports", "auto", *options, environ=told) as started:
            yield started
    except TidegateFailed as failure:
        pytest.fail(f"{failure}\n--- up.log\n{(folder / 'up.log').read_text()}", pytrace=False)
    finally:
        tidegate("down", "--purge", "--dir", str(folder))


def produce(stack: RunningStack, count: int, *, poison: bool = False) -> None:
    """Append user events of random users, and among them records that nothing decodes."""
    producer = Producer(producer_config(stack.kafka, client_id="test", linger_ms=20))
    for number in range(count):
        event = direct_user_event(f"e-{token_hex(8)}", user_id=f"u-{number % 97}")
        key, value = key_of(event), EVENT_CODEC.encode(event)
        if poison and number % 50 == 7:
            value = token_bytes(30)
        producer.produce(USER_EVENTS.name, key=key, value=value, headers=[("nothing", None), ("bytes", b"\x00\xff")])
    assert producer.flush(30) == 0


def objects(stack: RunningStack) -> ObstoreArchive:
    """Return its archive."""
    return storage(stack.folder, {"TIDEGATE_OBJECTS": str(stack.folder / folders.OBJECTS)})


def lines(stack: RunningStack) -> Mapping[int, Mapping[int, list[Line]]]:
    """Return what is archived, by partition and by the offset in each object's name; every object is proven."""
    found = objects(stack)
    return {branch.partition: archived(found, branch) for branch in branches(found.list(prefix_of(USER_EVENTS.name)))}


def check_archive(stack: RunningStack) -> None:
    """Demand that each record of the log is in exactly one object, byte by byte, and that objects follow each other."""
    records: dict[int, list[Message]] = {}
    for record in read_topic(stack, USER_EVENTS):
        partition = record.partition()
        assert partition is not None
        records.setdefault(partition, []).append(record)
    found = lines(stack)
    for partition, of_partition in records.items():
        every = [line for _, of_object in sorted(found[partition].items()) for line in of_object]
        assert [line.offset for line in every] == [record.offset() for record in of_partition], "P10: not exactly once"
        for line, record in zip(every, of_partition, strict=True):
            assert (line.key_bytes, line.value_bytes) == (record.key(), record.value()), line.offset
            assert line.header_bytes == [(name, value) for name, value in record.headers() or []]
            assert line.timestamp == record.timestamp()[1]
