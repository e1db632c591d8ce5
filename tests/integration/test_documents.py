"""Documents from commands to live chunks: the three groups on a real Postgres, their records in any order."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import suppress
from uuid import uuid4

import msgspec
import pytest

from processors.documents.intake.pruning import ROWS_AT_ONCE, Pruning
from processors.documents.work.journal import DEATHS_MAX, Journal
from processors.documents.work.known import KnownEmbedders
from processors.runtime.contract import Outcome
from processors.runtime.errors import Transient
from schemas.documents.codec import COMMAND_CODEC
from schemas.documents.records import (
    ChangeDocumentJob,
    Command,
    DeleteCollection,
    DocumentEmbedded,
    DocumentWork,
    PutDocument,
    ReembedCollection,
    Source,
)
from schemas.documents.rules import NO_DOCUMENT
from schemas.documents.states import DocumentAction, Phase
from schemas.errors import Reason
from tests.support.documents import epub
from tests.support.embedders import ToldEmbedder
from tests.support.jobs import JobServer
from tests.support.pipeline import BOOK, TENANT, Pipeline, deletion, put

NEXT = "cd" * 32
WITHIN_S = 10.0


@pytest.fixture
def embedder() -> ToldEmbedder:
    return ToldEmbedder()


@pytest.fixture
def following() -> ToldEmbedder:
    """Return the embedder that takes the place of the first."""
    return ToldEmbedder("following", id=NEXT)


@pytest.fixture
async def pipeline(job_server: JobServer, embedder: ToldEmbedder, following: ToldEmbedder) -> AsyncIterator[Pipeline]:
    async with Pipeline(job_server.documents, job_server.owner, [embedder, following]) as pipeline:
        pipeline.clear()
        embedder.embedded.clear()
        yield pipeline


def paragraphs(*words: str) -> str:
    """Return a text with a chunk for each of *words*."""
    return "\n\n".join(f"{word} " * 140 for word in words)


def novel(chapters: int) -> Source:
    """Return a book of so many chapters."""
    pages = {f"{number}.xhtml": f"<h1>{number}</h1><p>Chapter {number}.</p>" for number in range(1, chapters + 1)}
    return Source(content_type="application/epub+zip", filename="novel.epub", content=epub(pages))


def firsts(texts: list[str]) -> list[str]:
    """Return the last word of each chunk: an overlap comes before it."""
    return [text.split()[-1] for text in texts]


def totals(pipeline: Pipeline) -> dict[str, int]:
    return {
        row["outcome"]: int(row["count"])
        for row in pipeline.rows("SELECT outcome, sum(count) AS count FROM document_totals GROUP BY outcome")
        if row["count"]
    }


async def test_a_put_becomes_live(pipeline: Pipeline) -> None:
    command = put(text="The first sentence. The second one.")
    await pipeline.run(command)
    assert pipeline.phase(command.job_id) == "stored"
    assert pipeline.live() == {"1": ["The first sentence. The second one."]}


async def test_an_edit_embeds_and_writes_only_what_changed(pipeline: Pipeline, embedder: ToldEmbedder) -> None:
    await pipeline.run(put(text=paragraphs("a", "b", "c", "d")))
    table = f"document_chunks_{embedder.id[:16]}"
    before = {row["id"]: row["text"] for row in pipeline.rows(f"SELECT id, text FROM {table}")}
    embedder.embedded.clear()
    await pipeline.run(put(text=paragraphs("x", "a", "b", "c", "d")))
    after = {row["id"]: row["text"] for row in pipeline.rows(f"SELECT id, text FROM {table}")}
    assert firsts(pipeline.live()["1"]) == ["x", "a", "b", "c", "d"]
    assert len(before.keys() & after.keys()) == 3
    assert firsts(embedder.embedded) == ["x", "a"]  # the new one, and the one that overlaps it now


async def test_equal_chunks_of_a_document_are_all_kept(pipeline: Pipeline) -> None:
    await pipeline.run(put(text=paragraphs("a", "b", "a", "b")))
    await pipeline.run(put(text=paragraphs("a", "b", "a")))
    assert firsts(pipeline.live()["1"]) == ["a", "b", "a"]


async def test_the_same_content_is_unchanged_and_its_metadata_is_new(
    pipeline: Pipeline, embedder: ToldEmbedder
) -> None:
    await pipeline.run(put(text="same", metadata='{"a": 1}'))
    embedder.embedded.clear()
    second = put(text="same", metadata='{"a": 2}')
    await pipeline.run(second)
    assert pipeline.phase(second.job_id) == "unchanged"
    assert embedder.embedded == []
    [row] = pipeline.rows("SELECT metadata, latest_revision = live_revision AS is_newest FROM documents")
    assert row == {"metadata": {"a": 2}, "is_newest": True}


async def test_going_back_to_earlier_content_is_a_change(pipeline: Pipeline) -> None:
    for text in ("one", "two", "one"):
        await pipeline.run(put(text=text))
    assert pipeline.live() == {"1": ["one"]}


async def test_the_live_content_is_a_change_while_another_version_is_on_its_way(pipeline: Pipeline) -> None:
    await pipeline.run(put(text="one"))
    first, _ = await pipeline.commit(put(text="two"))
    second, _ = await pipeline.commit(put(text="one"))
    await pipeline.run_work(*first)
    await pipeline.run_work(*second)
    assert pipeline.live() == {"1": ["one"]}


async def test_an_older_revision_that_comes_late_is_superseded(pipeline: Pipeline) -> None:
    old, new = put(text="old"), put(text="new", priority=9)
    work, _ = await pipeline.commit(old, new)
    by_job = {each.job_id: each for each in work}
    embedded_late = await pipeline.embed(by_job[old.job_id])
    await pipeline.run_work(by_job[new.job_id])
    await pipeline.make_live(*embedded_late)
    assert pipeline.live() == {"1": ["new"]}
    assert (pipeline.phase(old.job_id), pipeline.phase(new.job_id)) == ("superseded", "stored")


async def test_what_a_version_takes_the_place_of_is_counted_with_it(pipeline: Pipeline) -> None:
    work, _ = await pipeline.commit(put(text="old"), put(text="new"))
    [stored] = await pipeline.make_live(*await pipeline.embed(work[1]))
    assert stored.ended == {Phase.SUPERSEDED: 1, Phase.STORED: 1}


async def test_a_version_that_fails_leaves_the_one_before_it_live(pipeline: Pipeline, embedder: ToldEmbedder) -> None:
    await pipeline.run(put(text="good"))
    embedder.refuses = "bad"
    failing = put(text=paragraphs("fine", "bad"))
    await pipeline.run(failing)
    assert pipeline.live() == {"1": ["good"]}
    [row] = pipeline.rows("SELECT phase, error FROM document_jobs WHERE job_id = %s", failing.job_id)
    assert row["phase"] == "failed"
    assert (row["error"]["stage"], row["error"]["reason"], row["error"]["chunk"]) == ("embed", "bad_chunk", 1)


async def test_an_older_version_goes_live_when_the_newer_one_fails(pipeline: Pipeline, embedder: ToldEmbedder) -> None:
    embedder.refuses = "bad"
    work, _ = await pipeline.commit(put(text="good"), put(text="bad"))
    await pipeline.run_work(work[1])
    await pipeline.run_work(work[0])
    assert pipeline.live() == {"1": ["good"]}


async def test_bad_chunks_are_left_out_and_listed_where_that_is_asked_for(
    pipeline: Pipeline, embedder: ToldEmbedder
) -> None:
    embedder.refuses = "bad"
    command = put(text=paragraphs("a", "bad", "c"), skips_bad_chunks=True)
    await pipeline.run(command)
    assert pipeline.phase(command.job_id) == "stored"
    assert firsts(pipeline.live()["1"])[0] == "a"
    [row] = pipeline.rows("SELECT missing FROM documents")
    assert 1 in [each["chunk"] for each in row["missing"]]


async def test_a_deleted_document_stays_away_though_its_work_was_under_way(pipeline: Pipeline) -> None:
    command = put(text="gone")
    work, _ = await pipeline.commit(command)
    embedded = await pipeline.embed(*work)
    await pipeline.run(deletion())
    assert pipeline.ended == {Phase.DELETED: 1, Phase.SUPERSEDED: 1}
    await pipeline.make_live(*embedded)
    await pipeline.run_work(*work)
    assert pipeline.live() == {}
    assert pipeline.phase(command.job_id) == "superseded"


async def test_the_same_content_comes_back_after_a_delete(pipeline: Pipeline) -> None:
    await pipeline.run(put(text="again"))
    await pipeline.run(deletion())
    assert pipeline.live() == {}
    await pipeline.run(put(text="again"))
    assert pipeline.live() == {"1": ["again"]}


async def test_a_delete_of_what_never_was_holds_off_an_older_put(pipeline: Pipeline) -> None:
    command = put(text="late")
    late = pipeline.arrival(command, b"", 0)  # its offset precedes that of the delete
    await pipeline.run(deletion())
    await pipeline.run_work(*await pipeline.again([late]))
    assert pipeline.live() == {}
    assert pipeline.phase(command.job_id) == "superseded"


@pytest.mark.parametrize("again", ["intake", "embed", "store", "all"])
async def test_records_that_come_again_change_nothing(pipeline: Pipeline, again: str) -> None:
    command = put(text=paragraphs("a", "b"))
    work, arrivals = await pipeline.commit(command)
    if again in ("intake", "all"):
        assert await pipeline.again(arrivals) == work  # a crash may have come before the lanes
    embedded = await pipeline.embed(*work)
    if again in ("embed", "all"):
        assert await pipeline.embed(*work) == []
        assert pipeline.settled.tally == {(Outcome.REDELIVERY, None): 1}
    await pipeline.make_live(*embedded)
    rows = pipeline.rows("SELECT version, ended_at FROM document_jobs")
    if again in ("store", "all"):
        await pipeline.make_live(*embedded)
    if again == "all":
        assert await pipeline.again(arrivals) == []
        assert await pipeline.embed(*work) == []
    assert pipeline.rows("SELECT version, ended_at FROM document_jobs") == rows
    assert firsts(pipeline.live()["1"]) == ["a", "b"]
    assert totals(pipeline) == {"submitted": 1, "stored": 1}


async def test_a_put_that_is_sent_again_is_a_duplicate(pipeline: Pipeline) -> None:
    command = put(text="once")
    await pipeline.run(command)
    work, _ = await pipeline.commit(command)
    assert work == []
    assert pipeline.tally == {(Outcome.DUPLICATE, None): 1}


async def test_another_content_under_the_same_job_is_rejected(pipeline: Pipeline) -> None:
    command = put(text="once")
    await pipeline.run(command)
    await pipeline.commit(put(text="twice", job_id=command.job_id))
    assert pipeline.tally == {(Outcome.REJECTED, Reason.CONFLICT): 1}


async def test_a_command_in_another_partition_is_rejected(pipeline: Pipeline) -> None:
    await pipeline.run(put(text="here"))
    await pipeline.commit(put(text="there"), partition=1)
    assert pipeline.tally == {(Outcome.REJECTED, Reason.WRONG_PARTITION): 1}
    assert pipeline.live() == {"1": ["here"]}


@pytest.mark.parametrize(
    ("expected", "phase"), [(NO_DOCUMENT, "failed"), (12345, "failed"), (None, "stored")], ids=["none", "other", "any"]
)
async def test_an_expected_revision_is_compared(pipeline: Pipeline, expected: int | None, phase: str) -> None:
    await pipeline.run(put(text="first"))
    command = put(text="second", expected_revision=expected)
    await pipeline.run(command)
    assert pipeline.phase(command.job_id) == phase


async def test_the_revision_that_is_there_may_be_expected(pipeline: Pipeline) -> None:
    await pipeline.run(put(text="first", expected_revision=NO_DOCUMENT))
    [row] = pipeline.rows("SELECT live_revision FROM documents")
    await pipeline.run(put(text="second", expected_revision=row["live_revision"]))
    assert pipeline.live() == {"1": ["second"]}
    await pipeline.run(deletion(expected_revision=row["live_revision"]))
    assert pipeline.live() == {"1": ["second"]}


async def test_an_embedder_that_is_away_is_tried_again_and_then_given_up(
    pipeline: Pipeline, embedder: ToldEmbedder
) -> None:
    embedder.is_away = True
    command = put(text="patient", max_retries=3)
    work, _ = await pipeline.commit(command)
    for tier in range(3):
        await pipeline.embed(*work, tier=tier)
        assert [failed.reason for failed in pipeline.settled.retry_later] == [Reason.EMBEDDER_AWAY]
        assert pipeline.phase(command.job_id) == "submitted"
    await pipeline.embed(*work, tier=3)
    assert len(pipeline.settled.retry_later) == 1  # beyond the last tier it is a dead letter
    assert pipeline.phase(command.job_id) == "failed"
    embedder.is_away = False
    embedded = await pipeline.embed(*work, attempt=1)  # an operator sent it back
    await pipeline.make_live(*embedded)
    assert pipeline.live() == {"1": ["patient"]}
    assert totals(pipeline) == {"submitted": 1, "stored": 1}


async def test_fewer_retries_end_in_a_failure_without_a_dead_letter(pipeline: Pipeline, embedder: ToldEmbedder) -> None:
    embedder.is_away = True
    command = put(text="impatient", max_retries=0)
    work, _ = await pipeline.commit(command)
    await pipeline.embed(*work)
    assert pipeline.phase(command.job_id) == "failed"
    assert pipeline.settled.retry_later == []


async def test_an_embedder_that_is_away_at_first_becomes_known_when_it_answers(pipeline: Pipeline) -> None:
    """Regression: it was asked once, so that its books waited until the process was started again."""
    late = ToldEmbedder("late", id="ef" * 32)
    late.is_away = True
    known = KnownEmbedders(pipeline.writes, [late])
    await known.go_on()
    is_known = "SELECT name FROM document_embedders WHERE embedder = %s"
    assert (known.away, pipeline.rows(is_known, late.id)) == (1, [])
    late.is_away = False
    await known.go_on()
    assert (known.away, pipeline.rows(is_known, late.id)) == (0, [{"name": "late"}])


async def test_what_was_embedded_before_an_embedder_went_away_is_not_embedded_again(
    pipeline: Pipeline, embedder: ToldEmbedder
) -> None:
    words = [f"w{number}" for number in range(40)]
    work, _ = await pipeline.commit(put(text=paragraphs(*words)))
    embedder.refuses = "w39"
    await pipeline.embed(*work)
    first = len(embedder.embedded)
    embedder.refuses = None
    embedder.embedded.clear()
    await pipeline.run(put(text=paragraphs(*words)))
    assert len(embedder.embedded) < first
    assert len(pipeline.live()["1"]) == 40


async def test_a_document_whose_workers_die_is_a_dead_letter(pipeline: Pipeline) -> None:
    command = put(text="deadly")
    work, _ = await pipeline.commit(command)
    for _ in range(DEATHS_MAX):
        pipeline.rows("UPDATE document_jobs SET starts = starts + 1")  # begun, and never ended
    await pipeline.embed(*work)
    assert [failed.reason for failed in pipeline.settled.dead] == [Reason.CRASHED]
    [row] = pipeline.rows("SELECT phase, error FROM document_jobs")
    assert (row["phase"], row["error"]["reason"]) == ("failed", "crashed")


async def test_an_attempt_that_is_cancelled_in_order_is_no_death(pipeline: Pipeline, embedder: ToldEmbedder) -> None:
    work, _ = await pipeline.commit(put(text="moved"))
    embedder.holds = asyncio.Event()
    attempt = asyncio.create_task(pipeline.embed(*work))
    async with asyncio.timeout(WITHIN_S):
        # Looked at between any two steps, so that it is mostly cancelled before it has seen its start committed.
        while pipeline.rows("SELECT starts FROM document_jobs") != [{"starts": 1}]:  # noqa: ASYNC110  Postgres tells nobody
            await asyncio.sleep(0)
    attempt.cancel()
    await asyncio.gather(attempt, return_exceptions=True)
    assert pipeline.rows("SELECT starts FROM document_jobs") == [{"starts": 0}]
    embedder.holds.set()
    await pipeline.run_work(*work)
    assert pipeline.live() == {"1": ["moved"]}


async def test_an_attempt_that_postgres_ended_is_no_death(
    pipeline: Pipeline, embedder: ToldEmbedder, job_server: JobServer
) -> None:
    work, _ = await pipeline.commit(put(text="patient"))
    embedder.holds = asyncio.Event()
    attempt = await chunked(pipeline, *work)
    job_server.stop()
    embedder.holds.set()
    with pytest.raises(Transient):
        await attempt
    job_server.start()
    embedder.holds = asyncio.Event()
    again = await chunked(pipeline, *work)
    assert pipeline.rows("SELECT starts FROM document_jobs") == [{"starts": 1}]  # the one that is under way
    embedder.holds.set()
    await pipeline.make_live(*await again)
    assert pipeline.live() == {"1": ["patient"]}


async def chunked(pipeline: Pipeline, *work: DocumentWork) -> asyncio.Task[list[DocumentEmbedded]]:
    """Return an attempt that has come as far as the embedder; those before it met connections that were gone."""
    [before] = pipeline.rows("SELECT version FROM document_jobs")
    async with asyncio.timeout(WITHIN_S):
        while True:
            attempt = asyncio.create_task(pipeline.embed(*work))
            while not attempt.done():
                if pipeline.rows("SELECT version FROM document_jobs") != [before]:
                    return attempt
                await asyncio.sleep(0.01)
            with suppress(Transient):
                await attempt


async def test_a_job_is_cancelled_and_tried_again(pipeline: Pipeline) -> None:
    command = put(text="wanted after all")
    work, _ = await pipeline.commit(command)
    await pipeline.commit(change(command, DocumentAction.CANCEL))
    await pipeline.run_work(*work)
    assert (pipeline.phase(command.job_id), pipeline.live()) == ("cancelled", {})
    assert totals(pipeline) == {"submitted": 1, "cancelled": 1}
    again, arrivals = await pipeline.commit(change(command, DocumentAction.RETRY))
    assert await pipeline.again(arrivals) == again
    await pipeline.run_work(*work)  # of the cancelled run
    assert pipeline.live() == {}
    await pipeline.run_work(*again)
    assert pipeline.live() == {"1": ["wanted after all"]}
    assert totals(pipeline) == {"submitted": 1, "stored": 1}


async def test_a_job_whose_place_is_taken_is_not_tried_again(pipeline: Pipeline, embedder: ToldEmbedder) -> None:
    embedder.refuses = "bad"
    failing = put(text="bad")
    await pipeline.run(failing, put(text="good"))
    work, _ = await pipeline.commit(change(failing, DocumentAction.RETRY))
    assert work == []
    [row] = pipeline.rows("SELECT outcome, detail FROM document_commands WHERE kind = 'retry'")
    assert row["outcome"] == "refused"


async def test_deleting_a_collection_spares_what_comes_later(pipeline: Pipeline) -> None:
    await pipeline.run(*(put(str(number), text=f"text {number}") for number in range(5)), put("7", collection="other"))
    under_way, _ = await pipeline.commit(put("9", text="under way"))
    command = DeleteCollection(tenant=TENANT, collection=BOOK, share=0, command_id=str(uuid4()), by="key")
    await pipeline.run(command)
    await pipeline.run(put("3", text="later"))
    await pipeline.run_work(*under_way)
    assert pipeline.live() == {"3": ["later"], "7": ["a text"]}


async def test_a_text_has_no_character_that_postgres_refuses(pipeline: Pipeline) -> None:
    command = put(text="a\0b\r\nc")
    await pipeline.run(command)
    assert pipeline.live() == {"1": ["ab\nc"]}


async def test_a_text_of_nothing_but_what_is_dropped_fails(pipeline: Pipeline) -> None:
    command = put(text="\u200b\u00ad\0")
    await pipeline.run(command)
    [row] = pipeline.rows("SELECT phase, error FROM document_jobs")
    assert (row["phase"], row["error"]["reason"]) == ("failed", "no_text")


async def test_a_missing_text_in_object_storage_is_a_failure(pipeline: Pipeline) -> None:
    reference = '{"key": "demo/documents/book/00", "size_bytes": 1, "sha256": "' + "00" * 32 + '"}'
    command = put(text=None, text_ref=reference)
    await pipeline.run(command)
    assert pipeline.phase(command.job_id) == "failed"


@pytest.mark.parametrize("reference", [None, "junk", "{}", '{"key": "a", "size_bytes": 1, "sha256": "odd"}'])
async def test_a_reference_that_cannot_be_read_is_a_failure(pipeline: Pipeline, reference: str | None) -> None:
    command = put(text=None, text_ref=reference)
    await pipeline.run(command)
    assert pipeline.phase(command.job_id) == "failed"


async def test_a_file_becomes_the_text_that_is_in_it(pipeline: Pipeline) -> None:
    page = Source(content_type="text/html", filename="a.html", content=b"<h1>Title</h1><p>Hello<p>world")
    command = put(text=None, source=page)
    await pipeline.run(command)
    assert pipeline.phase(command.job_id) == "stored"
    assert "Hello" in pipeline.live()["1"][0]


async def test_a_file_becomes_its_parts_in_place_of_those_of_an_earlier_one(pipeline: Pipeline) -> None:
    await pipeline.run(put("novel", text=None, source=novel(3)))
    assert {*pipeline.live()} == {"novel", "novel/2", "novel/3"}
    await pipeline.run(put("novel", text=None, source=novel(2)))
    assert {*pipeline.live()} == {"novel", "novel/2"}


async def test_a_file_leaves_documents_alone_that_are_only_named_as_its_parts_are(pipeline: Pipeline) -> None:
    """Regression: a document of one's own was deleted when a file came whose parts could have had its name."""
    await pipeline.run(put("novel/9", text="a text of its own"))
    await pipeline.run(put("novel", text=None, source=novel(2)))
    assert {*pipeline.live()} == {"novel", "novel/2", "novel/9"}


