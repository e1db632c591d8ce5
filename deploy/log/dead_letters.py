"""
The dead letters of one group: which wait for a person, and what a person does about them.

A dead letter is settled by a record in a topic beside it, whose key is the letter's place. What was asked for is done
first (the record sent back, and acknowledged) and settled then: whoever is interrupted does a few letters twice at
most, which the group takes for redeliveries.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from deploy.log.reading import Edge, Raw, records
from deploy.log.writing import Content, Writer
from schemas.kafka import headers
from schemas.kafka.connection import KafkaSettings
from schemas.kafka.topics import Group

ATTEMPTS_MAX = 4  # handled once and sent back three times
CHUNK_LETTERS = 500
CHUNK_BYTES = 8 * 1024 * 1024


class Settlement(StrEnum):
    """An operator's decision about a dead letter."""

    REDRIVEN = "redriven"
    DROPPED = "dropped"


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """One dead letter and what it says of itself."""

    raw: Raw
    origin: str  # the place of the record that it was; what its producer wrote, if that was not us
    reason: str
    detail: str
    attempt: int

    @property
    def place(self) -> str:
        """Return where it lies."""
        return self.raw.place.wal_id

    @property
    def key(self) -> str:
        """Return the key of the record: the run's id, where the producer kept the rule."""
        return _text(self.raw.key)

    @property
    def at(self) -> datetime | None:
        """Return when it was written; None if that is unknown."""
        return None if self.raw.timestamp_ms is None else headers.moment_of(self.raw.timestamp_ms)

    @property
    def is_cut(self) -> bool:
        """Return True if it does not have all bytes of its record, so that it cannot be sent back."""
        return headers.find(self.raw.headers, headers.CUT_PARTS) is not None

    @property
    def is_exhausted(self) -> bool:
        """Return True if it was sent back as often as it may be."""
        return self.attempt >= ATTEMPTS_MAX


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """A selection of letters: those that match every given criterion."""

    places: frozenset[str] = frozenset()  # of letters or of the records that they were; empty: any
    reason: str | None = None
    run_id: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    def admits(self, letter: Letter) -> bool:
        """Return True if *letter* is selected."""
        return (
            (not self.places or not self.places.isdisjoint((letter.place, letter.origin)))
            and self.reason in (None, letter.reason)
            and self.run_id in (None, letter.key)
            and (self.since is None or (letter.at is not None and letter.at >= self.since))
            and (self.until is None or (letter.at is not None and letter.at < self.until))
        )


def waiting(kafka: KafkaSettings, group: Group, selection: Selection) -> Iterator[Letter]:
    """
    Yield the letters of *selection* that nobody has settled, oldest first.

    Raises:
        NotReachable, CommandFailed: see `reading.records`.
    """
    settled = {_text(record.key) for record in records(kafka, group.settled.name, Edge.BEGINNING, follow=False)}
    for raw in records(kafka, group.dead_letters.name, Edge.BEGINNING, follow=False):
        letter = _letter(raw)
        if _settlement_key(raw) not in settled and selection.admits(letter):
            yield letter


class DeadLetterSettlement:
    """The settlement of one group's dead letters, a chunk at a time."""

    def __init__(self, kafka: KafkaSettings, group: Group) -> None:
        """Connect in the background."""
        self._group = group
        self._writer = Writer(kafka)

    def settle(self, letters: Iterable[Letter], settlement: Settlement, *, on_settled: Callable[[int], None]) -> None:
        """
        Send *letters* back, or drop them, in their order; *on_settled* is told how many, chunk by chunk.

        Raises:
            NotReachable: the broker does not acknowledge; what was settled before stays so.
            CommandFailed: it refuses one.
        """
        for chunk in _chunks(letters):
            if settlement is Settlement.REDRIVEN:
                self._writer.write(self._group.redrive, [_sent_back(each.raw) for each in chunk])
            how: headers.Headers = [
                (headers.SETTLED_AS, settlement.value),
                (headers.SETTLED_AT, headers.timestamp(datetime.now(UTC))),
            ]
            self._writer.write(self._group.settled, [(_settlement_key(each.raw).encode(), None, how) for each in chunk])
            on_settled(len(chunk))


def _chunks(letters: Iterable[Letter]) -> Iterator[list[Letter]]:
    chunk: list[Letter] = []
    size_bytes = 0
    for letter in letters:
        chunk.append(letter)
        size_bytes += letter.raw.size_bytes
        if len(chunk) >= CHUNK_LETTERS or size_bytes >= CHUNK_BYTES:
            yield chunk
            chunk, size_bytes = [], 0
    if chunk:
        yield chunk


def _sent_back(raw: Raw) -> Content:
    return raw.key, raw.value, [(name, value or b"") for name, value in raw.headers]


def _letter(raw: Raw) -> Letter:
    by_name = dict(raw.headers)
    topic, partition, offset = (
        _text(by_name.get(name))
        for name in (headers.ORIGINAL_TOPIC, headers.ORIGINAL_PARTITION, headers.ORIGINAL_OFFSET)
    )
    attempt = headers.number_of(by_name.get(headers.ATTEMPT))
    return Letter(
        raw=raw,
        origin=f"{topic}/{partition}/{offset}",
        reason=_text(by_name.get(headers.ERROR_CLASS)),
        detail=_text(by_name.get(headers.ERROR_MESSAGE)),
        attempt=1 if attempt is None else attempt,
    )


def _settlement_key(raw: Raw) -> str:
    return f"{raw.partition}/{raw.offset}"


def _text(value: bytes | None) -> str:
    return "" if value is None else value.decode("utf-8", "backslashreplace")
