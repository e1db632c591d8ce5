"""Records as sinks show them."""

import json
from datetime import UTC, datetime

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from processors.runtime.contract import Arrival
from processors.sinks.documents import SourceRecord, is_wanted, sink_record
from schemas.kafka import headers
from schemas.runs.records import EnvironmentCaptured, RunFinalized, RunRecord, RunStatus
from tests.support.builders import Raw, run_event
from tests.support.sinks import arrival

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def run_arrival(record: RunRecord) -> Arrival[SourceRecord]:
    return Arrival(Raw(offset=7, key=b"run-1"), {headers.RECEIVED_AT: AT.isoformat().encode()}, record, None)  # type: ignore[arg-type]


def test_a_user_event_has_its_fields_and_not_those_that_are_missing() -> None:
    record = sink_record(arrival(12, payload={"total": 3}, name="Order Completed"))
    event = record.event
    assert (event["place"], event["event_id"], event["type"]) == ("user.events/0/12", "e-12", "order_completed")
    assert (event["name"], event["payload"], event["authenticated"]) == ("Order Completed", {"total": 3}, "key")
    assert event["id"].startswith("uev_")
    assert not {"run_id", "context", "occurred_at", "session_id"} & set(event)
    assert (record.payload, record.key) == ('{"total": 3}', b"demo/u-1")


def test_a_payload_stays_the_text_that_was_sent() -> None:
    changed = arrival(0)
    text = '{"big": 9007199254740993, "e": 1e400, "s": "a\\u0000\\n"}'
    record = sink_record(Arrival(changed.raw, {}, _with(changed.record, text), None))
    assert f'"payload":{text}'.encode() in record.json
    assert record.event["payload"]["big"] == 9007199254740993


def _with(record: SourceRecord, payload: str) -> SourceRecord:
    return msgspec.structs.replace(record, payload=payload)


@given(
    st.recursive(
        st.none() | st.text() | st.integers(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_an_event_is_one_line_that_says_what_was_sent(payload: object) -> None:
    """JSON may have line breaks between its tokens, and a line of a file must not."""
    given_ = arrival(0)
    text = json.dumps(payload, indent=1).replace("\n", "\r\n")
    record = sink_record(Arrival(given_.raw, {}, _with(given_.record, text), None))
    assert not {b"\n"[0], b"\r"[0]} & set(record.json)
    assert record.event["payload"] == payload


def test_the_records_of_a_run_are_shown_as_they_are_pushed() -> None:
    end = RunFinalized(tenant="demo", run_id="run-1", status=RunStatus.SUCCEEDED, event_count=1, finalized_at=AT)
    environment = EnvironmentCaptured(
        tenant="demo", run_id="run-1", environment='{"os": "linux"}', environment_sha256=b"", captured_at=AT
    )
    shown = [sink_record(run_arrival(record)).event for record in (run_event(), end, environment)]
    assert [each["type"] for each in shown] == ["reasoning", "run_finalized", "environment_captured"]
    assert [each["data"].get("seq") for each in shown] == [1, None, None]
    assert shown[2]["data"] == {"os": "linux"}
    assert {(each["run_id"], each["place"], each["received_at"]) for each in shown} == {
        ("run-1", "run.events/0/7", "2026-01-02T03:04:05Z")
    }
    assert len({each["id"] for each in shown}) == 3


def test_a_sink_is_sent_its_tenant_and_its_types() -> None:
    record = arrival(0, type="order.paid").record
    assert is_wanted(record, tenant=None, types=("*",))
    assert is_wanted(record, tenant="demo", types=("page", "order.*"))
    assert not is_wanted(record, tenant="other", types=("*",))
    assert not is_wanted(record, tenant="demo", types=("page",))
