"""Measurements of documents: their figures come from the times in the jobs' states."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.load.document_texts import made_text
from deploy.load.documents import Workload, by_second, ended, percentiles_ms, run_step, run_sustained, step_of
from gateway.client import Bounds, TidegateDocuments
from schemas.documents.states import Phase
from tests.unit.gateway.client.fake_documents import FakeDocuments

QUICK = Bounds(pause_first_s=0.001, pause_max_s=0.002, give_up_after_s=20.0)
WORKLOAD = Workload(book="bench", words=30)
MOMENT = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
async def gateway() -> AsyncIterator[FakeDocuments]:
    async with FakeDocuments().running() as running:
        yield running


@pytest.fixture
async def client(gateway: FakeDocuments) -> AsyncIterator[TidegateDocuments]:
    async with TidegateDocuments(gateway.url, api_key="k", in_flight_max=4, bounds=QUICK) as opened:
        yield opened


async def test_a_step_is_measured_from_the_first_receipt_to_the_last_commit(
    gateway: FakeDocuments, client: TidegateDocuments
) -> None:
    step = await run_step(client, WORKLOAD, first=1, documents=10)
    assert (step.accepted, step.refused, step.outcomes) == (10, 0, {"stored": 10})
    assert (step.duration_s, step.documents_per_s) == (9.5, 1.05)
    assert step.latency_ms == {"p50": 500.0, "p95": 500.0, "p99": 500.0, "max": 500.0}
    assert {command["chapter_index"] for command in gateway.commands.values()} == set(range(1, 11))


async def test_what_is_refused_or_fails_is_counted_and_has_no_latency(
    gateway: FakeDocuments, client: TidegateDocuments
) -> None:
    gateway.misdeeds = [422, 422]
    step = await run_step(client, WORKLOAD, first=1, documents=5)
    assert (step.documents, step.accepted, step.refused) == (5, 3, 2)
    failed = next(iter(gateway.commands))
    gateway.phases = {failed: [Phase.FAILED]}
    again = step_of(await ended(list(gateway.commands), client), documents=3, refused=0)
    assert again.outcomes == {"stored": 2, "failed": 1}
    assert again.duration_s == 1.5


async def test_jobs_are_looked_at_until_each_has_ended(gateway: FakeDocuments, client: TidegateDocuments) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    job_ids = [await client.submit_job("bench", chapter, "text") for chapter in range(20)]
    gateway.phases = {job_ids[0]: [Phase.SUBMITTED] * 3 + [Phase.STORED]}
    jobs = await ended(job_ids, client, sleep=sleep)
    assert {job.job_id for job in jobs} == set(job_ids)
    assert slept  # while only the first one was left


async def test_a_steady_rate_is_kept_while_answers_come(gateway: FakeDocuments, client: TidegateDocuments) -> None:
    now_s, waits = 0.0, list[float]()

    async def sleep(seconds: float) -> None:
        nonlocal now_s
        waits.append(seconds)
        now_s += seconds

    found = await run_sustained(
        client, WORKLOAD, first=100, rate_per_s=4, duration_s=2.0, in_flight_max=8, sleep=sleep, clock_s=lambda: now_s
    )
    assert len(gateway.commands) == found.step.documents == found.step.accepted == 8
    assert waits == [0.25] * 7
    assert (found.target_per_s, found.submitting_s, found.drained_s) == (4, 1.75, 0.5)
    assert found.stored_by_second == [1] * 8


def test_texts_are_the_same_each_time_and_no_two_are_alike() -> None:
    texts = [made_text(number, words=120) for number in range(200)]
    assert texts == [made_text(number, words=120) for number in range(200)]
    sentences = [sentence for text in texts for sentence in text.replace("\n\n", " ").split(". ")]
    assert len(set(sentences)) == len(sentences)


@given(st.lists(st.floats(0, 1000), min_size=1, max_size=300))
def test_percentiles_are_latencies_that_were_measured_and_rise(latencies: list[float]) -> None:
    found = list(percentiles_ms(latencies).values())
    assert found == sorted(found)
    assert set(found) <= {round(each * 1000, 1) for each in latencies}
    assert found[-1] == round(max(latencies) * 1000, 1)


def test_without_latencies_there_are_no_percentiles() -> None:
    assert percentiles_ms([]) == {}


def test_moments_are_counted_by_second_with_the_empty_ones() -> None:
    moments = [MOMENT + timedelta(seconds=second) for second in (0.1, 0.9, 3.0)]
    assert by_second(MOMENT, moments) == [2, 0, 0, 1]
    assert by_second(MOMENT, []) == []
