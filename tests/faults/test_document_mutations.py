"""Mistakes in the groups of documents that the account of a book must see: each mutation turns it red."""

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any

import pytest

from processors.documents.intake import deletions
from processors.documents.intake import store as intake_store
from processors.documents.store import chunks, versions
from processors.documents.work.handler import WorkHandler
from processors.runtime.errors import Transient
from schemas.documents.records import DocumentEmbedded, DocumentWork, Embedding
from schemas.documents.states import Lane
from tests.faults.documents import Book, faults, paragraphs
from tests.faults.processes import free_port
from tests.support.embedders import ToldEmbedder
from tests.support.jobs import JobServer
from tests.support.pipeline import Pipeline

Mutation = Callable[[pytest.MonkeyPatch], None]


@pytest.fixture(scope="module")
def document_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JobServer]:
    folder = tmp_path_factory.mktemp("documents")
    folder.chmod(0o755)
    server = JobServer(folder, free_port())
    server.start()
    try:
        server.set_up()
        yield server
    finally:
        server.stop()


@pytest.fixture
async def pipeline(document_server: JobServer) -> AsyncIterator[Pipeline]:
    async with Pipeline(document_server.documents, document_server.owner, [ToldEmbedder()]) as pipeline:
        pipeline.clear()
        yield pipeline


def compares_no_revisions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Store whatever comes last."""

    async def supersede_nothing(*_arguments: object, **_named: object) -> Sequence[Any]:
        return ()

    monkeypatch.setattr(versions, "_is_superseded", lambda *_arguments: False)
    monkeypatch.setattr(versions, "supersede_before", supersede_nothing)


def gives_no_work_out_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a command that comes again be done with."""
    monkeypatch.setattr(intake_store, "UNBEGUN", f"{intake_store.UNBEGUN} AND false")


def marks_what_is_not_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """Note a version as embedded before the log has acknowledged it."""
    write = WorkHandler._write

    async def mark_and_write(handler: WorkHandler, record: DocumentEmbedded) -> None:
        work = DocumentWork(
            tenant=record.tenant,
            collection=record.collection,
            document=record.document,
            job_id=record.job_id,
            revision=record.revision,
            generation=record.generation,
            lane=Lane.NORMAL,
            cost=1,
            embedders=[],
        )
        await handler._stages.journal.embedded(work)
        await write(handler, record)

    monkeypatch.setattr(WorkHandler, "_write", mark_and_write)


def leaves_no_tombstone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Delete the row of a document with it."""
    statement = (
        "DELETE FROM documents WHERE tenant_id = %(tenant)s AND collection = %(collection)s AND document = %(document)s"
    )
    monkeypatch.setattr(deletions, "BURY", statement)


def drops_equal_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the digest of a chunk for its identity."""
    new_chunks = chunks.new_chunks

    def unequal(text: str, embedding: Embedding) -> Sequence[Any]:
        return list({each.sha256: each for each in new_chunks(text, embedding)}.values())

    monkeypatch.setattr(chunks, "new_chunks", unequal)


async def ordeal(pipeline: Pipeline, book: Book) -> None:
    """Let processes die between rows and log, the log be away, and records come late."""
    _, arrivals = await pipeline.commit(book.put("lost before the lanes", "text"))
    await pipeline.run_work(*await pipeline.again(arrivals))

    work, _ = await pipeline.commit(book.put("written again", "text"))
    pipeline.embedded.is_away = True
    with suppress(Transient):
        await pipeline.embed(*work)
    pipeline.embedded.is_away = False
    await pipeline.run_work(*work)

    old, new = book.put("overtaken", "old"), book.put("overtaken", "new")
    work, _ = await pipeline.commit(old, new)
    by_job = {each.job_id: each for each in work}
    late = await pipeline.embed(by_job[old.job_id])
    await pipeline.run_work(by_job[new.job_id])
    await pipeline.make_live(*late)

    arrival = pipeline.arrival(book.put("deleted", "text"), b"", 0)
    await pipeline.run(book.delete("deleted"))
    await pipeline.run_work(*await pipeline.again([arrival]))

    await pipeline.run(book.put("repeating itself", paragraphs("a", "b", "a", "b")))
    await pipeline.run(book.put("repeating itself", paragraphs("a", "b", "a", "b", "a")))


async def test_without_a_mutation_the_same_ordeal_breaks_nothing(pipeline: Pipeline) -> None:
    book = Book()
    await ordeal(pipeline, book)
    assert faults(pipeline.rows, book, embedder=ToldEmbedder().id) == []


@pytest.mark.parametrize(
    ("mutation", "seen"),
    [
        (compares_no_revisions, "overtaken: chunk 0 is of another version"),
        (gives_no_work_out_again, "lost before the lanes is not live"),
        (marks_what_is_not_written, "written again is not live"),
        (leaves_no_tombstone, "deleted has chunks and is not live"),
        (drops_equal_chunks, "repeating itself: its chunks are numbered"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
async def test_a_mutation_is_seen(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch, mutation: Mutation, seen: str
) -> None:
    mutation(monkeypatch)
    book = Book()
    await ordeal(pipeline, book)
    found = faults(pipeline.rows, book, embedder=ToldEmbedder().id)
    assert any(each.startswith(seen) for each in found), found
