"""The client for documents against a gateway that is busy, away, or cuts connections."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from gateway.client import Bounds, NewDocument, Refused, SendAgainLater, SyncDocuments, TidegateDocuments
from gateway.client.documents import media_type_of, slug_of
from schemas.documents.states import Phase
from tests.unit.gateway.client.fake_documents import CUT, CUT_AFTER, HTML, FakeDocuments

QUICK = Bounds(pause_first_s=0.001, pause_max_s=0.002, give_up_after_s=20.0)
TEXT = "The ice closed the harbour on 4 January."


@pytest.fixture
async def gateway() -> AsyncIterator[FakeDocuments]:
    async with FakeDocuments().running() as running:
        yield running


@pytest.fixture
async def documents(gateway: FakeDocuments) -> AsyncIterator[TidegateDocuments]:
    async with TidegateDocuments(gateway.url, api_key="tg_key", in_flight_max=4, bounds=QUICK) as client:
        yield client


async def test_a_text_is_submitted_with_its_fields(gateway: FakeDocuments, documents: TidegateDocuments) -> None:
    job_id = await documents.submit_job("harbour", 1, TEXT, 9, 1, {"year": 1910}, markdown=True)
    assert gateway.commands == {
        job_id: {
            "book_slug": "harbour",
            "chapter_index": 1,
            "text": TEXT,
            "priority": 9,
            "max_retries": 1,
            "format": "markdown",
            "metadata": {"year": 1910},
        }
    }
    assert gateway.requests[0][2]["X-API-Key"] == "tg_key"
    assert documents.unfinished == (job_id,)


@pytest.mark.parametrize("misdeed", [429, 503, 502, 500, CUT, CUT_AFTER, HTML])
async def test_what_is_not_answered_is_sent_again_under_the_same_key(
    gateway: FakeDocuments, documents: TidegateDocuments, misdeed: object
) -> None:
    """The connection that is cut after the command was taken doubles nothing."""
    gateway.misdeeds = [misdeed, misdeed]
    job_id = await documents.submit_job("harbour", 1, TEXT)
    keys = {headers["Idempotency-Key"] for _, _, headers, _ in gateway.requests}
    assert (len(gateway.requests), len(keys)) == (3, 1)
    assert list(gateway.commands) == [job_id]


async def test_a_retry_after_beyond_its_patience_ends_the_attempts(gateway: FakeDocuments) -> None:
    gateway.misdeeds, gateway.retry_after = [429], "30"
    async with TidegateDocuments(gateway.url, api_key="k", bounds=Bounds(give_up_after_s=20.0)) as client:
        with pytest.raises(SendAgainLater) as raised:
            await client.submit_job("harbour", 1, TEXT)
    assert (raised.value.code, raised.value.retry_after_s) == ("CODE_429", 30.0)
    assert len(gateway.requests) == 1


async def test_what_is_refused_is_not_sent_again(gateway: FakeDocuments, documents: TidegateDocuments) -> None:
    gateway.misdeeds = [422]
    with pytest.raises(Refused, match="CODE_422: as told"):
        await documents.submit_job("harbour", 1, TEXT)
    assert len(gateway.requests) == 1


async def test_many_are_submitted_a_few_at_a_time_and_one_that_is_refused_keeps_none_back(
    gateway: FakeDocuments, documents: TidegateDocuments
) -> None:
    drawn: list[int] = []

    def chapters() -> Iterator[NewDocument]:
        for chapter in range(40):
            drawn.append(chapter)
            yield NewDocument(book_slug="harbour", chapter_index=chapter, text=TEXT)

    gateway.misdeeds = [429, CUT_AFTER, 422, 503]
    results = await documents.submit_many(chapters())
    assert [result.index for result in results] == drawn == list(range(40))
    [refused] = [result for result in results if result.error]
    assert isinstance(refused.error, Refused)
    assert {result.job_id for result in results if result.job_id} == gateway.commands.keys()
    assert len(gateway.commands) == 39
    assert gateway.most_open <= 4


async def test_no_more_documents_are_drawn_than_are_in_flight(
    gateway: FakeDocuments, documents: TidegateDocuments
) -> None:
    drawn, enough = 0, asyncio.Event()

    def endless() -> Iterator[NewDocument]:
        nonlocal drawn
        while True:
            drawn += 1
            if drawn == 20:
                enough.set()
            yield NewDocument(book_slug="harbour", chapter_index=drawn, text=TEXT)

    task = asyncio.create_task(documents.submit_many(endless()))
    await enough.wait()
    assert len(gateway.requests) >= 20 - 4
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_file_is_uploaded_with_its_type_and_names(
    gateway: FakeDocuments, documents: TidegateDocuments, tmp_path: Path
) -> None:
    file = tmp_path / "Tide tables (1910).epub"
    file.write_bytes(b"PK")
    job_id = await documents.upload(file, chapter_index=3, metadata={"year": 1910})
    assert gateway.commands[job_id] == {
        "book_slug": "Tide-tables--1910",
        "chapter_index": "3",
        "filename": "Tide tables (1910).epub",
        "priority": "5",
        "metadata": '{"year": 1910}',
    }
    method, path, headers, body = gateway.requests[0]
    assert (method, path.partition("?")[0], body) == ("POST", "/api/documents/uploads", b"PK")
    assert headers["Content-Type"] == "application/epub+zip"


async def test_waiting_ends_when_each_job_has(gateway: FakeDocuments, documents: TidegateDocuments) -> None:
    first, second = [await documents.submit_job("harbour", chapter, TEXT) for chapter in (1, 2)]
    gateway.phases = {first: [Phase.SUBMITTED, Phase.EMBEDDING, Phase.STORED], second: [Phase.FAILED]}
    assert await documents.wait_for_completion()
    assert documents.unfinished == ()
    assert documents.outcomes == {first: Phase.STORED, second: Phase.FAILED}


async def test_waiting_for_some_jobs_leaves_the_others(gateway: FakeDocuments, documents: TidegateDocuments) -> None:
    first, second = [await documents.submit_job("harbour", chapter, TEXT) for chapter in (1, 2)]
    assert await documents.wait_for_completion(jobs=[second])
    assert (gateway.looks, documents.unfinished) == ({second: 1}, (first,))


async def test_waiting_ends_after_its_time_too(gateway: FakeDocuments) -> None:
    moments = iter([0.0, 400.0])
    async with TidegateDocuments(
        gateway.url, api_key="k", bounds=QUICK, clock_s=lambda: next(moments)
    ) as client:  # fmt: skip
        job_id = await client.submit_job("harbour", 1, TEXT)
        gateway.phases = {job_id: [Phase.CHUNKED]}
        assert not await client.wait_for_completion(timeout=300)
        assert client.unfinished == (job_id,)


async def test_a_job_is_shown_as_it_is(gateway: FakeDocuments, documents: TidegateDocuments) -> None:
    job_id = await documents.submit_job("harbour", 1, TEXT)
    gateway.phases = {job_id: [Phase.EMBEDDING]}
    job = await documents.get_job_status(job_id)
    assert job.embedded is not None
    assert (job.phase, job.has_ended, job.embedded.done, job.embedded.of) == (Phase.EMBEDDING, False, 1, 2)
    with pytest.raises(Refused, match="NOT_FOUND"):
        await documents.get_job_status("another")


async def test_a_search_returns_passages_with_the_ranks_of_both_legs(
    gateway: FakeDocuments, documents: TidegateDocuments
) -> None:
    condition = {"type": "eq", "key": "year", "value": 1910}
    found = await documents.search("When did it freeze?", 3, collections=["harbour"], filters=condition)
    [hit] = found.hits
    assert (hit.document.chapter_index, hit.span, hit.words, hit.metadata) == (1, (0, 40), None, {"year": 1910})
    assert hit.vector is not None
    assert hit.vector.rank == 1
    assert json.loads(gateway.requests[0][3]) == {
        "query": "When did it freeze?",
        "k": 3,
        "mode": "hybrid",
        "collections": ["harbour"],
        "filters": condition,
    }


async def test_a_chapter_and_a_book_are_deleted(gateway: FakeDocuments, documents: TidegateDocuments) -> None:
    job_id = await documents.delete("harbour", "a/b")
    assert job_id in gateway.commands
    assert await documents.delete("harbour") == "c-1"
    assert [path for _, path, _, _ in gateway.requests] == ["/api/documents/harbour/a%2Fb", "/api/documents/harbour"]


async def test_figures_are_read_by_either_name(documents: TidegateDocuments) -> None:
    await documents.submit_job("harbour", 1, TEXT)
    assert await documents.metrics() == await documents.get_orchestrator_metrics() == {"total_submitted": 1}


async def test_a_program_without_an_event_loop_has_the_same_client(gateway: FakeDocuments) -> None:
    def program() -> None:
        gateway.misdeeds = [429]
        with SyncDocuments(gateway.url, api_key="k", bounds=QUICK) as documents:
            job_id = documents.submit_job("harbour", 1, TEXT)
            [result] = documents.submit_many([NewDocument(book_slug="harbour", chapter_index=2, text=TEXT)])
            assert documents.unfinished == (job_id, result.job_id)
            assert documents.wait_for_completion(timeout=20)
            assert documents.outcomes == {job_id: Phase.STORED, result.job_id: Phase.STORED}
            assert documents.search("ice").hits[0].text == TEXT
            assert documents.get_orchestrator_metrics() == {"total_submitted": 2}
        with pytest.raises(RuntimeError, match="the client is not open"):
            documents.metrics()

    await asyncio.to_thread(program)


def test_a_client_with_no_room_in_flight_is_refused() -> None:
    with pytest.raises(ValueError, match="in_flight_max=0 must be 1 or more"):
        SyncDocuments("http://x", api_key="k", in_flight_max=0)


@pytest.mark.parametrize(
    ("name", "slug", "media_type"),
    [
        ("Emma.txt", "Emma", "text/plain"),
        ("Ö.MD", "book", "text/markdown"),
        ("a b.docx", "a-b", "application/vnd.openxmlformats-officedocument.wordprocessingml.document"),
        ("x.unknown-kind", "x", "application/octet-stream"),
    ],
)
def test_a_file_names_its_book_and_its_type(name: str, slug: str, media_type: str) -> None:
    assert (slug_of(Path(name)), media_type_of(Path(name))) == (slug, media_type)
