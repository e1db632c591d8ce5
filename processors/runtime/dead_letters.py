"""Records that a processor writes to the log: set aside or derived, each acknowledged before it counts."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

import structlog
from confluent_kafka import KafkaError, KafkaException, Message, Producer

from processors.runtime.batch import RawRecord
from processors.runtime.errors import Transient
from processors.runtime.failpoints import Failpoint, reach
from schemas import headers
from schemas.errors import Poison, Reason
from schemas.producer import producer_config
from schemas.topics import LETTER_BYTES_MAX, Group, Topic

ACKNOWLEDGED_WITHIN_S = 20.0
# Below the wait, so that an unknown outcome is settled before the record is written again.
DELIVERY_TIMEOUT_MS = 15_000
MESSAGE_CHARACTERS_MAX = 500

log = structlog.get_logger()

_DECODING = (Reason.UNDECODABLE, Reason.UNKNOWN_SCHEMA)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """A record to be written."""

    key: bytes | None
    value: bytes | None
    headers: headers.Headers


class DeadLetters(Protocol):
    """Where dead letters go: `LogWriter` for a live group."""

    async def write(self, topic: Topic, records: Sequence[Outgoing]) -> None:
        """See `LogWriter.write`."""


class NoDeadLetters:
    """
    `DeadLetters` of a replay: none is written.

    Whatever is poison in the range was, or will be, dead-lettered by the live group when it comes to it.
    """

    async def write(self, topic: Topic, records: Sequence[Outgoing]) -> None:
        """See `DeadLetters.write`."""


class LogWriter:
    """Writes few records and waits for each: an idempotent producer, flushed in a thread."""

    def __init__(self, bootstrap: str, *, client_id: str) -> None:
        """Connect in the background; the first write waits for it."""
        config = producer_config(bootstrap, client_id=client_id, record_bytes_max=LETTER_BYTES_MAX)
        config["message.timeout.ms"] = DELIVERY_TIMEOUT_MS
        self._config = config
        self._producer = Producer(config)

    async def write(self, topic: Topic, records: Sequence[Outgoing]) -> None:
        """
        Append *records* in order; on return all of them are acknowledged.

        Raises:
            Transient: not acknowledged in time. Some may have been written: a repeat may double them.
        """
        await asyncio.to_thread(self._write, topic.name, records)

    def _write(self, topic: str, records: Sequence[Outgoing]) -> None:
        failures: list[str] = []
        acknowledged = 0

        def report(error: object, _message: Message) -> None:
            nonlocal acknowledged
            if error is None:
                acknowledged += 1
            else:
                failures.append(str(error))

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
            if _is_fatal(error):  # raised by whichever call comes next; this producer takes no more records
                log.error("fatal producer error, building another producer", error=str(error))  # noqa: TRY400
                self._producer = Producer(self._config)
            raise Transient(f"{topic}: {error}") from error
        if acknowledged != len(records):
            raise Transient(f"{topic}: {failures[0] if failures else 'no acknowledgement'}")

    async def close(self) -> None:
        """Send what is left, bounded; nothing is left unless a write failed."""
        with suppress(KafkaException):
            await asyncio.to_thread(self._producer.flush, 1.0)


def _is_fatal(error: KafkaException) -> bool:
    cause: Any = error.args[0]
    return bool(cause.fatal() or cause.code() == KafkaError._FATAL)  # noqa: SLF001  # its public spelling


def dead_letter(record: RawRecord, poison: Poison, *, group: Group) -> Outgoing:
    """The dead letter of *record*: key, bytes and its own headers as they were, and what went wrong."""
    return _set_aside(record, poison, group=group, attempt=record.attempt + 1)


def deferral(record: RawRecord, poison: Poison, *, group: Group) -> Outgoing:
    """What waits in a delay tier for *record*: the same as its dead letter, but that it has not failed for good."""
    return _set_aside(record, poison, group=group, attempt=record.attempt)


def _set_aside(record: RawRecord, poison: Poison, *, group: Group, attempt: int) -> Outgoing:
    place = {
        headers.ORIGINAL_TOPIC: record.topic,
        headers.ORIGINAL_PARTITION: str(record.partition),
        headers.ORIGINAL_OFFSET: str(record.offset),
        headers.ATTEMPT: str(attempt),
        headers.FAILED_PART: group.name,
        headers.ERROR_TOPIC: record.topic,
        headers.ERROR_PARTITION: str(record.partition),
        headers.ERROR_OFFSET: str(record.offset),
        headers.ERROR_STAGE: "VALUE_CONVERTER" if poison.reason in _DECODING else "TASK_PUT",
        headers.ERROR_CLASS: poison.reason.value,
        headers.ERROR_MESSAGE: poison.detail[:MESSAGE_CHARACTERS_MAX],
    }
    kept: headers.Headers = [
        (name, value if value is not None else b"")
        for name, value in record.headers
        if name not in headers.OF_DEAD_LETTERS  # a producer's own would be taken for what is said here
    ]
    kept += [(name, value.encode("utf-8", "replace")) for name, value in place.items()]
    return Outgoing(key=record.key, value=record.value, headers=kept)
