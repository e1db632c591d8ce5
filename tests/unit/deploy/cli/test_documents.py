"""`tidegate documents` against a gateway that answers what a test tells it to."""

import json
from pathlib import Path
from typing import Any

import pytest
import typer

from deploy.admin.documents import Documents
from deploy.admin.gateway import GatewayCalls, Refused
from deploy.cli import document_waiting
from deploy.cli.document_submitting import chapter_named, chapter_of
from deploy.errors import CommandFailed
from tests.unit.deploy.cli.conftest import Command, Gateway, problem

JOB = "0192f3a0-0000-7000-8000-000000000001"
NAME = {"book_slug": "harbour", "chapter_index": 1}
ACCEPTED = {"job_id": JOB, "document": NAME, "revision": 4, "phase": "submitted", "wal_id": "document.commands/0/4"}
TIMES = {
    "submitted_at": "2026-01-01T12:00:00Z",
    "queued_at": None,
    "begun_at": None,
    "chunked_at": None,
    "embedded_at": None,
    "ended_at": None,
    "queue_s": 0.25,
    "chunk_s": None,
    "embed_s": None,
    "store_s": None,
}
DOCUMENT = {
    "document": NAME,
    "latest_revision": 4,
    "live_revision": 4,
    "live_job": JOB,
    "fingerprint": "ab",
    "text_sha256": "cd",
    "parser": "text",
    "characters": 40,
    "chunks": 1,
    "missing": None,
    "metadata": {"year": 1910},
    "stored_at": "2026-01-01T12:00:01Z",
}
CHUNK = {"chunk": 0, "span": [0, 40], "heading": None, "text": "The ice closed the harbour on 4 January."}
HIT = {
    "document": NAME,
    "revision": 4,
    "chunk": 0,
    "span": [0, 40],
    "heading": None,
    "text": "The ice closed\nthe harbour on 4 January.",
    "score": 0.0325,
    "vector": {"rank": 2, "score": 0.8},
    "words": {"rank": 1, "score": 0.1},
    "metadata": None,
}
FOUND = {"hits": [HIT], "embedders": ["e"], "complete": True, "degraded": [], "took_ms": 3.0}
COLLECTION = {
    "book_slug": "harbour",
    "embedder": "a",
    "embedder_name": "minilm",
    "building": None,
    "building_name": None,
    "building_failed": 0,
    "is_blocked": False,
    "language": "english",
    "documents": 3,
    "chunks": 9,
    "is_estimate": False,
    "created_at": "2026-01-01T12:00:00Z",
}
SUBMIT, UPLOAD, STATUS = "POST /api/documents", "POST /api/documents/uploads", f"GET /api/documents/jobs/{JOB}"


def job(phase: str = "stored", **more: Any) -> dict[str, Any]:
    return {
        "job_id": JOB,
        "document": NAME,
        "revision": 4,
        "kind": "put",
        "phase": phase,
        "priority": 5,
        "lane": "normal",
        "cost": 40,
        "generation": 1,
        "attempts": 0,
        "max_retries": 3,
        "version": 2,
        "embedded": None,
        "error": None,
        "parent_job": None,
        "submitted_by": "k",
        "times": TIMES,
        **more,
    }


@pytest.fixture
def chapter(tmp_path: Path) -> Path:
    """Return a text in a folder that is named as a book."""
    file = tmp_path / "harbour" / "log-01.txt"
    file.parent.mkdir()
    file.write_text("The ice closed the harbour on 4 January.")
    return file


def test_a_text_is_submitted_as_the_chapter_that_its_name_says(
    command: Command, gateway: Gateway, chapter: Path
) -> None:
    gateway.answer(SUBMIT, (202, ACCEPTED))
    said = command("documents", "submit", str(chapter), "--metadata", '{"year": 1910}', "--priority", "9")
    assert JOB in said
    assert gateway.sent(SUBMIT) == [
        {**NAME, "text": chapter.read_text(), "priority": 9, "max_retries": 3, "metadata": {"year": 1910}}
    ]
    [(_, _, headers)] = gateway.asked
    assert headers["Idempotency-Key"].startswith("cli-")


