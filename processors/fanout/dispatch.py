"""The lanes' work: each slice of the log sent to the live sockets, in pieces between which the loop serves others."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from processors.fanout.hub import Hub
from processors.fanout.log import Log
from processors.fanout.reading import StreamReader
from processors.fanout.streams.table import SOURCES
from processors.runtime.batch import Batch, RawRecord
from processors.runtime.errors import Transient
from schemas.kafka.places import Partition
from schemas.kafka.topics import Topic

PIECE_RECORDS_MAX = 200
PIECE_BYTES = 32 * 1024  # and the record that passes it: no more, as messages, than an outbox writes at once
PIECE_MESSAGES = 10_000  # some 20 ms
WAIT_S = 2.0  # of a topic for the one that comes before it
POLL_S = 0.005


class Dispatch:
    """The dispatcher that passes slices to the hub."""

    def __init__(
        self,
        hub: Hub,
        source: Log,
        read: StreamReader,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Hand *hub* what *read* makes of the records."""
        self._hub = hub
        self._source = source
        self._read = read
        self._sleep = sleep

    async def deliver(self, batch: Batch) -> None:
        """Broadcast *batch* from the hub's position on; if cancelled, all records up to the position were sent."""
        partition = batch.partition
        after = SOURCES[partition.topic].after
        if after is not None and self._hub.wanted(partition, batch.records):
            await self._wait_for(after)
        begin = 0
        while begin < len(batch.records):
            # Nothing is awaited from choosing what is wanted to telling it: who joins is told from the position on.
            piece = self._piece(batch.records, begin)
            for record in self._read(partition, self._hub.wanted(partition, piece)):
                if record.offset >= self._hub.places.position(partition):
                    self._hub.broadcast(record)
            self._hub.places.advance(partition, piece[-1].offset + 1)
            self._hub.flush()
            begin += len(piece)
            await asyncio.sleep(0)

    def _piece(self, records: Sequence[RawRecord], begin: int) -> Sequence[RawRecord]:
        """
        Return what to tell of before the loop turns: a transport sends then, so that a quick reader's outbox is empty.
        """
        end_max = begin + min(PIECE_RECORDS_MAX, max(1, PIECE_MESSAGES // max(1, self._hub.widest())))
        end, size_bytes = begin, 0
        while end < min(end_max, len(records)) and size_bytes < PIECE_BYTES:
            size_bytes += len(records[end].value or b"")
            end += 1
        return records[begin:end]

    async def _wait_for(self, topic: Topic) -> None:
        """Wait until the hub has broadcast what *topic* holds now: among events, the end of each traced run."""
        try:
            ends = await self._source.ends(topic)
        except Transient:
            return
        waited_s = 0.0
        # Bounded: markers of transactions at the end are records to nobody, and the position stays before them.
        while waited_s < WAIT_S and any(
            self._hub.places.position(Partition(topic.name, each)) < end for each, end in ends.items()
        ):
            await self._sleep(POLL_S)
            waited_s += POLL_S
