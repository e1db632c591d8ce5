"""The wire format: golden bytes, round trips, and what is refused."""

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.catalogue import CODEC
from schemas.documents.records import (
    BadChunk,
    ChangeDocumentJob,
    DeleteCollection,
    DeleteDocument,
    DocumentChanged,
    DocumentEmbedded,
    DocumentWork,
    Embedding,
    PutDocument,
    ReembedCollection,
    Source,
    Span,
)
from schemas.documents.states import DocumentAction, Lane, Phase
from schemas.errors import Poison, Reason
from schemas.events.records import Authenticated, UserEvent
from schemas.jobs.records import (
    ChangeJob,
    ChangeQueue,
    ChangeSchedule,
    JobChanged,
    JobOutput,
    JobProgress,
    StartOperation,
    SubmitJob,
)
from schemas.jobs.states import EndReason, JobAction, JobStatus, QueueAction, ScheduleAction
from schemas.kafka import registry
from schemas.kafka.codec import Codec, RecordType
from schemas.objects.references import PayloadRef
from schemas.pacing.breaker import BreakerState
from schemas.runs.codec import RUN_CODEC
from schemas.runs.records import (
    EndpointState,
    EnvironmentCaptured,
    Record,
    RunEvent,
    RunFinalized,
    RunStatus,
    TraceRecord,
)
from tests.support.builders import run_event

AT = datetime(2025, 12, 5, 10, 0, tzinfo=UTC)
AT_MS = 1_764_928_800_000
DIGEST = bytes(range(32))

