"""What tail says of a record: decoded, verified, or why not."""

import json
from datetime import UTC, datetime

import pytest

from deploy.log.reading import Edge, Raw, Start, parse_start
from deploy.log.showing import show
from schemas.access.credentials import Credentials, Gateway
from schemas.catalogue import CODEC
from schemas.documents.records import DocumentEmbedded, Embedding, PutDocument, Span
from schemas.events.records import UserEvent
from schemas.jobs.records import ChangeJob, JobChanged
from schemas.jobs.states import JobAction, JobStatus
from schemas.kafka import headers
from schemas.kafka.seal import record_mac
from schemas.objects.references import reference_to, to_json
from schemas.runs.records import RunFinalized, RunStatus
from tests.support import builders
from tests.support.fakes import InForce

SECRET = "gateway's own"
CREDENTIALS = InForce(Credentials(gateway=Gateway(mac_secrets=[SECRET])))
RECORD = RunFinalized(
    tenant="demo", run_id="r-1", status=RunStatus.SUCCEEDED, finalized_at=datetime(2025, 12, 5, tzinfo=UTC)
)
VALUE = CODEC.encode(RECORD)
MAC = record_mac(SECRET, topic="run.events", key=b"r-1", tenant=b"demo", value=VALUE)


def raw(value: bytes | None = VALUE, *, topic: str = "run.events", **more: bytes) -> Raw:
    bare = [(name.replace("_", "-"), text) for name, text in more.items()]
    return Raw(topic=topic, partition=3, offset=42, timestamp_ms=0, key=b"r-1", value=value, headers=list(bare))


def test_a_record_with_our_mac_is_verified() -> None:
    shown = show(raw(tenant=b"demo", gateway_mac=MAC), CREDENTIALS)
    assert (shown.verified, shown.problem, shown.wal_id) == (True, None, "run.events/3/42")
    assert "r-1 RunFinalized" in shown.line()


def test_a_record_without_proof_is_not() -> None:
    shown = show(raw(), CREDENTIALS)
    assert shown.verified is False
    assert "unknown_tenant" in shown.line()


def test_a_dead_letter_is_verified_against_the_topic_it_comes_from() -> None:
    dead = raw(topic="run.events.persistence.dlq", tenant=b"demo", gateway_mac=MAC, original_topic=b"run.events")
    assert headers.ORIGINAL_TOPIC == "original-topic"
    assert show(dead, CREDENTIALS).verified is True


def test_a_user_event_is_verified_as_a_gateway_sealed_it_or_as_its_tenant_takes_direct_ones() -> None:
    def line(event: UserEvent, *, checked: bool) -> str:
        found = builders.raw_user_event(event, checked=checked)
        given = Raw(
            topic=found.topic,
            partition=3,
            offset=42,
            timestamp_ms=0,
            key=found.key,
            value=found.value,
            headers=list(found.headers),
        )
        return show(given, InForce(builders.credentials())).line()

    sealed = line(builders.user_event("e-1", user_id="u-1", type="click", payload=[1]), checked=True)
    assert sealed == "user.events/3/42       verified  u-1 e-1 click [1]"
    direct = line(builders.user_event("e-1"), checked=False)
    assert "INVALID" in direct
    assert "unsigned_direct" in direct


def test_nothing_is_claimed_without_credentials() -> None:
    assert show(raw(tenant=b"demo", gateway_mac=MAC), None).verified is None


@pytest.mark.parametrize(
    ("value", "reason"), [(b"\1\2\3\4\5\6", "undecodable"), (b"\0\0\0\xff\xff\0", "unknown_schema")]
)
def test_an_undecodable_record_is_shown_with_its_reason_and_first_bytes(value: bytes, reason: str) -> None:
    shown = show(raw(value), CREDENTIALS)
    assert value.hex(" ") in shown.line()
    assert reason in shown.line()
    assert shown.document()["hex_head"] == value.hex()


def test_nothing_in_a_record_steers_the_terminal() -> None:
    steering = RunFinalized(
        tenant="demo", run_id="r\x1b[2J\n", status=RunStatus.SUCCEEDED, finalized_at=RECORD.finalized_at
    )
    assert "r\\u001b[2J\\u000a RunFinalized" in show(raw(CODEC.encode(steering)), CREDENTIALS).line()


