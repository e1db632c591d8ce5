from datetime import UTC, datetime

import msgspec

from schemas.objects.references import PayloadRef
from schemas.runs.pushed import event_document, finalized_document
from schemas.runs.records import RunFinalized, RunStatus
from tests.support.builders import event, run_event


def test_payload_and_meta_are_the_texts_that_were_sent() -> None:
    """A number keeps its digits, whatever a double would make of it."""
    record = run_event(event(), payload='{"n": 0.10000000000000000001}', meta='{"run_id":"run-1", "x":1.0}')
    text = msgspec.json.encode(event_document(record)).decode()
    assert '"payload":{"n": 0.10000000000000000001}' in text
    assert '"meta":{"run_id":"run-1", "x":1.0}' in text
    assert '"payload_ref":null' in text


def test_a_payload_in_object_storage_is_shown_by_its_reference() -> None:
    reference = PayloadRef(key="demo/run-1/ab", size_bytes=200_000, sha256=bytes(32))
    shown = msgspec.json.decode(
        msgspec.json.encode(event_document(run_event(event(), payload=None, payload_ref=reference)))
    )
    assert shown["payload"] is None
    assert shown["payload_ref"] == {"key": "demo/run-1/ab", "size_bytes": 200_000, "sha256": "00" * 32}


def test_the_end_of_a_run_bears_its_time_in_utc() -> None:
    record = RunFinalized(
        tenant="demo", run_id="run-1", status=RunStatus.FAILED, finalized_at=datetime(2026, 1, 2, tzinfo=UTC)
    )
    assert msgspec.to_builtins(finalized_document(record)) == {
        "run_id": "run-1",
        "status": "failed",
        "event_count": None,
        "finalized_at": "2026-01-02T00:00:00Z",
    }