# Written by hand from the Avro specification: what these bytes mean must never change.
GOLDEN: list[tuple[msgspec.Struct, str]] = [
    (
        RunEvent(
            tenant="demo", run_id="r", seq=1, t="2025-12-05T10:00:00Z", actor="agent", type="error", agent_id="7",
            idempotency_key="k", payload="{}", meta="{}", event_sha256=DIGEST,
        ),
        "00" "00000001"
        "08" + b"demo".hex() + "02" + b"r".hex() + "02" "28" + b"2025-12-05T10:00:00Z".hex() + "0a" + b"agent".hex()
        + "0a" + b"error".hex() + "02" + b"7".hex() + "02" "02" + b"k".hex() + "02" "04" + b"{}".hex() + "00"
        "04" + b"{}".hex() + DIGEST.hex(),
    ),
    (
        EnvironmentCaptured(tenant="demo", run_id="r", environment="{}", environment_sha256=DIGEST, captured_at=AT),
        "00" "00000002" "08" + b"demo".hex() + "02" + b"r".hex() + "04" + b"{}".hex() + DIGEST.hex() + "8094a2dfdd66",
    ),
    (
        RunFinalized(tenant="demo", run_id="r", status=RunStatus.FAILED, event_count=3, finalized_at=AT),
        "00" "00000003" "08" + b"demo".hex() + "02" + b"r".hex() + "02" "02" "06" "8094a2dfdd66",
    ),
    (
        TraceRecord(
            tenant="demo", run_id="r", status=RunStatus.SUCCEEDED, event_count=3, chain_head=DIGEST, document="{}"
        ),
        "00" "00000004" "08" + b"demo".hex() + "02" + b"r".hex() + "00" "06" + DIGEST.hex() + "04" + b"{}".hex(),
    ),
    (
        EndpointState(
            endpoint="e", tenant="demo", types=["*"], breaker=BreakerState.OPEN, reason="r", since=AT,
            first_offsets=[0, 3],
        ),
        "00" "00000006" "02" + b"e".hex() + "02" "08" + b"demo".hex() + "02" "02" + b"*".hex() + "00" "02"
        "02" "02" + b"r".hex() + "8094a2dfdd66" "02" "04" "00" "06" "00",
    ),
    (
        UserEvent(
            tenant="demo", event_id="e", source="api", user_id="u", type="a", payload="{}",
            authenticated=Authenticated.KEY, user_verified=True, submitted_by="k", event_sha256=DIGEST,
        ),
        "00" "00000007" "08" + b"demo".hex() + "02" + b"e".hex() + "06" + b"api".hex() + "02" "02" + b"u".hex()
        + "00" "00" "00" "00" "02" + b"a".hex() + "00" "00" "04" + b"{}".hex() + "00" "02" "01"
        "02" "02" + b"k".hex() + "00" + DIGEST.hex(),
    ),
    (
        SubmitJob(
            tenant="demo", job_id="j", type="echo", queue="q", priority=5, parameters="{}", run_at_ms=AT_MS,
            dedupe_key="d", max_attempts=3, timeout_s=0.5, tags=("t",), submitted_by="k", content_sha256=DIGEST,
        ),
        "00" "00000008" "08" + b"demo".hex() + "02" + b"j".hex() + "08" + b"echo".hex() + "02" + b"q".hex()
        + "0a" "04" + b"{}".hex() + "02" "8094a2dfdd66" "00" "02" "02" + b"d".hex() + "06" "02" "000000000000e03f"
        "02" "02" + b"t".hex() + "00" "00" "00" "02" "02" + b"k".hex() + "00" + DIGEST.hex(),
    ),
    (
        ChangeJob(tenant="demo", job_id="j", command_id="c", action=JobAction.REPRIORITISE, priority=10, by="k"),
        "00" "00000009" "08" + b"demo".hex() + "02" + b"j".hex() + "02" + b"c".hex() + "04" "02" "14" "02" + b"k".hex(),
    ),
    (
        ChangeQueue(
            tenant="demo", queue="q", command_id="c", action=QueueAction.CONFIGURE, max_running=1, step_s=0.5, by="k"
        ),
        "00" "0000000a" "08" + b"demo".hex() + "02" + b"q".hex() + "02" + b"c".hex() + "04" "00" "00" "02" "02" "00"
        "02" "000000000000e03f" "02" + b"k".hex(),
    ),
    (
        ChangeSchedule(tenant="demo", schedule_id="s", command_id="c", action=ScheduleAction.RUN, by="k"),
        "00" "0000000b" "08" + b"demo".hex() + "02" + b"s".hex() + "02" + b"c".hex() + "08" "00" "02" + b"k".hex(),
    ),
    (
        StartOperation(tenant="demo", operation_id="o", action=JobAction.CANCEL, filter="{}", by="k"),
        "00" "0000000c" "08" + b"demo".hex() + "02" + b"o".hex() + "00" "00" "04" + b"{}".hex() + "02" + b"k".hex(),
    ),
    (
        JobChanged(
            tenant="demo", job_id="j", version=2, type="echo", queue="q", status=JobStatus.FAILED,
            reason=EndReason.ERROR, priority=5, attempts=1, error="e", at_ms=AT_MS,
        ),
        "00" "0000000d" "08" + b"demo".hex() + "02" + b"j".hex() + "04" "08" + b"echo".hex() + "02" + b"q".hex()
        + "06" "02" "0a" + b"error".hex() + "0a" "02" "00" "02" "02" + b"e".hex() + "8094a2dfdd66",
    ),
    (
        JobProgress(tenant="demo", job_id="j", attempt_id="a", fraction=0.5, message="m", at_ms=AT_MS),
        "00" "0000000e" "08" + b"demo".hex() + "02" + b"j".hex() + "02" + b"a".hex() + "02" "000000000000e03f"
        "02" "02" + b"m".hex() + "8094a2dfdd66",
    ),
    (
        JobOutput(tenant="demo", job_id="j", attempt_id="a", text="t", at_ms=AT_MS),
        "00" "0000000f" "08" + b"demo".hex() + "02" + b"j".hex() + "02" + b"a".hex() + "02" + b"t".hex()
        + "8094a2dfdd66",
    ),
    (
        PutDocument(
            tenant="demo", collection="b", document="1", job_id="j",
            source=Source(content_type="c", filename="f", content=b"\x01\x02"), is_markdown=True, priority=5,
            max_retries=3, metadata="{}", expected_revision=-1, submitted_by="k", content_sha256=DIGEST,
        ),
        "00" "00000010" "08" + b"demo".hex() + "02" + b"b".hex() + "02" + b"1".hex() + "02" + b"j".hex() + "00" "00"
        "02" "02" + b"c".hex() + "02" "02" + b"f".hex() + "02" "04" "0102" "00" "01" "0a" "06" "00"
        "02" "04" + b"{}".hex() + "02" "01" "00" "02" "02" + b"k".hex() + DIGEST.hex(),
    ),
    (
        DeleteDocument(tenant="demo", collection="b", document="1", job_id="j", expected_revision=7),
        "00" "00000011" "08" + b"demo".hex() + "02" + b"b".hex() + "02" + b"1".hex() + "02" + b"j".hex()
        + "02" "0e" "00",
    ),
    (
        DeleteCollection(tenant="demo", collection="b", share=2, command_id="c", by="k"),
        "00" "00000012" "08" + b"demo".hex() + "02" + b"b".hex() + "04" "02" + b"c".hex() + "02" + b"k".hex(),
    ),
    (
        ChangeDocumentJob(
            tenant="demo", collection="b", document="1", job_id="j", command_id="c", action=DocumentAction.RETRY,
            by="k",
        ),
        "00" "00000013" "08" + b"demo".hex() + "02" + b"b".hex() + "02" + b"1".hex() + "02" + b"j".hex()
        + "02" + b"c".hex() + "02" "02" + b"k".hex(),
    ),
    (
        ReembedCollection(tenant="demo", collection="b", command_id="c", embedder="e", skips_failed=True, by="k"),
        "00" "00000014" "08" + b"demo".hex() + "02" + b"b".hex() + "02" + b"c".hex() + "02" + b"e".hex()
        + "01" "02" + b"k".hex(),
    ),
    (
        DocumentWork(
            tenant="demo", collection="b", document="1", job_id="j", revision=7, generation=1, lane=Lane.LOW,
            cost=300, embedders=("e", "f"),
        ),
        "00" "00000015" "08" + b"demo".hex() + "02" + b"b".hex() + "02" + b"1".hex() + "02" + b"j".hex()
        + "0e" "02" "04" "d804" "04" "02" + b"e".hex() + "02" + b"f".hex() + "00",
    ),
    (
        DocumentEmbedded(
            tenant="demo", collection="b", document="1", job_id="j", revision=7, generation=1, text_sha256=DIGEST,
            embeddings=(
                Embedding(
                    embedder="e", chunker="c", dimensions=1,
                    chunks=(Span(start=0, end=3), Span(start=2, end=5, heading="h")), vectors=b"\x00\x3c\x00\xbc",
                    missing=(BadChunk(chunk=2, start=5, end=6, reason="r"),),
                ),
            ),
        ),
        "00" "00000016" "08" + b"demo".hex() + "02" + b"b".hex() + "02" + b"1".hex() + "02" + b"j".hex()
        + "0e" "02" "40" + DIGEST.hex() + "02" "02" + b"e".hex() + "02" + b"c".hex() + "02"
        "04" "00" "06" "00" "04" "0a" "02" "02" + b"h".hex() + "00" "08" "003c00bc"
        "02" "04" "0a" "0c" "02" + b"r".hex() + "00" "00",
    ),
    (
        DocumentChanged(
            tenant="demo", collection="b", document="1", job_id="j", version=2, revision=7, phase=Phase.FAILED,
            chunks_embedded=1, chunks=3, error="e", at_ms=AT_MS,
        ),
        "00" "00000017" "08" + b"demo".hex() + "02" + b"b".hex() + "02" + b"1".hex() + "02" + b"j".hex()
        + "04" "0e" "08" "02" "02" "02" "06" "02" "02" + b"e".hex() + "8094a2dfdd66",
    ),
]  # fmt: skip

