"""Records that a processor writes to the log: set aside or derived, each acknowledged before it counts."""

import asyncio
import hashlib
import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

import structlog
from confluent_kafka import KafkaError, KafkaException, Message, Producer

from processors.runtime.batch import RawRecord
from processors.runtime.errors import RecordRefused, Transient
from processors.runtime.failpoints import Failpoint, reach
from schemas.errors import Reason
from schemas.kafka import headers
from schemas.kafka.clients import producer_config
from schemas.kafka.connection import KafkaSettings
from schemas.kafka.topics import LETTER_BYTES_MAX, Group, Topic
from schemas.objects.references import UTF8_BYTES_MAX

ACKNOWLEDGED_WITHIN_S = 20.0
# Below the wait, so that an unknown outcome is settled before the record is written again.
DELIVERY_TIMEOUT_MS = 15_000
MESSAGE_CHARACTERS_MAX = 500

PART_BYTES_MAX = 64 * 1024  # of a key, or of all headers, that a cut letter keeps
FRAME_BYTES = 64 * 1024  # what a letter's own headers and Kafka's framing take at most

# What the broker or the client says of a record that it will never take as it is. Anything else may pass or be mended
# by an operator (a missing topic, a right), and the group waits.
_REFUSALS = frozenset(
    {
        KafkaError.MSG_SIZE_TOO_LARGE,
        KafkaError.RECORD_LIST_TOO_LARGE,
        KafkaError.INVALID_RECORD,
        KafkaError.INVALID_TIMESTAMP,
    }
)
log = structlog.get_logger()

_DECODING = (Reason.UNDECODABLE, Reason.UNKNOWN_SCHEMA)


@dataclass(frozen=True, slots=True, kw_only=True)
class OutgoingRecord:
    """A record to be written."""

    key: bytes | None
    value: bytes | None
    headers: headers.Headers


class DeadLetters(Protocol):
    """The destination of dead letters: `LogWriter` for a live group."""

    async def write(self, topic: Topic, records: Sequence[OutgoingRecord]) -> None:
        """See `LogWriter.write`."""


class NoDeadLetters:
    """
    `DeadLetters` of a replay: none is written.

    Whatever is poison in the range was, or will be, dead-lettered by the live group when it comes to it.
    """

    async def write(self, topic: Topic, records: Sequence[OutgoingRecord]) -> None:
        """See `DeadLetters.write`."""


class LogWriter:
    """A writer of a few records that waits for each: an idempotent producer, flushed in a thread."""

    def __init__(self, kafka: KafkaSettings, *, client_id: str) -> None:
        """Connect in the background; the first write waits for it."""
        config = producer_config(kafka, client_id=client_id, record_bytes_max=LETTER_BYTES_MAX)
        self._config: dict[str, Any] = {
            **config,
            "message.timeout.ms": DELIVERY_TIMEOUT_MS,
            "logger": logging.getLogger("librdkafka"),
        }
        self._producer = Producer(self._config)

    async def write(self, topic: Topic, records: Sequence[OutgoingRecord]) -> None:
        """
        Append *records* in order; on return all of them are acknowledged.

        Raises:
            RecordRefused: one of them will never be taken as it is. Others may have been written.
            Transient: not acknowledged in time. Some may have been written: a repeat may double them.
        """
        await asyncio.to_thread(self._write, topic.name, records)

    def _write(self, topic: str, records: Sequence[OutgoingRecord]) -> None:
        failures: list[KafkaError] = []
        acknowledged = 0

        def report(error: KafkaError | None, _message: Message) -> None:
            nonlocal acknowledged
            if error is None:
                acknowledged += 1
            else:
                failures.append(error)

        try:
            for record in records:
                self._producer.produce(
                    topic, key=record.key, value=record.value, headers=record.headers, on_delivery=report
                )
                self._producer.poll(0)
            reach(Failpoint.BEFORE_DLQ_ACK)
            self._producer.flush(ACKNOWLEDGED_WITHIN_S)
        except BufferError as error:
            raise Transient(f"{topic}: {error}") from error
        except KafkaException as error:
            failures += [each for each in error.args if isinstance(each, KafkaError)]
        if refusals := [error for error in failures if error.code() in _REFUSALS]:
            raise RecordRefused(f"{topic}: {refusals[0]}")
        if fatal := [error for error in failures if _is_fatal(error)]:
            # Reported to whichever call comes next: this producer takes no more records.
            log.error("fatal producer error, building another producer", error=str(fatal[0]))
            self._producer = Producer(self._config)
        if failures or acknowledged != len(records):
            raise Transient(f"{topic}: {failures[0] if failures else 'no acknowledgement'}")

    async def close(self) -> None:
        """Send what is left, bounded; nothing is left unless a write failed."""
        with suppress(KafkaException):
            await asyncio.to_thread(self._producer.flush, 1.0)


