"""
Documents under faults: what is live is what was put last and not deleted, whole, and each job ends once.

Commands are written to the log as a gateway does; the three groups turn them into chunks on the way.
"""

import json
import os
import random
import signal
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest

from processors.runtime.failpoints import EXIT_KILLED, Failpoint
from schemas.documents import topics
from schemas.documents.records import Command, PutDocument, ReembedCollection, Source
from schemas.documents.topics import DOCUMENT_COMMANDS
from schemas.objects.references import reference_to, to_json
from tests.faults.cut_log import delete
from tests.faults.documents import (
    DOCUMENTS,
    Book,
    Rows,
    check,
    jobs_of,
    paragraphs,
    rows_of,
    send,
    submitting,
    text_of,
    wait_ended,
)
from tests.faults.embedding_server import SLOW_S, EmbeddingServer, Fault, embedding_server, vector_of
from tests.faults.processes import family, for_a_while, held_down, own_process, paused
from tests.support.documents import docx, epub, flated, paragraph, pdf, stream, zipped
from tests.support.lag import wait_until_handled
from tests.support.pipeline import TENANT
from tests.support.stack import RunningStack, running, tidegate, wait_until

INTAKE, EMBED, STORE = PROCESSES = ("documents-intake", "documents-embed", "documents-store")
OTHERS = ("gateway", "persistence", "fanout", "maintenance", "evaluation", "events", "jobs-intake", "executor")
STEPS = [
    (INTAKE, Failpoint.BEFORE_COMMIT, 3),
    (INTAKE, Failpoint.AFTER_ROWS, 3),
    (INTAKE, Failpoint.AFTER_COMMIT_BEFORE_OFFSET, 4),
    (EMBED, Failpoint.BEFORE_TX, 5),
    (EMBED, Failpoint.AFTER_CACHED, 5),
    (EMBED, Failpoint.BEFORE_COMMIT, 5),
    (EMBED, Failpoint.AFTER_COMMIT_BEFORE_OFFSET, 4),
    (STORE, Failpoint.BEFORE_TX, 5),
    (STORE, Failpoint.BEFORE_COMMIT, 5),
    (STORE, Failpoint.AFTER_ROWS, 5),
]
STEPS_OF_EVERY_GROUP = {
    Failpoint.AFTER_POLL: 4,
    Failpoint.BEFORE_DLQ_ACK: 3,
    Failpoint.AFTER_COMMIT_BEFORE_OFFSET: 6,
    Failpoint.AFTER_OFFSET: 3,
}


MIB = 1024 * 1024
LONG_CHUNKS = 2000
REBALANCED_SLOW_S = 0.3  # for some chunks: longer in all than a worker that gives its partitions up goes on
CHUNKS_OF_TURN = 16
FAULTS = (
    Fault.BROKEN,
    Fault.HANGING,
    Fault.CUT,
    Fault.INCOMPLETE,
    Fault.WRONG_DIMENSIONS,
    Fault.NOT_A_NUMBER,
    Fault.LIMITED,  # the last one: nothing is sent for a while
)
RESUMES_S = 1.5  # more than the server asks to be left alone for
COLLECTION = "SELECT embedder, building, leaving FROM document_collections WHERE collection = %s"
DEEP = "at the bottom"


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddingServer]:
    """Yield the server of the embedder `openai`."""
    with embedding_server() as server:
        yield server


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, server: EmbeddingServer) -> Iterator[RunningStack]:
    """Yield a stack of documents alone."""
    folder = tmp_path_factory.mktemp("stack")
    without = [part for name in OTHERS for part in ("--without", name)]
    settings = {"TIDEGATE_EMBEDDERS": "hash,openai", **server.environ()}
    try:
        with running(folder, "--ports", "auto", *without, environ={**os.environ, **settings}) as started:
            yield started
    finally:
        tidegate("down", "--purge", "--dir", str(folder))


