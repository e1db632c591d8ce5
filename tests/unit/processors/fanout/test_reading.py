"""Who is told: valid records alone; forged ones reach nobody."""

import msgspec
import pytest

from processors.fanout.messages import Kind
from processors.fanout.reading import stream_reader
from processors.runtime.batch import RawRecord
from schemas.access.credentials import Gateway
from schemas.catalogue import CODEC
from schemas.kafka import headers
from schemas.kafka.places import Partition
from schemas.kafka.seal import record_mac
from schemas.runs.records import EnvironmentCaptured, RunFinalized, RunStatus, TraceRecord
from schemas.runs.topics import RUN_TRACES, trace_key
from tests.support.builders import MAC_SECRET, TENANT, Raw, credentials, event, raw, run_event, signed
from tests.support.fakes import InForce
from tests.unit.gateway.conftest import NOW

EVENTS = Partition("run.events", 0)
TRACES = Partition(RUN_TRACES.name, 0)
TRACE = TraceRecord(
    tenant=TENANT, run_id="r", status=RunStatus.SUCCEEDED, event_count=1, chain_head=bytes(32), document="{}"
)


def test_valid_records_are_told_in_their_order() -> None:
    finalized = RunFinalized(tenant=TENANT, run_id="run-1", status=RunStatus.SUCCEEDED, finalized_at=NOW)
    records = [raw(run_event(event(1)), offset=4), raw(finalized, offset=5)]
    told = stream_reader(InForce(credentials()))(EVENTS, records)  # type: ignore[arg-type]
    assert [(each.kind, each.offset) for each in told] == [(Kind.TRACE_EVENT, 4), (Kind.RUN_FINALIZED, 5)]
    assert told[0].keys == (("run", TENANT, "run-1"), ("agent", TENANT, "plain-agent"))


@pytest.mark.parametrize(
    "forged",
    [
        Raw(key=b"run-1", value=b"\0\0\0\0\1no avro"),
        Raw(key=b"run-1", value=None),
        raw(run_event(event()), checked=False),  # unsigned, and the tenant takes none
        raw(run_event(signed(event(), secret="wrong")), checked=False),
        raw(run_event(event(), tenant="stranger"), checked=False),
        Raw(key=b"other", value=raw(run_event(event())).value, headers=raw(run_event(event())).headers),
        raw(
            EnvironmentCaptured(
                tenant=TENANT, run_id="run-1", environment="{}", environment_sha256=bytes(32), captured_at=NOW
            )
        ),
    ],
    ids=["poison", "empty", "unsigned", "wrong signature", "no tenant", "other key", "environment"],
)
def test_what_is_not_valid_or_no_event_is_passed_by(forged: Raw) -> None:
    good = raw(run_event(event(2)), offset=1)
    told = stream_reader(InForce(credentials()))(EVENTS, [forged, good])  # type: ignore[list-item]
    assert [each.seq for each in told] == [2]


def trace(key: bytes | None = None, *, tenant: bytes = b"demo", secret: str = MAC_SECRET) -> RawRecord:
    key = trace_key(TENANT, "r") if key is None else key
    value = CODEC.encode(TRACE)
    mac = record_mac(secret, topic=RUN_TRACES.name, key=key, tenant=tenant, value=value)
    return RawRecord(*TRACES, 0, 0, key, value, [(headers.TENANT, tenant), (headers.GATEWAY_MAC, mac)])


def test_a_trace_record_counts_if_it_is_sealed_under_its_own_key() -> None:
    unsealed = RawRecord(*TRACES, 0, 0, trace_key(TENANT, "r"), CODEC.encode(TRACE), ())
    empty = RawRecord(*TRACES, 0, 0, trace_key(TENANT, "r"), None, ())
    records = [unsealed, empty, trace(secret="wrong"), trace(b"demo/another"), trace()]
    told = stream_reader(InForce(credentials()))(TRACES, records)
    assert [(each.kind, each.keys) for each in told] == [(Kind.TRACE_RECORD, (("run", TENANT, "r"),))]


@pytest.mark.parametrize("secret", ["a-newer-secret", "forged-secret"])
def test_a_record_that_was_sealed_with_a_newer_secret_is_shown(secret: str) -> None:
    """The gateway may have read the file before this process does."""
    newer = msgspec.structs.replace(credentials(), gateway=Gateway(mac_secrets=["a-newer-secret", MAC_SECRET]))
    shown = 1 if secret == "a-newer-secret" else 0
    sealed = raw(run_event(), mac_secret=secret)
    assert len(stream_reader(InForce(credentials(), written=newer))(EVENTS, [sealed])) == shown  # type: ignore[list-item]
    assert len(stream_reader(InForce(credentials(), written=newer))(TRACES, [trace(secret=secret)])) == shown


def test_a_slice_of_forged_records_checks_the_file_once() -> None:
    in_force = InForce(credentials())
    assert not stream_reader(in_force)(EVENTS, [raw(run_event(), mac_secret="forged") for _ in range(100)])  # type: ignore[misc]
    assert in_force.file_checks == 1