async def test_a_file_that_becomes_several_documents_is_not_kept_beside_them(pipeline: Pipeline) -> None:
    book = epub({f"{number}.xhtml": f"<p>Chapter {number}" for number in range(3)})
    command = put(text=None, source=Source(content_type="application/epub+zip", filename="a.epub", content=book))
    await pipeline.run(command)
    assert pipeline.phase(command.job_id) == "stored"
    assert sorted(pipeline.live()) == ["1", "1/2", "1/3"]
    [kept] = pipeline.rows(
        "SELECT count(*) AS count, count(live_job) AS live FROM document_texts "
        "LEFT JOIN documents ON live_job = document_texts.job_id"
    )
    assert kept == {"count": 3, "live": 3}


async def test_the_cost_of_a_file_is_that_of_its_text_once_it_is_known(pipeline: Pipeline) -> None:
    page = Source(content_type="text/html", filename="a.html", content=b"<p>" + b" " * 1000 + b"Emma</p>")
    await pipeline.run(put("page", text=None, source=page))
    await pipeline.run(put("novel", text=None, source=novel(2)))
    jobs = pipeline.rows("SELECT document, parent_job, cost FROM document_jobs ORDER BY document, revision")
    own = {row["document"]: row["cost"] for row in jobs if row["parent_job"] is None}
    assert own == {"page": len("Emma"), "novel": 0}, "the parts of a file have its cost"
    all_cost = sum(row["cost"] for row in jobs)
    assert all_cost > len("Emma")
    summed = pipeline.rows("SELECT outcome, lane, sum(cost) AS cost FROM document_totals GROUP BY outcome, lane")
    assert {(row["outcome"], row["lane"]): row["cost"] for row in summed} == {
        ("submitted", "normal"): all_cost,
        ("stored", "normal"): all_cost,
    }