# As GOLDEN, of versions that are not written any more.
OLD: list[tuple[Record, str]] = [
    (
        EndpointState(endpoint="e", types=["*"], breaker=BreakerState.CLOSED, since=AT, first_offsets=None),
        "00" "00000005" "02" + b"e".hex() + "00" "02" "02" + b"*".hex() + "00" "00" "00" "8094a2dfdd66",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("record", "golden"), GOLDEN, ids=lambda value: type(value).__name__)
def test_a_record_has_its_golden_bytes(record: Any, golden: str) -> None:
    assert CODEC.encode(record).hex() == golden
    assert CODEC.decode(bytes.fromhex(golden)) == record


@pytest.mark.parametrize(("record", "golden"), OLD, ids=lambda value: type(value).__name__)
def test_a_record_of_an_old_version_is_read(record: Record, golden: str) -> None:
    assert CODEC.decode(bytes.fromhex(golden)) == record


def test_each_released_version_has_golden_bytes() -> None:
    assert sorted(int(golden[2:10], 16) for _, golden in GOLDEN + OLD) == [entry.id for entry in registry.released()]


def test_a_reference_to_a_large_payload_survives() -> None:
    record = run_event(payload=None, payload_ref=PayloadRef(key="demo/r/ab", size_bytes=200_000, sha256=DIGEST))
    assert CODEC.decode(CODEC.encode(record)) == record


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, Reason.UNDECODABLE),
        (b"", Reason.UNDECODABLE),
        (b"\x00\x00\x00\x00", Reason.UNDECODABLE),
        (b"\x01" + CODEC.encode(run_event())[1:], Reason.UNDECODABLE),
        (b"\x00\x00\x00\x00\x63" + CODEC.encode(run_event())[5:], Reason.UNKNOWN_SCHEMA),
        (CODEC.encode(run_event())[:-1], Reason.UNDECODABLE),
        (CODEC.encode(run_event()) + b"\x00", Reason.UNDECODABLE),
        (b"\x00\x00\x00\x00\x01" + b"\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01" * 9, Reason.UNDECODABLE),
    ],
    ids=["null", "empty", "short", "magic", "schema id", "cut", "trailing", "absurd length"],
)
def test_what_is_no_record_is_poison_and_says_why(value: bytes | None, reason: Reason) -> None:
    with pytest.raises(Poison) as caught:
        CODEC.decode(value)
    assert caught.value.reason is reason
    assert caught.value.detail


