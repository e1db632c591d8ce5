"""`tidegate documents submit`: texts and files, each as a document."""

import re
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from deploy.admin.documents import GOOD_ENDS, Documents, Json
from deploy.admin.gateway import Refused
from deploy.cli.document_options import Priority, Waiting, documents
from deploy.cli.document_rows import error_text
from deploy.cli.document_waiting import wait
from deploy.cli.job_options import read_json, without_none
from deploy.cli.options import DEFAULT_DIR, Dir
from deploy.cli.options import Json as AsJson
from deploy.cli.output import console, plain, print_json, progress_bar, table
from deploy.errors import CommandFailed
from gateway.client.documents import media_type_of, slug_of
from schemas.documents.rules import FILE_BYTES_MAX, PRIORITY_DEFAULT, RETRIES_DEFAULT, RETRIES_MAX

STDIN = "-"
MARKDOWN = (".md", ".markdown")
TEXTS = (".txt", *MARKDOWN)
CONCURRENT = 8
_NUMBER = re.compile(r"([0-9]{1,15})\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Source:
    """One document to submit."""

    path: Path | None  # None: standard input
    book: str
    chapter: int | str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """The options that all documents of a command share."""

    priority: int
    max_retries: int
    metadata: Any
    skip: bool


def submit(
    files: Annotated[
        list[str], typer.Argument(metavar="FILE...|-", help="Texts (txt, md), html, epub, docx or pdf; - is stdin.")
    ],
    folder: Dir = DEFAULT_DIR,
    *,
    book: Annotated[str | None, typer.Option(help="The book; the name of the file's folder by default.")] = None,
    chapter: Annotated[
        str | None, typer.Option(help="The chapter, of one file; by default the number at the end of its name, or it.")
    ] = None,
    priority: Priority = PRIORITY_DEFAULT,
    max_retries: Annotated[
        int, typer.Option(min=0, max=RETRIES_MAX, help="Further attempts where one of a text fails.")
    ] = RETRIES_DEFAULT,
    metadata: Annotated[
        str | None, typer.Option(metavar="JSON|@FILE", help="A JSON object, which searches may filter by.")
    ] = None,
    skip_bad_chunks: Annotated[
        bool, typer.Option("--skip-bad-chunks", help="Store the rest of a text where a chunk cannot be embedded.")
    ] = False,
    waiting: Waiting = False,
    as_json: AsJson = False,
) -> None:
    """Submit documents; each is in the log when this ends. The newest version of a document replaces the others."""
    sources = _sources(files, book=book, chapter=chapter)
    asked = _Asked(
        priority=priority,
        max_retries=max_retries,
        metadata=None if metadata is None else read_json(metadata, of="--metadata"),
        skip=skip_bad_chunks,
    )
    api = documents(folder)
    with ThreadPoolExecutor(CONCURRENT) as threads, progress_bar(shown=not as_json) as bars:
        bar = bars.add_task("submit", total=len(sources))
        rows: list[Json] = []
        for row in threads.map(partial(_submitted, api, asked), sources):
            rows.append(row)
            bars.advance(bar)
    if waiting:
        jobs = wait(api, (row["job_id"] for row in rows if "job_id" in row), shown=not as_json)
        rows = [row | _end(jobs[row["job_id"]]) if "job_id" in row else row for row in rows]
    _print(rows, as_json=as_json)
    if failed := [row for row in rows if "error" in row]:
        raise CommandFailed(f"{len(failed)} of {len(rows)} documents failed")


def _submitted(api: Documents, asked: _Asked, source: _Source) -> Json:
    """Return a row for a document: its job, or why there is none."""
    row: Json = {
        "file": STDIN if source.path is None else str(source.path),
        "book_slug": source.book,
        "chapter_index": source.chapter,
    }
    try:
        accepted = _send(api, asked, source)
    except OSError as error:
        return row | {"error": error.strerror or str(error)}
    except Refused as refused:
        return row | {"error": f"{refused.code}: {refused.detail}"}
    return row | {name: accepted[name] for name in ("job_id", "revision", "phase")}


def _send(api: Documents, asked: _Asked, source: _Source) -> Json:
    content = _content(source.path)
    text = _text(source.path, content)
    named = {"book_slug": source.book, "chapter_index": source.chapter}
    options = without_none(priority=asked.priority, metadata=asked.metadata)
    if text is not None:
        is_markdown = source.path is not None and source.path.suffix.lower() in MARKDOWN
        of_text = without_none(
            max_retries=asked.max_retries,
            on_chunk_error="skip" if asked.skip else None,
            format="markdown" if is_markdown else None,
        )
        return api.submit({**named, "text": text, **options, **of_text})
    assert source.path is not None, "standard input is a text"
    query = {name: _query_text(value) for name, value in {**named, "filename": source.path.name, **options}.items()}
    return api.upload(content, media_type=media_type_of(source.path), query=query)


def _content(path: Path | None) -> bytes:
    if path is None:
        return sys.stdin.buffer.read()
    if path.stat().st_size > FILE_BYTES_MAX:
        raise OSError(f"more than {FILE_BYTES_MAX} bytes: split it into parts")
    return path.read_bytes()


def _text(path: Path | None, content: bytes) -> str | None:
    """Return the text that a file is; None of one whose text is read out of it, or whose encoding is not UTF-8."""
    if path is not None and path.suffix.lower() not in TEXTS:
        return None
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if path is None:
            raise CommandFailed("standard input is no UTF-8") from error
        return None


def _query_text(value: object) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _sources(files: Sequence[str], *, book: str | None, chapter: str | None) -> list[_Source]:
    if chapter is not None and len(files) > 1:
        raise typer.BadParameter("--chapter names one document: give one file")
    if STDIN in files and (book is None or chapter is None):
        raise typer.BadParameter("standard input needs --book and --chapter")
    sources = []
    for name in files:
        path = None if name == STDIN else Path(name)
        if path is not None and not path.is_file():
            raise CommandFailed(f"{name}: there is no such file")
        sources.append(
            _Source(
                path=path,
                book=book or slug_of(_folder(path)),
                chapter=chapter_of(path) if chapter is None else chapter_named(chapter),
            )
        )
    if len({(source.book, source.chapter) for source in sources}) < len(sources):
        raise typer.BadParameter("two of the files would be one document: name their chapters one by one")
    return sources


def _folder(path: Path | None) -> Path:
    assert path is not None, "standard input has a book that was named"
    return Path(path.absolute().parent.name)


def chapter_of(path: Path | None) -> int | str:
    """Return the chapter that a file is: the number at the end of its name, else the name without its ending."""
    assert path is not None, "standard input has a chapter that was named"
    found = _NUMBER.search(path.stem)
    return int(found[1]) if found else path.stem


def chapter_named(text: str) -> int | str:
    """Return a chapter as JSON has it: a number where it is written as one."""
    return int(text) if text.isascii() and text.isdecimal() and str(int(text)) == text else text


def _end(job: Mapping[str, Any]) -> Json:
    found: Json = {"phase": job["phase"]}
    if job["phase"] not in GOOD_ENDS:
        found["error"] = error_text(job.get("error")) or f"the job is {job['phase']}"
    return found


def _print(rows: Sequence[Json], *, as_json: bool) -> None:
    if as_json:
        print_json(rows)
        return
    columns = ("file", "document", "job", "phase", "error")
    cells = (
        (
            row["file"],
            f"{row['book_slug']}/{row['chapter_index']}",
            row.get("job_id"),
            row.get("phase"),
            plain(str(row["error"])) if "error" in row else None,
        )
        for row in rows
    )
    console.print(table(columns, cells))