async def test_a_file_whose_job_has_ended_is_counted_as_it_was(pipeline: Pipeline) -> None:
    await pipeline.run(put("page", text=None, source=Source(content_type="text/plain", filename="a", content=b"Emma")))
    [row] = pipeline.rows("SELECT job_id::text, revision, generation, lane, embedders FROM document_jobs")
    work = DocumentWork(tenant=TENANT, collection=BOOK, document="page", cost=4, **row)
    await Journal(pipeline.writes).read_file(work, "Emma and more", b"", parser="p", is_markdown=False, metadata=None)
    assert pipeline.rows("SELECT cost FROM document_jobs") == [{"cost": 4}]
    assert {row["cost"] for row in pipeline.rows("SELECT cost FROM document_totals")} == {4}


async def test_a_file_that_cannot_be_read_says_why(pipeline: Pipeline) -> None:
    command = put(text=None, source=Source(content_type="application/pdf", filename="a.pdf", content=b"%PDF-1.7 junk"))
    await pipeline.run(command)
    [row] = pipeline.rows("SELECT phase, error FROM document_jobs")
    assert (row["phase"], row["error"]["stage"]) == ("failed", "parse")


async def test_a_tenants_vectors_are_its_own(pipeline: Pipeline, embedder: ToldEmbedder) -> None:
    await pipeline.run(put(text="shared words"))
    embedder.embedded.clear()
    await pipeline.run(put(text="shared words", tenant="other"))
    assert embedder.embedded == ["shared words"]