def test_processes_that_die_at_each_step_cost_no_document(stack: RunningStack, tmp_path: Path) -> None:
    check_steps(stack, tmp_path, STEPS)


def check_steps(stack: RunningStack, folder: Path, steps: Sequence[tuple[str, Failpoint, int]]) -> None:
    """Let a process die at each of *steps*, beside those of the stack, while a book comes in."""
    book = Book()
    with ExitStack() as ending:
        dying = [
            ending.enter_context(own_process(stack, folder, name, environ={"TIDEGATE_FAILPOINT": f"{point}:{hits}"}))
            for name, point, hits in steps
        ]
        for each in dying:
            each.wait_ready()
        with submitting(stack, book.history()):
            for each in dying:
                assert each.wait_end() == EXIT_KILLED, each.log
    check(stack, book)


@pytest.mark.soak
@pytest.mark.parametrize("name", PROCESSES)
def test_processes_that_die_at_each_step_of_the_loop_cost_no_document(
    stack: RunningStack, tmp_path: Path, name: str
) -> None:
    steps = dict(STEPS_OF_EVERY_GROUP)
    if name == STORE:
        del steps[Failpoint.BEFORE_DLQ_ACK]  # it writes nothing to the log where all goes well
    check_steps(stack, tmp_path, [(name, point, hits) for point, hits in steps.items()])


@pytest.mark.parametrize("times", [1, pytest.param(3, marks=[pytest.mark.soak, pytest.mark.timeout(900)])])
def test_processes_that_are_killed_cost_no_document(stack: RunningStack, times: int) -> None:
    book, chance = Book(), random.Random(times)
    with submitting(stack, book.history()) as submission:
        for turn in range(times):
            submission.wait_for(30 + 60 * turn)
            kill(stack, *(PROCESSES if times == 1 else [PROCESSES[turn]]), after_s=chance.random())
    for _ in range(times - 1):
        for name in PROCESSES:
            again = Book()
            with submitting(stack, again.history(times)) as submission:
                submission.wait_for(chance.randint(20, 200))
                kill(stack, name, after_s=chance.random())
            check(stack, again)
    check(stack, book)


def test_postgres_that_rests_and_a_broker_that_is_killed_cost_no_document(stack: RunningStack) -> None:
    book = Book()
    with submitting(stack, book.history()) as submission:
        submission.wait_for(60)
        with paused(family(stack.process("postgres").pid)):
            for_a_while(8)
        submission.wait_for(120)
        kill(stack, "kafka")
    check(stack, book)
    assert not any(row["starts"] for row in jobs_of(rows_of(stack), book).values())


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_postgres_that_rests_for_a_minute_costs_no_document(stack: RunningStack) -> None:
    book = Book()
    with submitting(stack, book.history()) as submission:
        submission.wait_for(60)
        with paused(family(stack.process("postgres").pid)):
            for_a_while(60)
    check(stack, book)


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_postgres_that_is_killed_costs_no_document(stack: RunningStack) -> None:
    book = Book()
    with submitting(stack, book.history()) as submission:
        for turn in range(5):
            submission.wait_for(20 + 40 * turn)
            kill(stack, "postgres")
    check(stack, book)