def test_markdown_says_so_and_what_is_no_text_is_uploaded(command: Command, gateway: Gateway, chapter: Path) -> None:
    gateway.answer(SUBMIT, (202, ACCEPTED))
    gateway.answer(UPLOAD, (202, ACCEPTED))
    notes, book = chapter.with_name("notes.md"), chapter.with_name("book 2.epub")
    notes.write_text("# Ice")
    book.write_bytes(b"PK\xff")
    latin = chapter.with_name("latin.txt")
    latin.write_bytes(b"K\xe5kan")
    said = json.loads(command("documents", "submit", str(notes), str(book), str(latin), "--json"))
    assert [row["chapter_index"] for row in said] == ["notes", 2, "latin"]
    [text] = gateway.sent(SUBMIT)
    assert (text["format"], text["chapter_index"]) == ("markdown", "notes")
    uploads = {path: headers["Content-Type"] for path, _, headers in gateway.asked if path.startswith(UPLOAD)}
    assert sorted(uploads.values()) == ["application/epub+zip", "text/plain"]
    assert any("book_slug=harbour&chapter_index=2&filename=book+2.epub" in path for path in uploads)


def test_standard_input_is_a_text_that_must_be_named(command: Command, gateway: Gateway) -> None:
    gateway.answer(SUBMIT, (202, ACCEPTED))
    command("documents", "submit", "-", "--book", "harbour", "--chapter", "07", answer="Ice")
    [text] = gateway.sent(SUBMIT)
    assert (text["text"], text["chapter_index"]) == ("Ice", "07")
    with pytest.raises((typer.BadParameter, AssertionError), match="standard input needs --book and --chapter"):
        command("documents", "submit", "-", answer="Ice")


