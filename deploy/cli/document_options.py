"""Options that the commands for documents share, and the API that they call."""

import os
from pathlib import Path
from typing import Annotated

import typer

from deploy.admin.documents import Documents
from deploy.admin.gateway import GatewayCalls
from deploy.cli import addresses
from schemas.documents.rules import PRIORITY_DEFAULT, PRIORITY_MAX, PRIORITY_MIN

Book = Annotated[str, typer.Argument(metavar="BOOK", help="The book: a collection of documents.")]
Chapter = Annotated[str, typer.Argument(metavar="CHAPTER", help="The chapter: a number or a text.")]
JobId = Annotated[str, typer.Argument(metavar="JOB", help="The job.")]
Priority = Annotated[
    int,
    typer.Option(min=PRIORITY_MIN, max=PRIORITY_MAX, help=f"10 is the most urgent; {PRIORITY_DEFAULT} by default."),
]
Waiting = Annotated[bool, typer.Option("--wait", help="Wait for the end; exit code 1 unless all went well.")]


def documents(folder: Path) -> Documents:
    """Return the API of documents. Raises NotReachable: no gateway or key is known."""
    known = addresses.read(folder, os.environ)
    return Documents(GatewayCalls(known.need("gateway"), api_key=known.need("api_key")))
