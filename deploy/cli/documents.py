"""`tidegate documents`: submit texts and files, follow their jobs, search them, and change whole books."""

from typing import Annotated, Any

import typer

from deploy.admin.documents import GOOD_ENDS
from deploy.cli import (
    document_collections,
    document_evaluation,
    document_searching,
    document_submitting,
)
from deploy.cli.document_options import Book, Chapter, JobId, Waiting, documents
from deploy.cli.document_rows import (
    DOCUMENT_COLUMNS,
    JOB_COLUMNS,
    document_row,
    document_rows,
    error_text,
    job_row,
    job_rows,
)
from deploy.cli.document_waiting import wait
from deploy.cli.options import DEFAULT_DIR, Dir, Json, Yes
from deploy.cli.output import console, plain, print_json, table
from deploy.errors import CommandFailed
from schemas.documents.states import DocumentAction, Phase

LISTED = 20


def register(app: typer.Typer) -> None:
    """Add the commands of this group."""
    group = typer.Typer(no_args_is_help=True, help="Documents: submitted, embedded, searched.")
    for name, command in (
        ("submit", document_submitting.submit),
        ("status", status),
        ("jobs", list_jobs),
        ("cancel", cancel),
        ("retry", retry),
        ("list", list_documents),
        ("show", show),
        ("delete", delete),
        ("search", document_searching.search),
        ("collections", document_collections.collections),
        ("reembed", document_collections.reembed),
        ("evaluate", document_evaluation.evaluate),
        ("metrics", metrics),
    ):
        group.command(name)(command)
    app.add_typer(group, name="documents")


def status(job_id: JobId, folder: Dir = DEFAULT_DIR, *, waiting: Waiting = False, as_json: Json = False) -> None:
    """Show how far a job is, and why it failed."""
    api = documents(folder)
    job = wait(api, [job_id], shown=not as_json)[job_id] if waiting else api.job(job_id)
    if as_json:
        print_json(job)
    else:
        console.print(table(("job", plain(job["job_id"])), job_rows(job)))
    if waiting and job["phase"] not in GOOD_ENDS:
        found = error_text(job.get("error"))
        raise CommandFailed(f"the job is {job['phase']}" + (f": {plain(found)}" if found else ""))


def list_jobs(
    folder: Dir = DEFAULT_DIR,
    *,
    phase: Annotated[Phase | None, typer.Option("--status", help="Only jobs in this phase.")] = None,
    book: Annotated[str | None, typer.Option(help="Only jobs of this book.")] = None,
    count: Annotated[int, typer.Option(min=1, help="How many, the newest first.")] = LISTED,
    ids: Annotated[bool, typer.Option("--ids", help="Print the ids alone, one a line.")] = False,
    as_json: Json = False,
) -> None:
    """List jobs, the newest first."""
    query = {"status": None if phase is None else phase.value, "book_slug": book}
    found = documents(folder).jobs(_asked(query), count=count)
    if as_json:
        print_json(found)
    elif ids:
        for job in found:
            print(job["job_id"])
    elif found:
        console.print(table(JOB_COLUMNS, (job_row(job) for job in found)))
    else:
        console.print("there is no such job")


def cancel(job_id: JobId, folder: Dir = DEFAULT_DIR, *, as_json: Json = False) -> None:
    """Cancel a job that is in flight; the live version of its document stays."""
    _print_changed(documents(folder).change_job(job_id, DocumentAction.CANCEL), as_json=as_json)


def retry(job_id: JobId, folder: Dir = DEFAULT_DIR, *, as_json: Json = False) -> None:
    """Run a failed or cancelled job again, under the same id and revision."""
    _print_changed(documents(folder).change_job(job_id, DocumentAction.RETRY), as_json=as_json)


def list_documents(
    folder: Dir = DEFAULT_DIR,
    *,
    book: Annotated[str | None, typer.Option(help="Only documents of this book.")] = None,
    count: Annotated[int, typer.Option(min=1, help="How many.")] = LISTED,
    as_json: Json = False,
) -> None:
    """List live documents, by book and chapter."""
    found = documents(folder).listed(_asked({"book_slug": book}), count=count)
    if as_json:
        print_json(found)
    elif found:
        console.print(table(DOCUMENT_COLUMNS, (document_row(each) for each in found)))
    else:
        console.print("there is no such document")


def show(
    book: Book,
    chapter: Chapter,
    folder: Dir = DEFAULT_DIR,
    *,
    chunks: Annotated[bool, typer.Option("--chunks", help="Its chunks too, with their places in the text.")] = False,
    as_json: Json = False,
) -> None:
    """Show one document: its revisions, and what of it is live."""
    api = documents(folder)
    found = api.document(book, chapter)
    parts = api.chunks(book, chapter) if chunks else []
    if as_json:
        print_json(found | ({"chunk_list": parts} if chunks else {}))
        return
    console.print(table(("document", plain(f"{book}/{chapter}")), document_rows(found)))
    if parts:
        rows = ((each["chunk"], each["span"][0], each["span"][1], each["heading"], each["text"]) for each in parts)
        console.print(table(("chunk", "from", "to", "heading", "text"), rows))


def delete(
    book: Book,
    chapter: Annotated[
        str | None, typer.Argument(metavar="[CHAPTER]", help="The chapter; without one the whole book.")
    ] = None,
    folder: Dir = DEFAULT_DIR,
    *,
    waiting: Waiting = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Delete a document or a whole book: what is in flight of it, too. Searches do not find it any more."""
    api = documents(folder)
    if not yes:
        what = f"the book {plain(book)}" if chapter is None else f"{plain(book)}/{plain(chapter)}"
        typer.confirm(f"Delete {what}?", abort=True, err=as_json)
    deleted = api.delete(book, chapter)
    if waiting and "job_id" in deleted:
        deleted |= {"phase": wait(api, [deleted["job_id"]], shown=not as_json)[deleted["job_id"]]["phase"]}
    if as_json:
        print_json(deleted)
    elif chapter is None:
        console.print(f"book {plain(book)} is being deleted", markup=False)
    else:
        words = "is deleted" if deleted["phase"] == Phase.DELETED else "is being deleted"
        console.print(f"{plain(book)}/{plain(chapter)} {words} (job {deleted['job_id']})", markup=False)


def metrics(folder: Dir = DEFAULT_DIR, *, as_json: Json = False) -> None:
    """Show the figures of documents, and the line in which they add up."""
    found = documents(folder).metrics()
    if as_json:
        print_json(found)
        return
    console.print(plain(found["balance"]), markup=False)
    rows = ((name, value) for name, value in found.items() if not isinstance(value, dict) and name != "balance")
    console.print(table(("figure", ""), rows))


def _asked(query: dict[str, str | None]) -> dict[str, str]:
    return {name: value for name, value in query.items() if value is not None}


def _print_changed(changed: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(changed)
        return
    words = "is" if changed["applied"] else "will soon have changed from"
    console.print(f"job {changed['job_id']} {words} {changed['phase']}", markup=False, soft_wrap=True)
