"""A slice's records, decoded and judged."""

from collections.abc import Sequence
from typing import NamedTuple

from processors.runtime.batch import RawRecord
from processors.runtime.outcomes import Arrival
from processors.runtime.redrive import restore
from schemas.access.credentials import Credentials
from schemas.errors import Poison, Reason
from schemas.kafka.seal import is_sealed
from schemas.kafka.topics import RECORD_BYTES_MAX
from schemas.runs.codec import RUN_CODEC
from schemas.runs.validity import check_direct


class Unreadable(NamedTuple):
    """A record that is poison, and how many readable ones of its slice stand before it."""

    raw: RawRecord
    poison: Poison
    readable_before: int


def read_set_aside(
    letters: Sequence[RawRecord], credentials: Credentials, *, tier: int
) -> tuple[list[Arrival], list[Unreadable]]:
    """Like `read`, of records that were put aside: by an operator who sent dead letters back, or in delay *tier*."""
    records: list[RawRecord] = []
    without_origin: list[Unreadable] = []
    for letter in letters:
        try:
            records.append(restore(letter, tier=tier))
        except Poison as poison:
            without_origin.append(Unreadable(letter, poison, len(records)))
    arrivals, unreadable = read(records, credentials)
    return arrivals, without_origin + unreadable


def read(records: Sequence[RawRecord], credentials: Credentials) -> tuple[list[Arrival], list[Unreadable]]:
    """Sort *records*, in log order, into those that decode, each with what validity says of it, and poison."""
    arrivals: list[Arrival] = []
    unreadable: list[Unreadable] = []
    secrets = credentials.gateway.mac_secrets
    for raw in records:
        if (why := _unhandled(raw)) is not None:
            unreadable.append(Unreadable(raw, why, len(arrivals)))
            continue
        headers = dict(raw.headers)
        sealed = is_sealed(topic=raw.topic, key=raw.key, value=raw.value, headers=headers, secrets=secrets)
        try:
            record = RUN_CODEC.decode(raw.value)
            rejection = None if sealed else check_direct(record, key=raw.key, credentials=credentials)
        except Poison as poison:
            unreadable.append(Unreadable(raw, poison, len(arrivals)))
        else:
            arrivals.append(Arrival(raw, headers, record, rejection, sealed))
    return arrivals, unreadable


def refuses_any(found: tuple[list[Arrival], list[Unreadable]]) -> bool:
    """Return True if newer credentials might accept a record that *found*, the result of a `read`, refuses."""
    arrivals, unreadable = found
    return bool(unreadable) or any(arrival.rejection is not None for arrival in arrivals)


def _unhandled(raw: RawRecord) -> Poison | None:
    """Return why *raw* is not looked into; None if it is."""
    if raw.cut is not None:
        return Poison(raw.cut.reason, raw.cut.detail)
    if raw.value is not None and len(raw.value) > RECORD_BYTES_MAX:
        return Poison(Reason.TOO_LARGE, f"a value of {len(raw.value)} bytes; at most {RECORD_BYTES_MAX} are handled")
    return None
