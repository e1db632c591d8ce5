"""Batches, and a sink that does as the test says."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from processors.runtime.contract import Arrival
from processors.sinks.contract import Refused, SinkBatch, SinkRecord, TryAgain
from processors.sinks.documents import SourceRecord, sink_record
from schemas.errors import Rejection
from schemas.kafka.places import RecordPlace
from tests.support.builders import USER_TOPIC, Raw, user_event

TOPIC_ID = "Zm9v"

Answer = Sequence[Refused | TryAgain] | None
Behaviour = Callable[[SinkBatch], Answer]  # may raise


def arrival(
    offset: int, *, partition: int = 0, attempt: int = 0, rejection: Rejection | None = None, **changes: Any
) -> Arrival[SourceRecord]:
    """Return a user event as a handler is given it."""
    event = user_event(f"e-{offset}", **changes)
    raw = Raw(topic=USER_TOPIC, partition=partition, offset=offset, attempt=attempt, key=b"demo/u-1")
    return Arrival(raw, {}, event, rejection)  # type: ignore[arg-type]  # a fake of the same shape


def batch(*offsets: int, partition: int = 0, attempt: int = 0, replay_id: str | None = None) -> SinkBatch:
    """Return a batch of user events."""
    records = [sink_record(arrival(offset, partition=partition, payload={"n": offset})) for offset in offsets]
    return batch_of(records, partition=partition, attempt=attempt, replay_id=replay_id)


def batch_of(
    records: Sequence[SinkRecord], *, partition: int = 0, attempt: int = 0, replay_id: str | None = None
) -> SinkBatch:
    return SinkBatch(
        topic=USER_TOPIC,
        topic_id=TOPIC_ID,
        partition=partition,
        attempt=attempt,
        replay_id=replay_id,
        records=records,
    )


def offsets(written: SinkBatch) -> list[int]:
    """Return the offsets of a batch's records."""
    return [record.place.offset for record in written.records]


def place(offset: int, *, partition: int = 0) -> RecordPlace:
    return RecordPlace(USER_TOPIC, partition, offset)


class RecordingSink:
    """Keeps what it was asked to write, and answers as `behaviour` says."""

    def __init__(self, behaviour: Behaviour = lambda _batch: None) -> None:
        self.behaviour = behaviour
        self.asked: list[SinkBatch] = []
        self.taken: list[int] = []  # offsets, in order

    async def open(self, settings: Mapping[str, Any]) -> None:
        """Do nothing."""

    async def write(self, batch: SinkBatch) -> Answer:
        self.asked.append(batch)
        answer = self.behaviour(batch)
        left = {each.index for each in answer or ()}
        self.taken += [offset for index, offset in enumerate(offsets(batch)) if index not in left]
        return answer

    async def close(self) -> None:
        """Do nothing."""
