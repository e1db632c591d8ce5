"""A record that was put aside, as the record that it was: its own place in the log, its own headers."""

from processors.runtime.batch import Cut, RawRecord
from schemas.errors import Poison, Reason
from schemas.kafka import headers


def restore(letter: RawRecord, *, tier: int = 0) -> RawRecord:
    """
    Return the record that *letter* was, at the place where it was read first; *tier* tiers is how far it has come.

    Raises:
        Poison: it does not say where that was.
    """
    by_name = dict(letter.headers)
    topic = by_name.get(headers.ORIGINAL_TOPIC)
    if not topic:
        raise Poison(Reason.NO_ORIGIN, f"no header {headers.ORIGINAL_TOPIC}")
    return RawRecord(
        topic=topic.decode("utf-8", "replace"),
        partition=_number(by_name, headers.ORIGINAL_PARTITION),
        offset=_number(by_name, headers.ORIGINAL_OFFSET),
        timestamp=letter.timestamp,
        key=letter.key,
        value=letter.value,
        headers=[(name, value) for name, value in letter.headers if name not in headers.OF_DEAD_LETTERS],
        attempt=_number(by_name, headers.ATTEMPT),
        tier=tier,
        cut=_cut(by_name),
    )


def _cut(by_name: dict[str, bytes | None]) -> Cut | None:
    if headers.CUT_PARTS not in by_name:
        return None
    sha256 = by_name.get(headers.CUT_VALUE_SHA256)
    return Cut(
        reason=Reason.TOO_LARGE,
        detail="bytes of the record were cut off when it became a dead letter",
        value_bytes=headers.number_of(by_name.get(headers.CUT_VALUE_BYTES)),
        value_sha256=None if sha256 is None else sha256.decode("ascii", "replace"),
    )


def _number(by_name: dict[str, bytes | None], name: str) -> int:
    number = headers.number_of(by_name.get(name))
    if number is None:
        raise Poison(Reason.NO_ORIGIN, f"header {name} is not a number")
    return number