async def test_a_collection_is_embedded_again_with_puts_and_deletes_meanwhile(
    pipeline: Pipeline, following: ToldEmbedder
) -> None:
    await pipeline.run(*(put(str(number), text=f"text {number}") for number in range(6)))
    early, _ = await pipeline.commit(put("early", text="on its way before"))
    await pipeline.run(reembedding())
    given_out = await pipeline.build()
    assert len(given_out) == 6
    await pipeline.run(put("0", text="edited"), deletion("1"), put("new", text="new"))
    await pipeline.run_work(*given_out)
    await pipeline.run_work(*early)
    for _ in range(5):
        await pipeline.run_work(*await pipeline.build())
    expected = {"0": ["edited"], "new": ["new"], "early": ["on its way before"]}
    expected |= {str(number): [f"text {number}"] for number in range(2, 6)}
    assert pipeline.live(following) == expected
    [row] = pipeline.rows("SELECT embedder, building, leaving FROM document_collections")
    assert row == {"embedder": NEXT, "building": None, "leaving": []}
    assert pipeline.live() == {}
    await pipeline.run(put("0", text="edited"))
    assert pipeline.rows("SELECT phase FROM document_jobs ORDER BY queued_at DESC LIMIT 1") == [{"phase": "unchanged"}]


async def test_the_work_of_a_build_is_given_out_again_after_a_death_and_after_a_failure(pipeline: Pipeline) -> None:
    await pipeline.run(put("0", text="there"))
    await pipeline.run(reembedding())
    given_out = await pipeline.build()
    assert await pipeline.build() == []  # it waits in its lane
    pipeline.restart_building()
    assert await pipeline.build() == given_out
    pipeline.restart_building()
    pipeline.lanes.is_away = True
    with pytest.raises(Transient):
        await pipeline.build()
    pipeline.lanes.is_away = False
    assert await pipeline.build() == given_out


