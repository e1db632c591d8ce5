"""
The contract between the runtime and a sink: what a sink is given, and how it answers.

A class of a deployment's own needs nothing but this module:

    class Shelf:
        async def open(self, settings):
            self.shelf = await connect(settings["address"])

        async def write(self, batch):
            answer = await self.shelf.put([record.event for record in batch.records], token=batch.token)
            if answer.is_busy:
                raise Transient("the shelf is busy", retry_after_s=answer.pause_s)
            return [Refused(index, reason) for index, reason in answer.bad]

        async def close(self):
            await self.shelf.disconnect()
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

from processors.runtime.errors import Misconfigured, Transient
from schemas.kafka.places import RecordPlace

__all__ = [
    "BatchRefused",
    "BatchTooLarge",
    "Misconfigured",
    "Refused",
    "Sink",
    "SinkBatch",
    "SinkRecord",
    "Transient",
    "TryAgain",
]


@dataclass(frozen=True, kw_only=True)
class SinkRecord:
    """One record of a batch."""

    place: RecordPlace  # in the log: what tells it from every other record of its topic
    key: bytes | None
    headers: Mapping[str, bytes | None]
    json: bytes  # the event as JSON, in one line
    payload: str | None  # its payload, the JSON text as it was sent; None: it has none

    @cached_property
    def event(self) -> dict[str, Any]:
        """Return the event, decoded."""
        decoded: dict[str, Any] = json.loads(self.json)
        return decoded


@dataclass(frozen=True, slots=True, kw_only=True)
class SinkBatch:
    """Records of one partition in the order of the log, none of those between them left out; never empty."""

    topic: str
    topic_id: str  # a topic that is deleted and created again has another one, and its offsets begin anew
    partition: int
    attempt: int  # how often its records were dead letters that an operator sent back
    replay_id: str | None  # of the replay that handles the records once more; None: they come as they were written
    records: Sequence[SinkRecord]

    @property
    def first(self) -> int:
        """Return the offset of the first record."""
        return self.records[0].place.offset

    @property
    def last(self) -> int:
        """Return the offset of the last record."""
        return self.records[-1].place.offset

    @property
    def token(self) -> str:
        """
        Return the name of the batch: `<topic>@<topic id>/<partition>/<first>-<last>`.

        Two batches of one name have the same records. One record may come in batches of different names, after a
        crash or a refusal: what must take effect once is told by the records' places, not by this.
        """
        sent_back = f"+{self.attempt}" if self.attempt else ""
        return f"{self.topic}@{self.topic_id}/{self.partition}/{self.first}-{self.last}{sent_back}"


@dataclass(frozen=True, slots=True)
class Refused:
    """A record that the sink will never take: it becomes a dead letter with the reason."""

    index: int  # in the batch
    reason: str


@dataclass(frozen=True, slots=True)
class TryAgain:
    """A record that the sink did not take this time: it is written again, without those that were taken."""

    index: int  # in the batch
    reason: str = ""


class BatchRefused(Exception):
    """The batch will never be taken as a whole. Halves of it are written until the bad record is found."""


class BatchTooLarge(Exception):
    """The batch is too large. Smaller ones are written from now on; a single record that is becomes a dead letter."""


class Sink(Protocol):
    """
    A sink. Several partitions write side by side, each one batch at a time; the batches of a partition in its order.

    A batch that failed comes again as it was, and so may one that was taken, after a crash: a repeated write must do
    no harm. An exception that is none of these counts as Transient, and so does a write beyond the time limit, which
    is cancelled.
    """

    async def open(self, settings: Mapping[str, Any]) -> None:
        """Prepare, once, with the sink's own *settings*; an exception stops the start."""

    async def write(self, batch: SinkBatch) -> Sequence[Refused | TryAgain] | None:
        """
        Take *batch*, durably; return what of it was not taken, None or nothing if all was.

        Raises:
            Transient: nothing is known to be taken. The batch comes again, after `retry_after_s` if it says so.
            BatchRefused, BatchTooLarge: nothing was taken; see there.
            Misconfigured: a setting is wrong, such as a password. The batch comes again, and a person is called.
        """

    async def close(self) -> None:
        """Give up what it holds; nothing is written after this."""
