"""A slice's records, decoded and judged."""

from collections.abc import Sequence
from typing import NamedTuple

from processors.runtime.batch import RawRecord
from processors.runtime.outcomes import Arrival
from schemas import codec
from schemas.credentials import Credentials
from schemas.errors import Poison, Reason
from schemas.events import RunEvent, RunRecord, TraceRecord
from schemas.validity import check_content, is_sealed


class Unreadable(NamedTuple):
    """A record that is poison, and how many readable ones of its slice stand before it."""

    raw: RawRecord
    poison: Poison
    readable_before: int


def read(records: Sequence[RawRecord], credentials: Credentials) -> tuple[list[Arrival], list[Unreadable]]:
    """Sort *records*, in log order, into those that decode, each with what validity says of it, and poison."""
    sealed = {raw.offset for raw in records if _is_sealed(raw, credentials)}
    # Nearly every record is an event that a gateway sealed; those are decoded in one go.
    events = [raw for raw in records if raw.offset in sealed and codec.is_run_event(raw.value or b"")]
    decoded = _decode_events(events)
    arrivals: list[Arrival] = []
    unreadable: list[Unreadable] = []
    for raw in records:
        try:
            record = decoded.get(raw.offset) or _decode(raw)
            rejection = check_content(record, key=raw.key, sealed=raw.offset in sealed, credentials=credentials)
        except Poison as poison:
            unreadable.append(Unreadable(raw, poison, len(arrivals)))
        else:
            arrivals.append(Arrival(raw, record, rejection))
    return arrivals, unreadable


def _decode_events(events: Sequence[RawRecord]) -> dict[int, RunEvent]:
    try:
        decoded = codec.decode_sealed_events([raw.value or b"" for raw in events])
    except Poison:
        return {}  # a gateway sealed what is no event: let each be judged by itself
    return dict(zip((raw.offset for raw in events), decoded, strict=True))


def _is_sealed(raw: RawRecord, credentials: Credentials) -> bool:
    return raw.value is not None and is_sealed(
        topic=raw.topic, key=raw.key, value=raw.value, headers=dict(raw.headers), credentials=credentials
    )


def _decode(raw: RawRecord) -> RunRecord:
    record = codec.decode(raw.value)
    if isinstance(record, TraceRecord):
        raise Poison(Reason.UNKNOWN_SCHEMA, f"a TraceRecord does not belong on {raw.topic}")
    return record