def test_a_record_of_another_topic_is_not_read() -> None:
    """Each codec knows the types that it was given, whatever their fields are called."""
    trace = next(record for record, _ in GOLDEN if isinstance(record, TraceRecord))
    with pytest.raises(Poison, match=r"is a tidegate\.runs\.TraceRecord") as caught:
        RUN_CODEC.decode(CODEC.encode(trace))
    assert caught.value.reason is Reason.UNKNOWN_SCHEMA


def test_a_field_is_converted_by_what_its_type_declares() -> None:
    """Regression: any record with a field `status` was decoded as one with the status of a run."""
    plain = Codec((RecordType(name="tidegate.runs.TraceRecord", cls=TraceRecord),))
    trace = next(record for record, _ in GOLDEN if isinstance(record, TraceRecord))
    assert type(plain.decode(CODEC.encode(trace)).status) is str


@given(st.binary(max_size=300))
def test_random_bodies_are_records_or_poison(body: bytes) -> None:
    for schema_id in (1, 2, 3, 4):
        try:
            CODEC.decode(b"\x00" + schema_id.to_bytes(4, "big") + body)
        except Poison:
            continue


def test_every_schema_is_the_one_last_released() -> None:
    """A changed .avsc needs a new entry in registry.json; released ones never change."""
    released = {name: entry.schema for name, entry in registry.last_released().items()}
    assert registry.working() == released


def test_ids_are_unique_and_versions_grow_by_one() -> None:
    entries = registry.released()
    assert [entry.id for entry in entries] == sorted({entry.id for entry in entries})
    for subject in {entry.subject for entry in entries}:
        versions = [entry.version for entry in entries if entry.subject == subject]
        assert versions == list(range(1, len(versions) + 1))


def test_every_field_is_documented() -> None:
    for name, schema in registry.working().items():
        assert schema["doc"]
        assert all(field["doc"] for field in schema["fields"]), name  # type: ignore[attr-defined]
