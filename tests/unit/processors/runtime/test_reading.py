"""Records of a slice, decoded and judged."""

from collections.abc import Sequence
from typing import Any

from processors.runtime.contract import Reading
from processors.runtime.reading import trusting_reader
from schemas.errors import Reason
from schemas.kafka import headers
from schemas.kafka.seal import record_mac
from schemas.kafka.topics import RECORD_BYTES_MAX
from schemas.runs.codec import RUN_CODEC
from schemas.runs.validity import check_direct
from tests.support.builders import Raw, credentials, event, raw, run_event, signed
from tests.support.fakes import InForce


def read(records: Sequence[Any]) -> Reading[Any]:
    return trusting_reader(check_direct, codec=RUN_CODEC, credentials=InForce(credentials()))(records)


def test_every_record_is_read_in_log_order() -> None:
    direct = raw(run_event(signed(event(2))), offset=2, checked=False)
    records = [raw(run_event(event(1)), offset=1), direct, raw(run_event(event(3)), offset=3)]
    arrivals, poisoned = read(records)
    assert [arrival.record.seq for arrival in arrivals] == [1, 2, 3]  # type: ignore[union-attr]
    assert [arrival.rejection for arrival in arrivals] == [None] * 3
    assert poisoned == []


def test_poison_is_set_apart_with_its_reason() -> None:
    records = [raw(run_event(event(1)), offset=1), Raw(value=b"x", offset=2), Raw(value=None, offset=3)]
    arrivals, poisoned = read(records)
    assert len(arrivals) == 1
    assert [(record.offset, poison.reason) for record, poison, _ in poisoned] == [
        (2, Reason.UNDECODABLE),
        (3, Reason.UNDECODABLE),
    ]


def test_what_is_larger_than_any_record_of_ours_is_not_looked_into() -> None:
    large = Raw(value=bytes(RECORD_BYTES_MAX + 1), offset=1)
    arrivals, poisoned = read([raw(run_event(event(1))), large])
    assert len(arrivals) == 1
    assert [(record.offset, poison.reason) for record, poison, _ in poisoned] == [(1, Reason.TOO_LARGE)]


def test_a_seal_over_what_is_no_event_is_poison_and_harms_no_neighbour() -> None:
    broken = raw(run_event(event(2)), offset=2)
    assert broken.value is not None
    cut = broken.value[:-4]
    mac = record_mac("gateway-secret", topic="run.events", key=b"run-1", tenant=b"demo", value=cut)
    sealed = Raw(key=b"run-1", value=cut, offset=2, headers=[(headers.TENANT, b"demo"), (headers.GATEWAY_MAC, mac)])
    arrivals, poisoned = read([raw(run_event(event(1)), offset=1), sealed, raw(run_event(event(3)), offset=3)])
    assert [arrival.record.seq for arrival in arrivals] == [1, 3]  # type: ignore[union-attr]
    assert [(found.raw.offset, found.readable_before) for found in poisoned] == [(2, 1)]


def test_a_seal_of_another_tenant_counts_for_nothing() -> None:
    record = raw(run_event())
    record.headers[0] = (headers.TENANT, b"other")
    (arrival,), _ = read([record])
    assert arrival.rejection is not None
    assert arrival.rejection.reason is Reason.UNSIGNED_DIRECT