def test_waiting_ends_with_the_phase_and_fails_where_a_document_did(
    command: Command, gateway: Gateway, chapter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(document_waiting, "POLL_FIRST_S", 0.0)
    gateway.answer(SUBMIT, (202, ACCEPTED))
    gateway.answer(STATUS, job("submitted"), job("embedding", embedded={"done": 1, "of": 2}), job())
    [row] = json.loads(command("documents", "submit", str(chapter), "--wait", "--json"))
    assert row["phase"] == "stored"
    gateway.answer(STATUS, job("failed", error={"stage": "parse", "reason": "no_text", "detail": "a scan"}))
    with pytest.raises(CommandFailed, match="1 of 1 documents failed"):
        command("documents", "submit", str(chapter), "--wait")


def test_a_document_that_is_refused_keeps_none_back(command: Command, gateway: Gateway, chapter: Path) -> None:
    other = chapter.with_name("log-02.txt")
    other.write_text(" ")
    gateway.answer(SUBMIT, problem(422, "VALIDATION_ERROR", "", ("/text", "more than white space")), (202, ACCEPTED))
    with pytest.raises(CommandFailed, match="1 of 2 documents failed"):
        command("documents", "submit", str(chapter), str(other))
    assert len(gateway.sent(SUBMIT)) == 2


def test_files_that_would_be_one_document_are_not_submitted(command: Command, gateway: Gateway, chapter: Path) -> None:
    other = chapter.with_name("copy 01.txt")
    other.write_text("x")
    with pytest.raises((typer.BadParameter, AssertionError), match="two of the files would be one document"):
        command("documents", "submit", str(chapter), str(other))
    with pytest.raises(CommandFailed, match="there is no such file"):
        command("documents", "submit", "absent.txt")
    assert gateway.asked == []


@pytest.mark.parametrize(("name", "found"), [("chapter-01.txt", 1), ("emma.md", "emma"), ("7.txt", 7)])
def test_a_chapter_is_the_number_at_the_end_of_a_name(name: str, found: int | str) -> None:
    assert chapter_of(Path(name)) == found


@pytest.mark.parametrize(("text", "found"), [("7", 7), ("07", "07"), ("-1", "-1"), ("٣", "٣"), ("a", "a")])
def test_a_chapter_that_is_written_as_a_number_is_one(text: str, found: int | str) -> None:
    assert chapter_named(text) == found


def test_a_job_is_shown_with_its_stage_times_and_its_failure(command: Command, gateway: Gateway) -> None:
    error = {"stage": "embed", "reason": "bad_chunk", "detail": "no vector", "chunk": 3}
    gateway.answer(STATUS, job("failed", error=error, embedded={"done": 3, "of": 9}))
    said = command("documents", "status", JOB)
    assert "embed, chunk 3: bad_chunk: no vector" in said
    assert "3 of 9" in said
    assert "0.250 s" in said
    with pytest.raises(CommandFailed, match="the job is failed: embed, chunk 3"):
        command("documents", "status", JOB, "--wait")


def test_a_job_that_intake_has_not_come_to_says_so(command: Command, gateway: Gateway) -> None:
    gateway.answer(STATUS, {"job_id": JOB, "phase": "submitted", "visible": False, "links": {}})
    assert "intake has not come to it" in command("documents", "status", JOB)


def test_a_job_that_is_not_there_is_named(command: Command, gateway: Gateway) -> None:
    gateway.answer(STATUS, problem(404, "NOT_FOUND", "no such job"))
    with pytest.raises(CommandFailed, match=f"the tenant of this key has no job {JOB}"):
        command("documents", "status", JOB)


def test_jobs_are_listed_by_phase(command: Command, gateway: Gateway) -> None:
    gateway.answer("GET /api/documents/jobs", {"jobs": [job("failed")], "next_cursor": None})
    assert command("documents", "jobs", "--status", "failed", "--ids") == f"{JOB}\n"
    assert gateway.asked[0][0] == "GET /api/documents/jobs?status=failed&limit=20"
    assert "harbour/1" in command("documents", "jobs")


@pytest.mark.parametrize("action", ["cancel", "retry"])
def test_a_job_is_cancelled_and_run_again(command: Command, gateway: Gateway, action: str) -> None:
    changed = {"job_id": JOB, "phase": "cancelled", "wal_id": "document.commands/0/5", "applied": True}
    gateway.answer(f"POST /api/documents/jobs/{JOB}/{action}", (202, changed))
    assert command("documents", action, JOB) == f"job {JOB} is cancelled\n"
    gateway.answer(f"POST /api/documents/jobs/{JOB}/{action}", problem(409, "JOB_STATE", "it is stored"))
    with pytest.raises(Refused, match="JOB_STATE: it is stored"):
        command("documents", action, JOB)


def test_documents_are_listed_over_pages_and_one_is_shown_with_its_chunks(command: Command, gateway: Gateway) -> None:
    gateway.answer(
        "GET /api/documents",
        {"documents": [DOCUMENT], "next_cursor": "c"},
        {"documents": [DOCUMENT], "next_cursor": None},
    )
    assert len(json.loads(command("documents", "list", "--book", "harbour", "--json"))) == 2
    assert gateway.asked[1][0] == "GET /api/documents?book_slug=harbour&limit=20&cursor=c"
    gateway.answer("GET /api/documents/harbour/1", DOCUMENT)
    gateway.answer("GET /api/documents/harbour/1/chunks", {"chunks": [CHUNK], "next_cursor": None})
    said = command("documents", "show", "harbour", "1", "--chunks")
    assert '{"year":1910}' in said
    assert "The ice closed the harbour" in said


def test_hits_are_shown_with_their_passage_and_both_ranks(command: Command, gateway: Gateway) -> None:
    gateway.answer("POST /api/search", FOUND)
    said = command("documents", "search", "When did it freeze?", "--book", "harbour", "-k", "3", "--mode", "hybrid")
    assert said.splitlines()[1].split()[:5] == ["1", "harbour/1", "0.0325", "2", "1"]
    assert "0.0325" in said
    assert "The ice closed the harbour on 4 January." in said
    assert gateway.sent("POST /api/search") == [
        {"query": "When did it freeze?", "k": 3, "mode": "hybrid", "collections": ["harbour"]}
    ]


def test_what_a_search_lacks_is_said(command: Command, gateway: Gateway) -> None:
    gateway.answer("POST /api/search", {**FOUND, "hits": [], "complete": False, "degraded": ["vector: too slow"]})
    said = command("documents", "search", "ice")
    assert said == "nothing was found\na scan ended short: more may match\nwithout the leg vector: too slow\n"


def test_a_document_is_deleted_once_it_is_confirmed(command: Command, gateway: Gateway) -> None:
    gateway.answer("DELETE /api/documents/harbour/1", (202, ACCEPTED))
    gateway.answer(STATUS, job("deleted", kind="delete"))
    said = command("documents", "delete", "harbour", "1", "--wait", answer="y\n")
    assert f"harbour/1 is deleted (job {JOB})" in said
    gateway.answer("DELETE /api/documents/harbour", (202, {"book_slug": "harbour", "command_id": "c", "applied": True}))
    assert "book harbour is being deleted" in command("documents", "delete", "harbour", "--yes")


def test_a_book_is_embedded_once_more_until_its_embedder_has_changed(command: Command, gateway: Gateway) -> None:
    changed = {"book_slug": "harbour", "command_id": "c", "wal_ids": [], "applied": False}
    gateway.answer("POST /api/documents/collections/harbour/reembed", (202, changed))
    gateway.answer(
        "GET /api/documents/collections",
        *(
            {"collections": [each], "next_cursor": None}
            for each in (COLLECTION, {**COLLECTION, "embedder": "b", "embedder_name": "openai"})
        ),
    )
    said = command("documents", "reembed", "harbour", "--embedder", "openai", "--yes", "--wait")
    assert said == "harbour is searched by openai\n"
    assert gateway.sent("POST /api/documents/collections/harbour/reembed") == [
        {"embedder": "openai", "skip_failed": False}
    ]


def test_a_change_of_embedder_that_documents_hold_up_is_not_waited_for(command: Command, gateway: Gateway) -> None:
    blocked = {**COLLECTION, "building": "b", "building_name": "openai", "building_failed": 2, "is_blocked": True}
    changed = {"book_slug": "harbour", "command_id": "c", "wal_ids": [], "applied": True}
    gateway.answer("POST /api/documents/collections/harbour/reembed", (202, changed))
    gateway.answer("GET /api/documents/collections", {"collections": [blocked], "next_cursor": None})
    with pytest.raises(CommandFailed, match="2 documents of harbour failed and hold the change up"):
        command("documents", "reembed", "harbour", "--embedder", "openai", "--yes", "--wait")
    assert "openai, 2 failed (blocked)" in command("documents", "collections")
    command("documents", "reembed", "harbour", "--embedder", "openai", "--yes", "--skip-failed")
    asked = gateway.sent("POST /api/documents/collections/harbour/reembed")
    assert [each["skip_failed"] for each in asked] == [False, True]


def test_a_book_that_is_not_there_is_named(command: Command, gateway: Gateway) -> None:
    gateway.answer("GET /api/documents/collections", {"collections": [COLLECTION], "next_cursor": None})
    assert "harbour" in command("documents", "collections")
    with pytest.raises(CommandFailed, match="the tenant of this key has no book emma"):
        command("documents", "reembed", "emma", "--embedder", "openai")


def test_figures_begin_with_the_line_that_adds_up(command: Command, gateway: Gateway) -> None:
    gateway.answer("GET /api/documents/metrics", {"balance": "3 = 3 + 0", "total_submitted": 3, "lanes": {}})
    said = command("documents", "metrics").splitlines()
    assert said[0] == "3 = 3 + 0"
    assert said[-1].split() == ["total_submitted", "3"]


def test_labelled_questions_become_figures_of_each_kind_of_search(
    command: Command, gateway: Gateway, tmp_path: Path
) -> None:
    questions = tmp_path / "questions.json"
    asked = {"id": "q-1", "book": "harbour", "chapter": 1, "question": "When?", "spans": ["on 4 January"]}
    questions.write_text(json.dumps([asked]))
    gateway.answer("GET /api/documents/harbour/1/chunks", {"chunks": [CHUNK], "next_cursor": None})
    gateway.answer("POST /api/search", FOUND)
    said = json.loads(command("documents", "evaluate", str(questions), "--json"))
    assert {mode: figures["mrr_at_10"]["mean"] for mode, figures in said.items()} == dict.fromkeys(
        ("hybrid", "vector", "text"), 1.0
    )
    assert "1.00 (1.00 to 1.00)" in command("documents", "evaluate", str(questions), "--mode", "text")
    gateway.answer("POST /api/search", {**FOUND, "degraded": ["vector"]})
    with pytest.raises(CommandFailed, match="no figure would be true"):
        command("documents", "evaluate", str(questions))


def test_a_quotation_that_is_not_stored_is_named(command: Command, gateway: Gateway, tmp_path: Path) -> None:
    questions = tmp_path / "questions.json"
    asked = {"id": "q-1", "book": "harbour", "chapter": 1, "question": "When?", "spans": ["in May"]}
    questions.write_text(json.dumps([asked]))
    gateway.answer("GET /api/documents/harbour/1/chunks", {"chunks": [CHUNK], "next_cursor": None})
    with pytest.raises(CommandFailed, match="question q-1: harbour/1 does not have 'in May'"):
        command("documents", "evaluate", str(questions))


def test_a_wait_looks_at_the_oldest_jobs_first(gateway: Gateway) -> None:
    ids = [f"job-{number}" for number in range(20)]
    for job_id in ids:
        gateway.answer(f"GET /api/documents/jobs/{job_id}", job(job_id=job_id))
    api = Documents(GatewayCalls(gateway.url, api_key="k"))
    assert list(document_waiting.wait(api, ids, shown=False)) == ids
    assert len(gateway.asked) == 20
