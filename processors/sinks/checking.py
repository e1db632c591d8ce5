"""
Checks of a sink against its contract, with sample events that it is given as a group would give them.

The events are of a topic and a type of their own, `tidegate.check`; a sink that keeps what it is given keeps them.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from secrets import token_hex

import structlog

from processors.sinks.contract import BatchRefused, BatchTooLarge, Refused, Sink, SinkBatch, SinkRecord, Transient
from processors.sinks.guarding import GuardedSink
from schemas.kafka.places import RecordPlace
from schemas.sinks import sinks_file

TOPIC = "tidegate.check"
CANCEL_AFTER_S = 0.001

log = structlog.get_logger()

# Texts and numbers that JSON has and that other formats stumble over.
UNUSUAL: tuple[object, ...] = (
    None,
    {"text": "Ünïcödé \U0001f40b \u2028 \"quoted\" \\ 'single' ; -- \t"},
    {"number": 9007199254740993, "small": 1e-300, "nested": [[[[{"deep": True}]]]]},
    {"long": "x" * 65_536},
    {"": "", "select": 1, "user-id": [], "user_id": {}},
)


class Samples:
    """Batches of sample events; their offsets go on from batch to batch."""

    def __init__(self, records_max: int) -> None:
        """Make full batches of *records_max* records, of a topic that no other check has had."""
        self.records_max = records_max
        self._topic_id = f"check-{token_hex(8)}"
        self._next: dict[int, int] = {}

    def batch(self, *payloads: object, partition: int = 0) -> SinkBatch:
        """Return a new batch with an event of each of *payloads*."""
        first = self._next.get(partition, 0)
        self._next[partition] = first + len(payloads)
        records = [_record(partition, first + number, payload) for number, payload in enumerate(payloads)]
        return self._batch(partition, records)

    def full(self, *, partition: int = 0) -> SinkBatch:
        """Return a new batch that is full."""
        return self.batch(*({"number": number} for number in range(self.records_max)), partition=partition)

    def part(self, batch: SinkBatch, begin: int, end: int) -> SinkBatch:
        """Return the records of *batch* from *begin* to *end* as a batch; the whole where there is none between."""
        return self._batch(batch.partition, batch.records[begin:end] or batch.records)

    def _batch(self, partition: int, records: Sequence[SinkRecord]) -> SinkBatch:
        return SinkBatch(
            topic=TOPIC,
            topic_id=self._topic_id,
            partition=partition,
            attempt=0,
            replay_id=None,
            records=records,
        )


async def one_record(sink: GuardedSink, samples: Samples) -> None:
    """Write a batch of one record."""
    await _write(sink, samples.batch({"number": 1}))


async def full_batch(sink: GuardedSink, samples: Samples) -> None:
    """Write a full batch."""
    await _write(sink, samples.full())


async def same_batch_twice(sink: GuardedSink, samples: Samples) -> None:
    """Write a batch twice, as after an answer that was lost."""
    batch = samples.full()
    await _write(sink, batch)
    await _write(sink, batch)


async def halves_after_the_whole(sink: GuardedSink, samples: Samples) -> None:
    """Write a batch and then its parts, as after a refusal, or a crash while it was gathered."""
    batch = samples.full()
    middle = len(batch.records) // 2
    for part in (batch, samples.part(batch, 0, middle), samples.part(batch, middle, len(batch.records))):
        await _write(sink, part)


async def cancelled_and_again(sink: GuardedSink, samples: Samples) -> None:
    """Cancel a write, as when a partition goes to another process, and write the batch again."""
    batch = samples.full()
    task = asyncio.create_task(_write(sink, batch))
    await asyncio.wait({task}, timeout=CANCEL_AFTER_S)
    task.cancel()
    await asyncio.wait({task})
    await _write(sink, batch)


async def two_partitions(sink: GuardedSink, samples: Samples) -> None:
    """Write batches of two partitions side by side."""
    await asyncio.gather(_write(sink, samples.full()), _write(sink, samples.full(partition=1)))


async def unusual_events(sink: GuardedSink, samples: Samples) -> None:
    """Write texts and numbers that JSON has and that other formats stumble over."""
    await _write(sink, samples.batch(*UNUSUAL))


Check = Callable[[GuardedSink, Samples], Awaitable[None]]

CHECKS: Mapping[str, Check] = {
    "one record": one_record,
    "a full batch": full_batch,
    "the same batch twice": same_batch_twice,
    "halves after the whole": halves_after_the_whole,
    "cancelled, and written again": cancelled_and_again,
    "two partitions side by side": two_partitions,
    "unusual texts and numbers": unusual_events,
}


async def check(sink: Sink, settings: sinks_file.Sink) -> int:
    """Run each of `CHECKS`; log what came out and return the exit code: 0 if the sink holds its contract."""
    guarded = GuardedSink(sink, timeout_s=settings.timeout_s)
    samples = Samples(settings.batch.records_max)
    failed = False
    for name, run in CHECKS.items():
        failure = None
        try:
            await run(guarded, samples)
        except Transient as error:
            failed, failure = True, str(error)
        log.info("sink checked", check=name, failure=failure)
    return int(failed)


async def _write(sink: GuardedSink, batch: SinkBatch) -> None:
    """
    Write *batch*; to refuse it, or a part of it, is within the contract.

    Raises:
        Transient: it was not taken.
    """
    try:
        answered = await sink.write(batch)
    except (BatchRefused, BatchTooLarge) as error:
        log.warning("batch refused", token=batch.token, reason=str(error))
        return
    for each in answered:
        if not isinstance(each, Refused):
            raise Transient(f"record {each.index} of {batch.token} is to be written again: {each.reason}")
        log.warning("record refused", token=batch.token, index=each.index, reason=each.reason)


def _record(partition: int, offset: int, payload: object) -> SinkRecord:
    place = RecordPlace(TOPIC, partition, offset)
    text = json.dumps(payload)
    event = {"id": f"check_{partition}_{offset}", "place": place.wal_id, "type": TOPIC, "payload": payload}
    return SinkRecord(place=place, key=b"check", headers={}, json=json.dumps(event).encode(), payload=text)
