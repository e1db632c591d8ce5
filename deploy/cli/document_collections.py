"""`tidegate documents collections` and `reembed`: books, and the embedders that they are searched by."""

import time
from collections.abc import Callable
from typing import Annotated

import typer

from deploy.admin.documents import Documents, Json
from deploy.cli.document_options import Book, Waiting, documents
from deploy.cli.document_rows import COLLECTION_COLUMNS, collection_row
from deploy.cli.options import DEFAULT_DIR, Dir, Yes
from deploy.cli.options import Json as AsJson
from deploy.cli.output import console, plain, print_json, progress_bar, table
from deploy.errors import CommandFailed

POLL_S = 0.5


def collections(folder: Dir = DEFAULT_DIR, *, as_json: AsJson = False) -> None:
    """List the books: how much is in them, and by which embedder they are searched."""
    found = documents(folder).collections()
    if as_json:
        print_json(found)
    elif found:
        console.print(table(COLLECTION_COLUMNS, (collection_row(each) for each in found)))
    else:
        console.print("there is no book yet")


def reembed(
    book: Book,
    folder: Dir = DEFAULT_DIR,
    *,
    embedder: Annotated[str, typer.Option(help="The embedder: its name in TIDEGATE_EMBEDDERS, or its id.")],
    skip_failed: Annotated[
        bool, typer.Option("--skip-failed", help="Change over without what it fails at: searches no longer find that.")
    ] = False,
    waiting: Waiting = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """
    Embed a book with another embedder. Searches use the one before until all of it is done.

    What is submitted meanwhile is embedded by both; what is deleted stays deleted. A document that the embedder fails
    at holds the change up: ask for it once more to try such documents again, or to skip them.
    """
    api = documents(folder)
    before = api.collection(book)
    if not yes:
        question = f"Embed about {before['documents']} documents of {plain(book)} with {plain(embedder)}"
        question += ", and do without those that fail?" if skip_failed else "?"
        typer.confirm(question, abort=True, err=as_json)
    changed = api.reembed(book, embedder, skip_failed=skip_failed)
    if waiting:
        changed |= {"collection": _built(api, book, before, is_applied=changed["applied"], shown=not as_json)}
    if as_json:
        print_json(changed)
    elif waiting:
        console.print(f"{plain(book)} is searched by {plain(changed['collection']['embedder_name'])}", markup=False)
    else:
        console.print(f"{plain(book)} is being embedded: `tidegate documents collections` shows how far it is")


def _built(
    api: Documents,
    book: str,
    before: Json,
    *,
    is_applied: bool,
    shown: bool,
    sleep: Callable[[float], None] = time.sleep,
) -> Json:
    """
    Return the collection once no embedder is being built; the building may not have begun when this is called.

    Raises:
        CommandFailed: documents that failed hold the change up.
    """
    was_building = False
    with progress_bar(shown=shown) as bars:
        bars.add_task("embedding", total=None)
        while True:
            found = api.collection(book)
            was_building = was_building or found["building"] is not None
            has_changed = found["embedder"] != before["embedder"]
            if found["building"] is None and (was_building or has_changed):
                return found
            if found["is_blocked"] and is_applied:
                raise CommandFailed(
                    f"{found['building_failed']} documents of {book} failed and hold the change up: see `tidegate "
                    f"documents jobs --status failed --book {book}`, then repeat this command, or add --skip-failed"
                )
            is_applied = is_applied or not found["is_blocked"]
            sleep(POLL_S)