def _is_fatal(error: KafkaError) -> bool:
    return bool(error.fatal() or error.code() == KafkaError._FATAL)  # noqa: SLF001  # its public spelling


def dead_letter(record: RawRecord, reason: Reason, detail: str, *, group: Group) -> OutgoingRecord:
    """
    Return the dead letter of *record*: its key, bytes and headers, and what went wrong.

    Without its bytes, but with their length and digest, where the whole letter would be larger than its topic takes.
    """
    letter = _whole(record, reason, detail, group=group, attempt=record.attempt + 1)
    return cut_letter(record, reason, detail, group=group) if letter is None else letter


def deferral(record: RawRecord, reason: Reason, detail: str, *, group: Group) -> OutgoingRecord | None:
    """
    Return the record that waits in a delay tier for *record*: its dead letter, except that it has not failed for good.

    None if bytes of the record are missing or would not fit: it can then only be a dead letter.
    """
    return _whole(record, reason, detail, group=group, attempt=record.attempt)


def _whole(record: RawRecord, reason: Reason, detail: str, *, group: Group, attempt: int) -> OutgoingRecord | None:
    kept = _own_headers(record)
    size_bytes = len(record.key or b"") + len(record.value or b"") + _size_bytes(kept)
    if record.cut is not None or size_bytes > LETTER_BYTES_MAX - FRAME_BYTES:
        return None
    why = _why(record, reason, detail, group=group, attempt=attempt)
    return OutgoingRecord(key=record.key, value=record.value, headers=kept + why)


def cut_letter(record: RawRecord, reason: Reason, detail: str, *, group: Group) -> OutgoingRecord:
    """Return the dead letter of *record* without its value, and without a key or headers that are large themselves."""
    kept = _own_headers(record)
    has_key = record.key is not None and len(record.key) <= PART_BYTES_MAX
    has_headers = _size_bytes(kept) <= PART_BYTES_MAX
    unseen = record.cut is not None and record.cut.value_bytes is None
    parts = ["value"]
    parts += [] if has_key or (record.key is None and not unseen) else ["key"]
    parts += [] if has_headers and not unseen else ["headers"]
    cut: headers.Headers = [(headers.CUT_PARTS, " ".join(parts).encode())]
    cut += [(name, value.encode()) for name, value in _value_facts(record)]
    why = _why(record, reason, detail, group=group, attempt=record.attempt + 1)
    return OutgoingRecord(
        key=record.key if has_key else None, value=None, headers=(kept if has_headers else []) + why + cut
    )


def _value_facts(record: RawRecord) -> Sequence[tuple[str, str]]:
    if record.cut is None:
        value = record.value or b""
        size_bytes, sha256 = len(value), hashlib.sha256(value).hexdigest()
    elif record.cut.value_bytes is None or record.cut.value_sha256 is None:
        return []
    else:
        size_bytes, sha256 = record.cut.value_bytes, record.cut.value_sha256
    return [(headers.CUT_VALUE_BYTES, str(size_bytes)), (headers.CUT_VALUE_SHA256, sha256)]


def _own_headers(record: RawRecord) -> headers.Headers:
    return [
        (name, value if value is not None else b"")
        for name, value in record.headers
        if name not in headers.OF_DEAD_LETTERS  # a producer's own would be taken for what is said here
    ]


def _size_bytes(of: headers.Headers) -> int:
    return sum(len(name) * UTF8_BYTES_MAX + len(value) for name, value in of)


def _why(record: RawRecord, reason: Reason, detail: str, *, group: Group, attempt: int) -> headers.Headers:
    place = {
        headers.ORIGINAL_TOPIC: record.topic,
        headers.ORIGINAL_PARTITION: str(record.partition),
        headers.ORIGINAL_OFFSET: str(record.offset),
        headers.ATTEMPT: str(attempt),
        headers.FAILED_PART: group.name,
        headers.ERROR_TOPIC: record.topic,
        headers.ERROR_PARTITION: str(record.partition),
        headers.ERROR_OFFSET: str(record.offset),
        headers.ERROR_STAGE: "VALUE_CONVERTER" if reason in _DECODING else "TASK_PUT",
        headers.ERROR_CLASS: reason.value,
        headers.ERROR_MESSAGE: detail[:MESSAGE_CHARACTERS_MAX],
    }
    return [(name, value.encode("utf-8", "replace")) for name, value in place.items()]
