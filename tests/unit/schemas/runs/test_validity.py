"""What makes events and records valid."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from gateway.runs.parsing.bodies import parse_event
from schemas.catalogue import CODEC
from schemas.errors import Invalid, Poison, Reason, Rejection
from schemas.runs.records import EnvironmentCaptured, Record, RunEvent, RunFinalized, RunStatus
from schemas.runs.rules import ENVIRONMENT_BYTES_MAX, EVENT_BYTES_MAX, event_faults, size_faults
from schemas.runs.validity import check_record
from tests.support.builders import Raw, credentials, event, raw, run_event, signed


def judge(record: Record, *, given: Raw | None = None, unsigned: bool = False) -> Rejection | None:
    source = given or raw(record, checked=False)
    return check_record(
        record,  # type: ignore[arg-type]
        topic=source.topic,
        key=source.key,
        value=source.value or b"",
        headers=source.headers,
        credentials=credentials(allow_unsigned_direct=unsigned),
    )


def test_a_valid_event_has_no_fault() -> None:
    assert event_faults(event(meta={"idempotency_key": "k", "agent_id": 123, "extra": [1]}), run_id="run-1") == []


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"seq": 0}, "/seq"), ({"seq": True}, "/seq"), ({"seq": 1.0}, "/seq"), ({"seq": 2**63}, "/seq"),
        ({"t": "2025-12-05T10:00:00"}, "/t"), ({"t": "2025-13-05T10:00:00Z"}, "/t"), ({"t": 5}, "/t"),
        ({"t": "2025-12-05T10:00:00+23:00"}, "/t"), ({"t": "2025-12-05"}, "/t"),
        ({"t": "9999-12-31T23:59:59-00:01"}, "/t"), ({"t": "0001-01-01T00:00:00+00:01"}, "/t"),
        ({"actor": "Agent"}, "/actor"), ({"actor": "a" * 65}, "/actor"), ({"actor": ""}, "/actor"),
        ({"type": "a..b"}, "/type"), ({"type": "a" * 129}, "/type"), ({"type": "tool call"}, "/type"),
        ({"type": "error\n"}, "/type"),
        ({"other": 1}, "/other"), ({"a/b": 1}, "/a~1b"), ({"meta": None}, "/meta"),
    ],
)  # fmt: skip
def test_a_field_that_breaks_its_rule_is_named(changes: dict[str, Any], pointer: str) -> None:
    given = event() | changes
    assert [fault.pointer for fault in event_faults(given, run_id="run-1")] == [pointer]


@pytest.mark.parametrize("t", ["9999-12-31T23:59:59.999999999Z", "0001-01-01T00:00:00-14:00", "0001-01-01t00:00:00z"])
def test_the_first_and_the_last_moment_of_utc_are_taken(t: str) -> None:
    assert event_faults(event(t=t), run_id="run-1") == []


@pytest.mark.parametrize(
    ("meta", "pointer"),
    [
        ({"run_id": "run-2"}, "/meta/run_id"),
        ({"agent_id": "a b"}, "/meta/agent_id"), ({"agent_id": ".."}, "/meta/agent_id"),
        ({"agent_id": True}, "/meta/agent_id"), ({"agent_id": 1.5}, "/meta/agent_id"),
        ({"idempotency_key": ""}, "/meta/idempotency_key"), ({"idempotency_key": "é"}, "/meta/idempotency_key"),
        ({"idempotency_key": None}, "/meta/idempotency_key"), ({"signature": 5}, "/meta/signature"),
    ],
)  # fmt: skip
def test_a_part_of_meta_that_breaks_its_rule_is_named(meta: dict[str, Any], pointer: str) -> None:
    assert [fault.pointer for fault in event_faults(event(meta=meta), run_id="run-1")] == [pointer]


def test_every_fault_is_listed() -> None:
    faults = event_faults({"seq": -1, "x": 1, "meta": {}}, run_id="run-1")
    assert {fault.pointer for fault in faults} >= {
        "/seq", "/x", "/t", "/actor", "/type", "/payload", "/meta/run_id", "/meta/agent_id",
    }  # fmt: skip


def test_sizes_are_bounded() -> None:
    assert [fault.pointer for fault in size_faults(payload="1", meta="ü" * 33_000)] == ["/meta"]
    for payload in ("1" * (EVENT_BYTES_MAX + 1), "ü" * (EVENT_BYTES_MAX // 2 + 1)):
        assert [fault.pointer for fault in size_faults(payload=payload, meta="{}")] == ["/payload"]
    assert size_faults(payload="ü" * (EVENT_BYTES_MAX // 2), meta="{}") == []


def test_a_record_that_a_gateway_checked_is_valid() -> None:
    record = run_event()
    assert judge(record, given=raw(record)) is None


def test_a_mac_for_other_bytes_counts_for_nothing() -> None:
    record = run_event()
    forged = raw(record)
    forged.value = CODEC.encode(run_event(payload='"forged"'))
    assert judge(record, given=forged) is not None


def test_the_key_must_be_the_run() -> None:
    record = run_event()
    given = raw(record)
    given.key = b"run-2"
    assert judge(record, given=given) == Rejection(
        reason=Reason.KEY_MISMATCH, detail="the record's key is not its run_id"
    )


@pytest.mark.parametrize("field", ["payload", "meta", "t", "type", "tenant", "agent_id", "idempotency_key"])
def test_a_nul_is_poison(field: str) -> None:
    with pytest.raises(Poison) as caught:
        judge(run_event(**{field: "a\0b"}))
    assert caught.value.reason is Reason.NUL_CHARACTER


def test_an_escaped_nul_of_a_direct_record_is_poison() -> None:
    with pytest.raises(Poison) as caught:
        judge(run_event(payload='"\\u0000"'))
    assert caught.value.reason is Reason.NUL_CHARACTER


def test_a_signed_direct_record_is_valid() -> None:
    assert judge(run_event(signed(event()))) is None


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (run_event(signed(event()), tenant="other"), Reason.UNKNOWN_TENANT),
        (run_event(event(meta={"agent_id": "nobody"})), Reason.UNKNOWN_AGENT),
        (run_event(signed(event(), secret="wrong")), Reason.SIGNATURE_INVALID),
        (run_event(event(meta={"agent_id": "demo-agent"})), Reason.SIGNATURE_INVALID),
        (run_event(signed(event(), agent_id="plain-agent")), Reason.SIGNATURE_INVALID),
        (run_event(), Reason.UNSIGNED_DIRECT),
        (run_event(event_sha256=bytes(32)), Reason.DIGEST_MISMATCH),
        (run_event(payload="{"), Reason.INVALID_EVENT),
        (run_event(payload='{"a": 1, "a": 2}'), Reason.INVALID_EVENT),
        (run_event(payload=None), Reason.INVALID_EVENT),
        (run_event(agent_id="demo-agent"), Reason.INVALID_EVENT),
        (run_event(idempotency_key="other"), Reason.INVALID_EVENT),
        (run_event(event(0)), Reason.INVALID_EVENT),
        (run_event(event(run_id="a b")), Reason.INVALID_EVENT),
        (run_event(event(meta={"x": "y" * 65_536})), Reason.INVALID_EVENT),
    ],
)  # fmt: skip
def test_a_direct_record_that_breaks_a_rule_is_rejected(record: RunEvent, reason: Reason) -> None:
    rejection = judge(record)
    assert rejection is not None
    assert rejection.reason is reason


def test_a_tenant_may_take_unsigned_direct_records() -> None:
    assert judge(run_event(), unsigned=True) is None


def test_a_direct_environment_needs_that_too() -> None:
    def captured(text: str) -> EnvironmentCaptured:
        return EnvironmentCaptured(
            tenant="demo", run_id="run-1", environment=text, environment_sha256=bytes(32), captured_at=datetime.now(UTC)
        )

    rejection = judge(captured("{}"))
    assert rejection is not None
    assert rejection.reason is Reason.UNSIGNED_DIRECT
    assert judge(captured("{}"), unsigned=True) is None
    assert judge(captured("[]"), unsigned=True) is not None
    longest = "ü" * ((ENVIRONMENT_BYTES_MAX - len('{"a":""}')) // 2)
    assert judge(captured(f'{{"a":"{longest}"}}'), unsigned=True) is None
    assert judge(captured(f'{{"a":"{longest}ü"}}'), unsigned=True) is not None


def nested(depth: int) -> object:
    value: object = 1
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(("depth", "is_valid"), [(63, True), (64, False)])
@pytest.mark.parametrize("part", ["payload", "meta"])
def test_a_direct_event_nests_as_deep_as_one_sent_over_http(part: str, depth: int, *, is_valid: bool) -> None:
    """The event is 64 deep, and its payload lies within it: verify reads both on one line."""
    within = nested(depth) if part == "payload" else {"agent_id": "plain-agent", "more": nested(depth - 1)}
    rejection = judge(run_event(event(**{part: within})), unsigned=True)
    assert (rejection is None) == is_valid
    assert rejection is None or f"/{part}/" in rejection.detail
    body = json.dumps(event(**{part: within})).encode()
    if is_valid:
        parse_event(body, run_id="run-1")
    else:
        with pytest.raises(Invalid, match="nested deeper than 64"):
            parse_event(body, run_id="run-1")


@pytest.mark.parametrize(("count", "is_valid"), [(None, True), (0, True), (2**63 - 1, True), (-1, False)])
def test_a_direct_end_of_a_run_declares_no_fewer_than_no_events(count: int | None, *, is_valid: bool) -> None:
    record = RunFinalized(
        tenant="demo", run_id="run-1", status=RunStatus.FAILED, event_count=count, finalized_at=datetime.now(UTC)
    )
    assert (judge(record, unsigned=True) is None) == is_valid
