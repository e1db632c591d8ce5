"""Readers of slices: decode each record, and validate those that no gateway of ours has sealed."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeVar

from processors.runtime.batch import RawRecord
from processors.runtime.contract import Arrival, Reader, Reading, Unreadable
from processors.runtime.restoring import restore
from schemas.access.credentials import Credentials, CurrentCredentials, decide
from schemas.errors import Poison, Reason, Rejection
from schemas.kafka.codec import Codec
from schemas.kafka.seal import is_sealed
from schemas.kafka.topics import RECORD_BYTES_MAX

R = TypeVar("R")
R_contra = TypeVar("R_contra", contravariant=True)


class Check(Protocol[R_contra]):
    """The rules of a domain for a record that anyone may have produced."""

    def __call__(self, record: R_contra, /, *, key: bytes | None, credentials: Credentials) -> Rejection | None:
        """
        Return why *record* is not valid; None if it is.

        Raises:
            Poison: it can never be stored.
        """


def trusting_reader(check: Check[Any], *, codec: Codec[Any], credentials: CurrentCredentials) -> Reader[Any]:
    """
    Return a reader that trusts what a gateway of ours has sealed, and applies *check* to everything else.

    Before anything is refused, the credentials file is read again: an entry may be a moment old.
    """

    def read(records: Sequence[RawRecord]) -> Reading[Any]:
        return decide(
            lambda by: _read(records, check=check, codec=codec, credentials=by), credentials, refuses=_refuses_any
        )

    return read


def restored(letters: Sequence[RawRecord], *, tier: int) -> tuple[list[RawRecord], list[Unreadable]]:
    """
    Return the records that *letters* were, and the letters that do not say what they were.

    Letters are dead letters that an operator sent back (*tier* 0), or what waited in delay *tier*.
    """
    records: list[RawRecord] = []
    without_origin: list[Unreadable] = []
    for letter in letters:
        try:
            records.append(restore(letter, tier=tier))
        except Poison as poison:
            without_origin.append(Unreadable(letter, poison, len(records)))
    return records, without_origin


def _read(records: Sequence[RawRecord], *, check: Check[R], codec: Codec[Any], credentials: Credentials) -> Reading[R]:
    arrivals: list[Arrival[R]] = []
    unreadable: list[Unreadable] = []
    secrets = credentials.gateway.mac_secrets
    for raw in records:
        if (fault := _fault(raw)) is not None:
            unreadable.append(Unreadable(raw, fault, len(arrivals)))
            continue
        headers: Mapping[str, bytes | None] = dict(raw.headers)
        sealed = is_sealed(topic=raw.topic, key=raw.key, value=raw.value, headers=headers, secrets=secrets)
        try:
            record = codec.decode(raw.value)
            rejection = None if sealed else check(record, key=raw.key, credentials=credentials)
        except Poison as poison:
            unreadable.append(Unreadable(raw, poison, len(arrivals)))
        else:
            arrivals.append(Arrival(raw, headers, record, rejection, sealed))
    return Reading(arrivals, unreadable)


def _refuses_any(found: Reading[Any]) -> bool:
    return bool(found.unreadable) or any(arrival.rejection is not None for arrival in found.arrivals)


def _fault(raw: RawRecord) -> Poison | None:
    """Return why *raw* is not decoded; None if it is."""
    if raw.cut is not None:
        return Poison(raw.cut.reason, raw.cut.detail)
    if raw.value is not None and len(raw.value) > RECORD_BYTES_MAX:
        return Poison(Reason.TOO_LARGE, f"a value of {len(raw.value)} bytes; at most {RECORD_BYTES_MAX} are handled")
    return None