def test_a_record_as_json_has_readable_fields() -> None:
    document = show(raw(tenant=b"demo", gateway_mac=MAC), CREDENTIALS).document()
    assert document["record"] == {
        "name": "RunFinalized",
        "tenant": "demo",
        "run_id": "r-1",
        "status": "succeeded",
        "event_count": None,
        "finalized_at": "2025-12-05T00:00:00Z",
    }
    assert document["headers"] == {"tenant": "demo", "gateway-mac": MAC.decode()}


def test_a_payload_in_object_storage_is_shown_by_its_reference() -> None:
    reference = reference_to(b"[1.00]", tenant="demo", run_id="r-1")
    shown = show(raw(CODEC.encode(builders.run_event(payload=None, payload_ref=reference))), None)
    assert to_json(reference) in shown.line()
    assert json.loads(json.dumps(shown.document()))["record"]["payload_ref"] == json.loads(to_json(reference))


@pytest.mark.parametrize(
    ("text", "start"),
    [
        ("beginning", Edge.BEGINNING),
        ("end", Edge.END),
        ("17", 17),
        ("2025-12-05T10:00:00Z", datetime(2025, 12, 5, 10, tzinfo=UTC)),
    ],
)
def test_from_takes_an_edge_an_offset_or_a_time(text: str, start: Start) -> None:
    assert parse_start(text) == start


@pytest.mark.parametrize("text", ["middle", "-1", "2025-12-05T10:00:00"])
def test_from_takes_nothing_else(text: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        parse_start(text)


def test_a_record_of_a_job_is_verified_if_one_of_our_processes_wrote_it() -> None:
    record = JobChanged(
        tenant="demo",
        job_id="0192f3a0-0000-7000-8000-000000000001",
        version=2,
        type="echo",
        queue="default",
        status=JobStatus.RUNNING,
        priority=5,
        attempts=0,
        at_ms=0,
    )
    value = CODEC.encode(record)
    mac = record_mac(SECRET, topic="jobs.events", key=b"r-1", tenant=b"demo", value=value)
    shown = show(raw(value, topic="jobs.events", tenant=b"demo", gateway_mac=mac), CREDENTIALS)
    assert shown.verified is True
    assert f"{record.job_id} JobChanged" in shown.line()
    assert "no process of ours wrote it" in (show(raw(value, topic="jobs.events"), CREDENTIALS).problem or "")


def test_a_command_is_verified_as_intake_does_it() -> None:
    command = ChangeJob(tenant="demo", job_id="x", command_id="y", action=JobAction.CANCEL, by="who")
    shown = show(raw(CODEC.encode(command), topic="jobs.commands"), CREDENTIALS)
    assert shown.verified is False
    assert "key_mismatch" in (shown.problem or "")


def test_a_text_is_shown_under_its_job_and_a_direct_one_is_judged() -> None:
    put = PutDocument(
        tenant="demo", collection="emma", document="7", job_id="j-1", text="high water", priority=5, max_retries=3,
        content_sha256=bytes(32),
    )  # fmt: skip
    shown = show(raw(CODEC.encode(put), topic="document.commands"), CREDENTIALS)
    assert (shown.verified, (shown.problem or "").partition(":")[0]) == (False, "key_mismatch")
    assert "j-1 PutDocument" in shown.line()


def test_vectors_are_shown_by_their_size() -> None:
    embedded = DocumentEmbedded(
        tenant="demo", collection="emma", document="7", job_id="j-1", revision=1, generation=1, text_sha256=bytes(32),
        embeddings=(
            Embedding(
                embedder="e", chunker="c", dimensions=384, chunks=(Span(start=0, end=9),), vectors=bytes(768)
            ),
        ),
    )  # fmt: skip
    shown = show(raw(CODEC.encode(embedded), topic="document.embedded", tenant=b"demo"), None)
    record = shown.document()["record"]
    assert isinstance(record, dict)
    assert (record["text_sha256"], record["embeddings"][0]["vectors"]) == ("00" * 32, "768 bytes")
    assert show(raw(CODEC.encode(embedded), topic="document.embedded"), CREDENTIALS).verified is False