@pytest.mark.soak
@pytest.mark.parametrize("workers", [2, 3])
def test_a_worker_that_joins_others_and_is_killed_costs_no_document(
    stack: RunningStack, tmp_path: Path, workers: int
) -> None:
    book = Book()
    with ExitStack() as ending, submitting(stack, book.history()) as submission:
        others = [ending.enter_context(own_process(stack, tmp_path, EMBED)) for _ in range(workers - 1)]
        for each in others:
            each.wait_ready()
        submission.wait_for(DOCUMENTS // 2)
        others[-1].kill()
        others[-1].wait_end()
        for each in others[:-1]:
            each.kill(signal.SIGTERM)
            assert each.wait_end() == 0, each.log
    check(stack, book)


def test_a_long_document_comes_to_its_end_though_its_worker_is_killed(stack: RunningStack, tmp_path: Path) -> None:
    """Neither worker is given the time that the whole of it takes: what the first has done is in the cache."""
    book = of_server(stack, Book())
    command = keep(stack, book, "long", long_text(1))
    rows = rows_of(stack)
    with held_down(stack, EMBED):
        with own_process(stack, tmp_path, EMBED) as first:
            send(stack, [command])
            wait_until(lambda: cached(rows) >= LONG_CHUNKS // 4, timeout_s=120, what="a part of it to be embedded")
            first.kill()
            first.wait_end()
            kept = cached(rows)
        with own_process(stack, tmp_path, EMBED) as second:
            wait_ended(rows, book)
            assert second.metric("tidegate_document_chunks_total", source="cache") >= kept
            assert second.metric("tidegate_document_chunks_total", source="computed") <= LONG_CHUNKS * 2 - kept
    check(stack, book, embedder=embedder_of(rows, "openai"))


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_a_long_document_comes_to_its_end_over_rebalances(
    stack: RunningStack, tmp_path: Path, server: EmbeddingServer
) -> None:
    """Each worker gives its partitions up before it can have embedded the whole."""
    book = of_server(stack, Book())
    send(stack, [keep(stack, book, "long", long_text(2))])
    rows = rows_of(stack)
    server.slow_s = REBALANCED_SLOW_S
    while not all(row["ended_at"] for row in jobs_of(rows, book).values()) or not jobs_of(rows, book):
        with own_process(stack, tmp_path, EMBED) as other:
            other.wait_ready()
            for_a_while(2)
            other.kill(signal.SIGTERM)
            other.wait_end()
    server.slow_s = SLOW_S
    check(stack, book, embedder=embedder_of(rows, "openai"))
    assert not any(row["starts"] for row in jobs_of(rows, book).values())


def test_texts_in_object_storage_wait_until_it_is_back(stack: RunningStack) -> None:
    book, objects = Book(), stack.folder / "objects"
    for number in range(20):
        keep(stack, book, str(number), paragraphs(f"kept{number}", "same"))
    away = objects.rename(stack.folder / "away")
    send(stack, book.commands)
    wait_until(
        lambda: "object storage is away" in stack.log(INTAKE), timeout_s=60, what="intake to find object storage away"
    )
    beside = Book()
    send(stack, [beside.put(str(number), "beside") for number in range(20)])
    away.rename(objects)
    for each in (book, beside):
        wait_ended(rows_of(stack), each)
    check(stack, book)
    check(stack, beside)


def test_faults_of_an_embedder_store_nothing_of_their_documents(stack: RunningStack) -> None:
    book, rows = of_server(stack, Book()), rows_of(stack)
    # Without a fault, as each vector says which input it is of.
    send(
        stack, [book.put(fault, paragraphs(str(Fault.PERMUTED), "sound", "version", fault.upper())) for fault in FAULTS]
    )
    wait_ended(rows, book)
    for fault in FAULTS:
        # Its first chunks are embedded, and its last one meets the fault.
        text = paragraphs(*(f"{number}of{fault.upper()}" for number in range(CHUNKS_OF_TURN + 4)), str(fault))
        send(stack, [book.put(fault, text, fails="embedder_away", max_retries=0)])
        wait_ended(rows, book)
    for_a_while(RESUMES_S)
    send(stack, [book.put("after them", paragraphs("sound", "again"))])
    check(stack, book, embedder=embedder_of(rows, "openai"))
    check_vectors(rows, book)


@pytest.mark.soak
def test_an_embedder_whose_faults_pass_stores_everything(stack: RunningStack, server: EmbeddingServer) -> None:
    book, rows = of_server(stack, Book()), rows_of(stack)
    server.faults_max = 1
    try:
        for fault in FAULTS:
            send(stack, [book.put(fault, paragraphs("sound", f"once{fault}", "sound too"))])
            wait_until(
                lambda: any(row["attempts"] for row in jobs_of(rows, book).values() if row["document"] == fault),  # noqa: B023
                timeout_s=60,
                what="the attempt to fail",
            )
        check(stack, book, embedder=embedder_of(rows, "openai"))
    finally:
        server.faults_max = None


@pytest.mark.soak
def test_a_worker_that_dies_before_it_notes_the_parts_of_a_file_doubles_none(
    stack: RunningStack, tmp_path: Path
) -> None:
    book = Book()
    content = epub({f"{number}.xhtml": f"<p>Chapter {number}" for number in range(1, 6)})
    source = Source(content_type="application/epub+zip", filename="a.epub", content=content)
    command = book.put("book", None, becomes="Chapter 1", source=source)
    book.live |= {f"book/{number}": f"Chapter {number}" for number in range(2, 6)}
    with held_down(stack, EMBED):
        send(stack, [command])
        with own_process(stack, tmp_path, EMBED, environ={"TIDEGATE_FAILPOINT": f"{Failpoint.AFTER_PARTS}:1"}) as own:
            assert own.wait_end() == EXIT_KILLED, own.log
    rows = rows_of(stack)
    wait_until(lambda: len(jobs_of(rows, book)) == 6, timeout_s=60, what="a job for each part")
    check(stack, book)


def test_hostile_files_cost_no_document_beside_them(stack: RunningStack) -> None:
    book = Book()
    pids = {name: stack.process(name).pid for name in PROCESSES}
    commands: list[Command] = []
    for number, (name, (filename, content, reason)) in enumerate(hostile_files().items()):
        commands += [book.put(f"{number}", paragraphs(f"beside{number}"))]
        source = Source(content_type="application/octet-stream", filename=filename, content=content)
        if reason is None:
            commands += [book.put(name, None, becomes=DEEP, source=source)]
        else:
            commands += [book.put(name, None, fails=reason, source=source)]
    send(stack, commands)
    check(stack, book)
    assert {name: stack.process(name).pid for name in PROCESSES} == pids


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_a_model_is_swapped_with_puts_and_deletes_meanwhile_and_everything_killed(stack: RunningStack) -> None:
    book, rows = Book(), rows_of(stack)
    send(stack, list(book.history(1)))
    wait_ended(rows, book)
    following = embedder_of(rows, "openai")
    command = ReembedCollection(
        tenant=TENANT, collection=book.collection, command_id=str(uuid4()), embedder=following, by="test"
    )
    send(stack, [command])
    with submitting(stack, changes_of(book)) as submission:
        for turn, name in enumerate(PROCESSES):
            submission.wait_for(5 + 15 * turn)
            kill(stack, name)
    wait_until(
        lambda: (
            rows("SELECT embedder, building, leaving FROM document_collections WHERE collection = %s", book.collection)
            == [{"embedder": following, "building": None, "leaving": []}]
        ),
        timeout_s=300,
        what="the collection to have the next embedder",
    )
    check(stack, book, embedder=following)


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_commands_that_were_deleted_and_created_again_stop_intake(stack: RunningStack) -> None:
    """Comes last: revisions of the old topic are no longer comparable, and nothing goes on until that is mended."""
    send(stack, [Book().put("1", "before")])
    wait_until_handled(stack, topics.INTAKE)
    delete(stack, DOCUMENT_COMMANDS.name)
    stack.attempt("topics", "create")
    wait_until(
        lambda: (
            f"topic {DOCUMENT_COMMANDS.name} was deleted and created again, and the tables hold" in stack.log(INTAKE)
        ),
        timeout_s=120,
        what="intake to refuse the topic",
    )
    assert "tidegate topics accept" in stack.log(INTAKE)


def kill(stack: RunningStack, *names: str, after_s: float = 0.0) -> None:
    """Kill processes of the stack together, and wait until they are back."""
    for_a_while(after_s)
    pids = {name: stack.kill(name) for name in names}
    for name, pid in pids.items():
        stack.wait_restarted(name, pid)


def of_server(stack: RunningStack, book: Book) -> Book:
    """Let a book be embedded by the server."""
    rows = rows_of(stack)
    rows(
        "INSERT INTO document_collections (tenant_id, collection, embedder) VALUES (%s, %s, %s)",
        TENANT,
        book.collection,
        embedder_of(rows, "openai"),
    )
    return book


def keep(stack: RunningStack, book: Book, document: str, text: str) -> PutDocument:
    """Return a Put of a text that is kept in object storage."""
    reference = reference_to(text.encode(), tenant=TENANT, run_id=f"documents/{book.collection}")
    file = stack.folder / "objects" / reference.key
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return book.put(document, None, becomes=text, text_ref=to_json(reference))


def long_text(version: int) -> str:
    """Return a text of many chunks, each of which takes the server a while."""
    return "\n\n".join(f"{Fault.SLOW} {version}" + f" {number:04}" * 120 for number in range(LONG_CHUNKS))


def embedder_of(rows: Rows, name: str) -> str:
    """Return the id of the embedder of that name."""
    [found] = rows("SELECT embedder FROM document_embedders WHERE name = %s", name)
    return str(found["embedder"])


def cached(rows: Rows) -> int:
    """Return how many vectors of the server are in the cache."""
    [found] = rows("SELECT count(*) FROM document_vectors WHERE embedder = %s", embedder_of(rows, "openai"))
    return int(found["count"])


def check_vectors(rows: Rows, book: Book) -> None:
    """Check that each chunk has the vector that the server gave for its text."""
    [known] = rows("SELECT chunks FROM document_embedders WHERE name = 'openai'")
    for row in rows(f"SELECT text, vector::text FROM {known['chunks']} WHERE collection = %s", book.collection):
        wanted = np.array(vector_of(row["text"]))
        assert np.allclose(json.loads(row["vector"]), wanted / np.linalg.norm(wanted), atol=1e-3), row["text"][:40]


def changes_of(book: Book) -> Iterator[Command]:
    """Yield edits and deletes of what is live, and new documents."""
    for number in range(0, 60, 3):
        yield book.put(str(number), text_of(number, 3))
        if str(number + 1) in book.live:
            yield book.delete(str(number + 1))
        yield book.put(f"new {number}", text_of(number, 4))


def hostile_files() -> dict[str, tuple[str, bytes, str | None]]:
    """Return files that are bombs, broken or not what they say: a name, the content, the reason of the failure."""
    page = "<html><body><p>text</p></body></html>"
    word = docx(paragraph("cut off"))
    cycle = pdf({1: "<< /Type /Catalog /Pages 2 0 R >>", 2: "<< /Type /Pages /Kids [2 0 R 2 0 R] /Count 99999999 >>"})
    bomb = stream(flated(b" " * 50 * MIB, times=2), filters="/Filter [/FlateDecode /FlateDecode]")
    inflating = pdf(
        {
            1: "<< /Type /Catalog /Pages 2 0 R >>",
            2: "<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
            3: "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 600 800] /Contents 4 0 R >>",
            4: bomb,
        }
    )
    return {
        "zip bomb": ("a.epub", epub({"a.xhtml": page, "b.xhtml": b" " * 60 * MIB}), "archive_bounds"),
        "deep page": ("a.html", b"<div>" * 15_000 + DEEP.encode(), None),
        "endless pages": ("a.pdf", cycle, "corrupt"),
        "inflating page": ("a.pdf", inflating, "no_text"),
        "cut off": ("a.docx", word[: len(word) // 2], "corrupt"),
        "wrong magic": ("a.pdf", b"\x89PNG\r\n\x1a\n" + bytes(100), "type_mismatch"),
        "archive in an archive": ("a.docx", zipped({"word/document.xml": word}), "nested_archive"),
        "nothing": ("a.txt", b" \n ", "no_text"),
    }
