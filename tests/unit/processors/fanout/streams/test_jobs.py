"""Streams of jobs: what a message says, what is sent once, and whose records count."""

import json

import pytest

from processors.fanout.messages import Kind
from processors.fanout.reading import stream_reader
from processors.fanout.streams.jobs import JobSelection, JobStreamRecord
from processors.fanout.streams.table import SOURCES, STREAMS
from processors.runtime.batch import RawRecord
from schemas.catalogue import CODEC
from schemas.jobs.records import JobChanged, JobOutput, JobProgress
from schemas.jobs.states import EndReason, JobStatus
from schemas.jobs.topics import JOB_EVENTS, JOB_REPORTS
from schemas.kafka import headers
from schemas.kafka.places import Partition
from schemas.kafka.seal import record_mac
from tests.simulation.streams import JobWorld, job_changed, play, unframed
from tests.support.builders import MAC_SECRET, TENANT, credentials
from tests.support.fakes import InForce

EVENTS, REPORTS = Partition(JOB_EVENTS.name, 3), Partition(JOB_REPORTS.name, 3)
PROGRESS = JobProgress(tenant=TENANT, job_id="job-0", attempt_id="a-1", fraction=0.25, message="a quarter", at_ms=0)
OUTPUT = JobOutput(tenant=TENANT, job_id="job-0", attempt_id="a-1", text="line\n", at_ms=1)


def streamed(value: JobChanged | JobProgress | JobOutput) -> JobStreamRecord:
    partition = EVENTS if isinstance(value, JobChanged) else REPORTS
    return JobStreamRecord(value, partition=partition, offset=42, timestamp_ms=0)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (
            job_changed(
                7, status=JobStatus.FAILED, reason=EndReason.ERROR, attempts=3, error="ValueError: no rows", queue="edm"
            ),
            {
                "type": "task_state",
                "cursor": "C",
                "task_id": "job-0",
                "at": "2026-01-01T00:00:00.000Z",
                "version": 7,
                "task_type": "echo",
                "queue": "edm",
                "status": "failed",
                "reason": "error",
                "priority": 5,
                "attempts": 3,
                "duplicate_of": None,
                "error": "ValueError: no rows",
                "wal_id": "jobs.events/3/42",
            },
        ),
        (
            PROGRESS,
            {
                "type": "task_progress",
                "cursor": "C",
                "task_id": "job-0",
                "at": "1970-01-01T00:00:00.000Z",
                "attempt_id": "a-1",
                "fraction": 0.25,
                "message": "a quarter",
                "wal_id": "jobs.reports/3/42",
            },
        ),
        (
            OUTPUT,
            {
                "type": "task_output",
                "cursor": "C",
                "task_id": "job-0",
                "at": "1970-01-01T00:00:00.001Z",
                "attempt_id": "a-1",
                "text": "line\n",
                "wal_id": "jobs.reports/3/42",
            },
        ),
    ],
    ids=["state", "progress", "output"],
)
def test_a_record_of_a_job_becomes_a_message_with_its_place(
    value: JobChanged | JobProgress | JobOutput, message: dict[str, object]
) -> None:
    record = streamed(value)
    [payload] = unframed(record.message("C").frame)
    assert list(json.loads(payload).items()) == list(message.items())
    assert record.keys == (("task", TENANT, "job-0"), ("tasks", TENANT, ""))


def test_a_state_is_sent_once_and_never_after_a_newer_one() -> None:
    selection = JobSelection()
    states = [("job-0", 1), ("job-0", 2), ("job-1", 1), ("job-0", 1), ("job-0", 2), ("job-0", 5), ("job-0", 4)]
    assert [selection.takes(streamed(job_changed(version, job_id=job))) for job, version in states] == [
        True, True, True, False, False, True, False,
    ]  # fmt: skip


def test_progress_and_output_are_sent_whatever_the_state() -> None:
    selection = JobSelection()
    records = [job_changed(9, status=JobStatus.COMPLETED), PROGRESS, PROGRESS, OUTPUT, OUTPUT]
    assert all(selection.takes(streamed(record)) for record in records)


def test_the_job_heard_of_longest_ago_is_forgotten_first() -> None:
    selection = JobSelection(jobs_max=2)
    for job, version in (("job-0", 1), ("job-1", 1), ("job-0", 2), ("job-2", 1)):
        assert selection.takes(streamed(job_changed(version, job_id=job)))
    assert [selection.takes(streamed(job_changed(1, job_id=job))) for job in ("job-0", "job-1")] == [False, True]


def raw(
    value: JobChanged | JobProgress | JobOutput, *, key: bytes = b"job-0", secret: str | None = MAC_SECRET
) -> RawRecord:
    partition = EVENTS if isinstance(value, JobChanged) else REPORTS
    encoded, tenant = CODEC.encode(value), value.tenant.encode()
    sealed = []
    if secret is not None:
        mac = record_mac(secret, topic=partition.topic, key=key, tenant=tenant, value=encoded)
        sealed = [(headers.TENANT, tenant), (headers.GATEWAY_MAC, mac)]
    return RawRecord(*partition, 0, 0, key, encoded, sealed)


@pytest.mark.parametrize(
    ("partition", "value"), [(EVENTS, job_changed(1)), (REPORTS, PROGRESS), (REPORTS, OUTPUT)], ids=str
)
def test_a_record_counts_if_it_is_sealed_under_its_own_key(
    partition: Partition, value: JobChanged | JobProgress | JobOutput
) -> None:
    forged = [raw(value, secret=None), raw(value, secret="wrong"), raw(value, key=b"another")]
    tombstone = RawRecord(*partition, 0, 0, b"job-0", None, ())
    poison = RawRecord(*partition, 0, 0, b"job-0", b"\0\0\0\0\1no avro", ())
    sent = stream_reader(InForce(credentials()))(partition, [*forged, tombstone, poison, raw(value)])
    assert [each.value for each in sent] == [value]


def test_a_record_of_another_topic_is_passed_by() -> None:
    astray = raw(OUTPUT)
    moved = RawRecord(*EVENTS, 0, 0, astray.key, astray.value, astray.headers)
    assert stream_reader(InForce(credentials()))(EVENTS, [moved]) == []


@pytest.mark.parametrize("stream", STREAMS.values(), ids=STREAMS)
def test_a_stream_follows_topics_of_the_table(stream: object) -> None:
    assert SOURCES.keys() >= stream.record_keys("t", "n").keys()  # type: ignore[attr-defined]


def test_every_kind_of_message_has_its_counter() -> None:
    assert {Kind(streamed(each).kind) for each in (job_changed(1), PROGRESS, OUTPUT)} == {
        Kind.TASK_STATE, Kind.TASK_PROGRESS, Kind.TASK_OUTPUT,
    }  # fmt: skip


@pytest.mark.parametrize("seed", range(40))
async def test_every_client_holds_every_record_of_its_jobs_once_and_in_order(seed: int) -> None:
    await play(seed, world_type=JobWorld)