async def test_what_was_embedded_for_the_previous_embedder_only_is_embedded_again(
    pipeline: Pipeline, following: ToldEmbedder
) -> None:
    await pipeline.run(put("0", text="there"))
    work, _ = await pipeline.commit(put("1", text="slow"))
    embedded = await pipeline.embed(*work)
    await pipeline.run(reembedding())
    for _ in range(3):
        await pipeline.run_work(*await pipeline.build())
    [stored] = await pipeline.make_live(*embedded)
    assert stored.again is not None
    [again] = await pipeline.make_live(*embedded)  # the process died before it gave the work out
    assert again.again == stored.again
    await pipeline.run_work(stored.again)
    assert pipeline.live(following) == {"0": ["there"], "1": ["slow"]}


async def test_a_log_that_is_begun_again_has_newer_revisions(pipeline: Pipeline) -> None:
    await pipeline.run(*(put(str(number), text="old") for number in range(5)), deletion("4"))
    under_way, _ = await pipeline.commit(put("0", text="old edit"), put("5", text="old, of its own"))
    pipeline.begin_another_log()
    await pipeline.run(put("0", text="new"), put("4", text="new"), deletion("1"))
    await pipeline.run_work(*under_way)
    assert pipeline.live() == {
        "0": ["new"], "2": ["old"], "3": ["old"], "4": ["new"], "5": ["old, of its own"],
    }  # fmt: skip


async def test_the_first_offset_of_a_log_is_a_revision_like_others(pipeline: Pipeline) -> None:
    pipeline.begin_another_log()
    command = put(text="first")
    await pipeline.run(command, deletion())
    work, _ = await pipeline.commit(change(command, DocumentAction.RETRY))
    assert (work, pipeline.live()) == ([], {})


