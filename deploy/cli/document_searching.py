"""`tidegate documents search`: passages that answer a question, with the ranks of both legs."""

from enum import StrEnum
from typing import Annotated

import typer

from deploy.cli.document_options import documents
from deploy.cli.document_rows import HIT_COLUMNS, hit_row
from deploy.cli.job_options import read_json, without_none
from deploy.cli.options import DEFAULT_DIR, Dir, Json
from deploy.cli.output import console, plain, print_json, table

HITS = 5
HITS_MAX = 100


class Mode(StrEnum):
    """The legs of a search."""

    HYBRID = "hybrid"
    VECTOR = "vector"
    TEXT = "text"


def search(
    query: Annotated[str, typer.Argument(metavar="QUERY", help="A question, or words.")],
    folder: Dir = DEFAULT_DIR,
    *,
    book: Annotated[list[str] | None, typer.Option(help="Only in this book; may be repeated.")] = None,
    count: Annotated[int, typer.Option("--count", "-k", min=1, max=HITS_MAX, help="How many hits.")] = HITS,
    mode: Annotated[Mode, typer.Option(help="Both legs, or one of them.")] = Mode.HYBRID,
    filters: Annotated[
        str | None, typer.Option("--filter", metavar="JSON|@FILE", help="A filter on the metadata of documents.")
    ] = None,
    by_document: Annotated[
        bool, typer.Option("--by-document", help="The best passage of each document alone.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Search the live versions of documents; exit code 0 also where nothing is found."""
    asked = without_none(
        query=query,
        k=count,
        mode=mode.value,
        collections=book or None,
        filters=None if filters is None else read_json(filters, of="--filter"),
        group_by="document" if by_document else None,
    )
    found = documents(folder).search(asked)
    if as_json:
        print_json(found)
        return
    if not found["hits"]:
        console.print("nothing was found")
    else:
        console.print(table(HIT_COLUMNS, (hit_row(place, hit) for place, hit in enumerate(found["hits"], 1))))
    if not found["complete"]:
        console.print("a scan ended short: more may match")
    for leg in found["degraded"]:
        console.print(f"without the leg {plain(str(leg))}", markup=False)