@pytest.mark.parametrize("seed", range(4))
async def test_live_chunks_are_those_of_the_model_whatever_comes_when(
    pipeline: Pipeline, embedder: ToldEmbedder, seed: int
) -> None:
    """200 documents with edits and deletes; every record may come late, twice, and in another order."""
    chance = random.Random(seed)
    embedder.refuses = "bad"
    model: dict[str, str] = {}
    jobs: list[str] = []
    work: list[DocumentWork] = []
    embedded: list[DocumentEmbedded] = []

    async def go_on(part: float) -> None:
        chance.shuffle(work)
        some = [work.pop() for _ in range(int(len(work) * part))]
        for start in range(0, len(some), 8):
            embedded.extend(await pipeline.embed(*some[start : start + 8]))
        work.extend(chance.sample(some, len(some) // 10))
        chance.shuffle(embedded)
        ready = [embedded.pop() for _ in range(int(len(embedded) * part))]
        await pipeline.make_live(*ready, *chance.sample(ready, len(ready) // 10))

    edited = chance.sample(range(200), 40)
    for number in [*range(200), *edited, *chance.sample(edited, 20)]:
        document = str(number)
        if number in edited and chance.random() < 0.3:
            command: Command = deletion(document)
            model.pop(document, None)
        else:
            text = f"text {number} {chance.random()}" + (" bad" if chance.random() < 0.1 else "")
            command = put(document, text=text, priority=chance.randint(1, 10))
            if not text.endswith("bad"):
                model[document] = text
        assert isinstance(command, PutDocument) or command.document == document
        jobs.append(command.job_id)
        given_out, _ = await pipeline.commit(command)
        work += given_out
        if chance.random() < 0.1:
            await go_on(0.5)
    while work or embedded:
        await go_on(1.0)
    assert pipeline.live() == {document: [text] for document, text in model.items()}
    phases = pipeline.rows("SELECT phase, count(*) AS count FROM document_jobs GROUP BY phase")
    assert not {row["phase"] for row in phases} & {Phase.SUBMITTED, Phase.CHUNKED, Phase.EMBEDDING}
    assert totals(pipeline) == {row["phase"]: row["count"] for row in phases} | {"submitted": len(jobs)}
    [kept] = pipeline.rows(
        "SELECT count(*) AS count FROM document_texts JOIN documents ON live_job = document_texts.job_id"
    )
    assert kept["count"] == len(model)


def change(command: PutDocument, action: DocumentAction) -> ChangeDocumentJob:
    return ChangeDocumentJob(
        tenant=TENANT,
        collection=BOOK,
        document=command.document,
        job_id=command.job_id,
        command_id=str(uuid4()),
        action=action,
        by="key",
    )


def reembedding(to: str = NEXT) -> ReembedCollection:
    return ReembedCollection(tenant=TENANT, collection=BOOK, command_id=str(uuid4()), embedder=to, by="key")


async def test_two_texts_of_one_job_in_a_slice_are_not_mixed(pipeline: Pipeline) -> None:
    first = put(text="mine")
    other = put("2", text="another's", job_id=first.job_id)
    work, _ = await pipeline.commit(first, other)
    await pipeline.run_work(*work)
    assert pipeline.live() == {"1": ["mine"]}


async def test_a_document_that_was_sent_back_waits_for_its_embedder_like_others(
    pipeline: Pipeline, embedder: ToldEmbedder
) -> None:
    embedder.is_away = True
    command = put(text="patient", max_retries=1)
    work, _ = await pipeline.commit(command)
    await pipeline.embed(*work)
    await pipeline.embed(*work, tier=1)
    assert pipeline.phase(command.job_id) == "failed"
    await pipeline.embed(*work, attempt=1)
    assert [failed.reason for failed in pipeline.settled.retry_later] == [Reason.EMBEDDER_AWAY]
    embedder.is_away = False
    await pipeline.make_live(*await pipeline.embed(*work, tier=1, attempt=1))
    assert pipeline.live() == {"1": ["patient"]}
    assert totals(pipeline) == {"submitted": 1, "stored": 1}


async def test_a_job_that_runs_again_already_is_not_revived(pipeline: Pipeline, embedder: ToldEmbedder) -> None:
    embedder.refuses = "bad"
    command = put(text="bad")
    work, _ = await pipeline.commit(command)
    await pipeline.run_work(*work)
    await pipeline.commit(change(command, DocumentAction.RETRY))
    assert await Journal(pipeline.writes).revive(*work) == work[0]  # a look before the retry was committed
    assert totals(pipeline) == {"submitted": 1}


async def test_a_version_that_postgres_refuses_has_failed(pipeline: Pipeline) -> None:
    command = put(text="odd")
    work, _ = await pipeline.commit(command)
    [record] = await pipeline.embed(*work)
    [embedding] = record.embeddings
    odd = msgspec.structs.replace(
        embedding, dimensions=embedding.dimensions // 2, vectors=embedding.vectors[: len(embedding.vectors) // 2]
    )
    [stored] = await pipeline.make_live(msgspec.structs.replace(record, embeddings=[odd]))
    assert stored.phase is Phase.FAILED
    [row] = pipeline.rows("SELECT phase, error FROM document_jobs")
    assert (row["phase"], row["error"]["reason"]) == ("failed", "not_storable")


async def test_records_of_tables_that_were_emptied_are_passed_by(pipeline: Pipeline) -> None:
    work, _ = await pipeline.commit(put(text="of old"))
    embedded = await pipeline.embed(*work)
    pipeline.clear()
    assert [stored.phase for stored in await pipeline.make_live(*embedded)] == [None]
    assert await pipeline.embed(*work) == []


async def test_a_file_of_several_parts_leaves_no_bytes_behind(pipeline: Pipeline) -> None:
    text = ("word " * 500 + "\n\n") * 1000
    await pipeline.run(file(text))
    assert len(pipeline.live()) > 1
    kept = "SELECT job_id FROM document_texts WHERE NOT EXISTS (SELECT FROM documents WHERE live_job = job_id)"
    assert pipeline.rows(kept) == []


async def test_a_shorter_file_takes_the_parts_of_the_longer_one_with_it(pipeline: Pipeline) -> None:
    name = "n" * 512
    text = ("word " * 500 + "\n\n") * 1000
    await pipeline.run(file(text, name))
    assert len(pipeline.live()) > 1
    await pipeline.run(file("short", name))
    assert pipeline.live() == {name: ["short"]}


async def test_a_file_spares_documents_that_are_no_parts_of_it(pipeline: Pipeline) -> None:
    await pipeline.run(put("novel/2", text="a chapter of its own"))
    await pipeline.run(file("short", "novel"))
    assert pipeline.live() == {"novel": ["short"], "novel/2": ["a chapter of its own"]}


async def test_what_is_left_is_not_deleted_once_it_is_built_again(pipeline: Pipeline, following: ToldEmbedder) -> None:
    await pipeline.run(put(text="there"), reembedding())
    for _ in range(4):
        await pipeline.run_work(*await pipeline.build())
    await pipeline.run(reembedding(to="ab" * 32))
    for _ in range(4):
        await pipeline.run_work(*await pipeline.build())
    await pipeline.run(reembedding())
    await pipeline.run_work(*await pipeline.build())
    assert pipeline.live(following) == {"1": ["there"]}
    await pipeline.reembedding._delete_left(TENANT, BOOK, NEXT)  # of a look before the new build
    assert pipeline.live(following) == {"1": ["there"]}


async def test_a_build_goes_on_while_a_collection_is_written_to(pipeline: Pipeline) -> None:
    await pipeline.run(put(text="there"), reembedding())
    async with pipeline.writes.transaction() as (connection, _):
        await connection.execute("SELECT FROM document_collections FOR SHARE")
        work = await pipeline.build()
    assert len(work) == 1


async def test_a_build_begins_without_a_look_at_any_document(pipeline: Pipeline) -> None:
    """Regression: it wrote to each document that a build before it had done, which no transaction did for a million."""
    await pipeline.run(put(text="there"), reembedding())
    await pipeline.run_work(*await pipeline.build())
    async with pipeline.writes.transaction() as (connection, _):
        await connection.execute("SELECT FROM documents FOR UPDATE")
        async with asyncio.timeout(WITHIN_S):
            await pipeline.commit(reembedding())


async def test_a_build_that_begins_again_has_nothing_of_the_one_before(
    pipeline: Pipeline, following: ToldEmbedder
) -> None:
    await pipeline.run(put(text="there"), reembedding())
    await pipeline.run_work(*await pipeline.build())
    await pipeline.run(reembedding(to="ab" * 32), put(text="edited"))  # the first was not searched yet
    await pipeline.run(reembedding())
    await pipeline.run_work(*await pipeline.build())
    assert pipeline.live(following) == {"1": ["edited"]}


async def test_a_document_that_fails_holds_a_build_up_until_it_is_tried_again(
    pipeline: Pipeline, following: ToldEmbedder
) -> None:
    await pipeline.run(put("1", text="good"), put("2", text="bad"), reembedding())
    following.refuses = "bad"
    for _ in range(3):
        await pipeline.run_work(*await pipeline.build())
    assert active(pipeline) != NEXT
    assert firsts(pipeline.live()["2"]) == ["bad"]
    following.refuses = None
    await pipeline.run(reembedding())
    for _ in range(3):
        await pipeline.run_work(*await pipeline.build())
    assert active(pipeline) == NEXT
    assert pipeline.live(following) == {"1": ["good"], "2": ["bad"]}


async def test_the_job_of_a_build_is_tried_again_by_itself(pipeline: Pipeline, following: ToldEmbedder) -> None:
    await pipeline.run(put(text="bad"), reembedding())
    following.refuses = "bad"
    [work] = await pipeline.build()
    await pipeline.run_work(work)
    following.refuses = None
    again = put(job_id=work.job_id)
    await pipeline.run(change(again, DocumentAction.RETRY))
    await pipeline.build()
    assert active(pipeline) == NEXT
    assert totals(pipeline) == {"submitted": 2, "stored": 2}


async def test_a_build_changes_over_without_what_failed_where_that_is_asked_for(
    pipeline: Pipeline, following: ToldEmbedder
) -> None:
    await pipeline.run(put("1", text="good"), put("2", text="bad"), reembedding())
    following.refuses = "bad"
    for _ in range(3):
        await pipeline.run_work(*await pipeline.build())
    await pipeline.run(msgspec.structs.replace(reembedding(), skips_failed=True))
    for _ in range(2):
        await pipeline.build()
    assert active(pipeline) == NEXT
    assert (pipeline.live(following), pipeline.live()) == ({"1": ["good"]}, {})
    assert pipeline.rows("SELECT chunks FROM documents WHERE document = '2'") == [{"chunks": 0}]
    following.refuses = None
    await pipeline.run(put("2", text="bad"))  # the same content, which is no longer stored
    assert pipeline.live(following) == {"1": ["good"], "2": ["bad"]}


def active(pipeline: Pipeline) -> str:
    """Return the embedder that searches use."""
    [row] = pipeline.rows("SELECT embedder FROM document_collections")
    return str(row["embedder"])


async def test_old_jobs_are_pruned_but_for_those_of_live_and_newest_versions(
    pipeline: Pipeline, embedder: ToldEmbedder
) -> None:
    embedder.refuses = "bad"
    live, failed, deleted = put("1", text="live"), put("2", text="bad"), put("3", text="gone")
    old = put("1", text="old")
    await pipeline.run(old, live, failed, deleted)
    await pipeline.run(deletion("3"), put("4", text="bad"), put("4", text="recent"))
    counted = totals(pipeline)
    pipeline.rows("UPDATE document_jobs SET ended_at = ended_at - interval '31 days' WHERE document <> '4'")
    pipeline.rows(
        "UPDATE document_commands SET stored_at = stored_at - interval '31 days' WHERE job_id = %s", old.job_id
    )
    await pruned(Pruning(pipeline.writes, jobs_days=30))
    kept = pipeline.rows("SELECT job_id::text AS job, phase, document FROM document_jobs ORDER BY document, revision")
    assert [(row["document"], row["phase"]) for row in kept] == [
        ("1", "stored"), ("2", "failed"), ("4", "failed"), ("4", "stored"),
    ]  # fmt: skip
    assert kept[0]["job"] == live.job_id
    assert pipeline.live() == {"1": ["live"], "4": ["recent"]}
    assert pipeline.rows("SELECT count(*) AS count FROM documents WHERE deleted_revision IS NOT NULL") == [{"count": 1}]
    assert pipeline.rows("SELECT count(*) AS count FROM document_commands") == [{"count": 6}]
    assert totals(pipeline) == counted


async def test_pruning_goes_on_where_a_part_ended(pipeline: Pipeline) -> None:
    for tenant, count in (("a", ROWS_AT_ONCE + 1), ("b", 1)):
        pipeline.rows(
            "INSERT INTO document_jobs (job_id, tenant_id, collection, document, partition, revision, kind, phase, "
            "priority, lane, cost, max_retries, submitted_at, ended_at) SELECT gen_random_uuid(), %s, 'emma', '1', 0, "
            "number, 'put', 'superseded', 5, 'normal', 1, 3, moment, moment FROM generate_series(1, %s) AS number, "
            "(SELECT now() - interval '31 days' AS moment) AS times",
            tenant,
            count,
        )
        pipeline.rows("INSERT INTO document_totals VALUES (%s, 0, 'submitted', 'low', 1, 1)", tenant)
    await pruned(Pruning(pipeline.writes, jobs_days=30))
    assert pipeline.rows("SELECT job_id FROM document_jobs") == []


async def pruned(pruning: Pruning) -> None:
    """Let a pass come to its end."""
    async with asyncio.timeout(WITHIN_S):
        while await pruning.go_on():
            pass


async def test_two_partitions_that_bring_one_job_at_once_wait_for_each_other(pipeline: Pipeline) -> None:
    await pipeline.run(put("3", text="there"))  # whoever makes a collection is waited for sooner
    first = put(text="mine")
    other = put("2", text="another's", job_id=first.job_id)
    arrivals = [
        [pipeline.arrival(each, COMMAND_CODEC.encode(each), partition)] for partition, each in enumerate((first, other))
    ]
    async with pipeline.writes.transaction() as (connection, _):
        await connection.execute("LOCK TABLE document_texts IN SHARE MODE")  # both have looked for the job by then
        both = [asyncio.create_task(pipeline.again(each)) for each in arrivals]
        await a_lock_is_waited_for(pipeline, count=2)
    outcomes = await asyncio.gather(*both, return_exceptions=True)
    assert sorted(type(each).__name__ for each in outcomes) == ["Transient", "list"]


async def test_a_slice_that_waits_for_a_document_keeps_nobody_from_the_totals(pipeline: Pipeline) -> None:
    """Regression: intake locked totals, then documents, store the other way round: Postgres ended one of the two."""
    await pipeline.run(put("1", text="there"), put("2", text="there"))
    async with pipeline.writes.transaction() as (connection, _):
        await connection.execute("SELECT FROM documents WHERE document = '2' FOR UPDATE")
        waiting = asyncio.create_task(pipeline.commit(put("1", text="same"), deletion("1"), deletion("2")))
        await a_lock_is_waited_for(pipeline)
        assert pipeline.rows("SELECT count(*) AS count FROM (SELECT FROM document_totals FOR UPDATE NOWAIT) AS free")
    await waiting
    assert totals(pipeline) == {"submitted": 5, "stored": 2, "superseded": 1, "deleted": 2}


async def test_two_slices_that_make_the_same_collections_do_not_wait_for_each_other(pipeline: Pipeline) -> None:
    slices = [
        [put(f"{number}/{name}", collection=name) for name in names]
        for number, names in enumerate((("emma", "persuasion"), ("persuasion", "emma")))
    ]
    async with pipeline.writes.transaction() as (connection, _):
        await connection.execute("LOCK TABLE documents IN SHARE MODE")  # either has made a collection by then
        both = [asyncio.create_task(pipeline.commit(*each, partition=number)) for number, each in enumerate(slices)]
        await a_lock_is_waited_for(pipeline, count=2)
    assert [len(work) for work, _ in await asyncio.gather(*both)] == [2, 2]


async def test_a_slice_locks_a_collection_that_it_changes_before_any_document(pipeline: Pipeline) -> None:
    await pipeline.run(put(text="there"))
    async with pipeline.writes.transaction() as (connection, _):
        await connection.execute("SELECT FROM document_collections FOR SHARE")  # as a version that goes live does
        waiting = asyncio.create_task(pipeline.commit(put(text="edited"), reembedding()))
        await a_lock_is_waited_for(pipeline)
        await connection.execute("SELECT FROM documents FOR UPDATE NOWAIT")
    await waiting


async def test_chunks_that_another_deletes_are_left_to_a_later_look(pipeline: Pipeline, embedder: ToldEmbedder) -> None:
    await pipeline.run(put(text="there"), reembedding())
    pipeline.rows("UPDATE document_collections SET building = NULL, leaving = ARRAY[%s]", embedder.id)
    async with pipeline.writes.transaction() as (connection, _):
        await connection.execute(f"SELECT FROM document_chunks_{embedder.id[:16]} FOR UPDATE".encode())
        async with asyncio.timeout(WITHIN_S):
            await pipeline.build()
    assert pipeline.rows("SELECT leaving FROM document_collections") == [{"leaving": [embedder.id]}]
    await pipeline.build()
    assert pipeline.rows("SELECT leaving FROM document_collections") == [{"leaving": []}]
    assert pipeline.live() == {}


async def a_lock_is_waited_for(pipeline: Pipeline, *, count: int = 1) -> None:
    """Wait until *count* locks of the server are waited for."""
    async with asyncio.timeout(WITHIN_S):
        while len(pipeline.rows("SELECT 1 FROM pg_locks WHERE NOT granted")) < count:  # noqa: ASYNC110  Postgres tells nobody
            await asyncio.sleep(0.01)


async def test_a_version_that_the_log_does_not_take_has_failed(pipeline: Pipeline) -> None:
    command = put(text="large")
    pipeline.embedded.bytes_max = 10
    await pipeline.run(command)
    [row] = pipeline.rows("SELECT phase, starts, error FROM document_jobs")
    assert (row["phase"], row["starts"], row["error"]["reason"]) == ("failed", 0, "not_storable")


async def test_deleting_a_collection_again_leaves_tombstones_as_they_are(pipeline: Pipeline) -> None:
    commands = [
        DeleteCollection(tenant=TENANT, collection=BOOK, share=0, command_id=str(uuid4()), by="key") for _ in range(2)
    ]
    await pipeline.run(put(text="there"), *commands)
    rows = pipeline.rows("SELECT detail FROM document_commands WHERE kind = 'delete_collection' ORDER BY kafka_offset")
    assert [row["detail"] for row in rows] == ["1 documents", "0 documents"]


def file(text: str, document: str = "1") -> PutDocument:
    source = Source(content_type="text/plain", filename="a.txt", content=text.encode())
    return put(document, text=None, source=source)
