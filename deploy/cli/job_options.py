"""Options that the commands for jobs share, and the API that they call."""

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from deploy.admin.gateway import GatewayCalls
from deploy.admin.tasks import Tasks
from deploy.cli import addresses
from deploy.cli.addresses import Addresses
from deploy.errors import CommandFailed
from schemas.jobs.rules import ATTEMPTS_MAX, PRIORITY_MAX, PRIORITY_MIN

JobId = Annotated[str, typer.Argument(metavar="ID", help="The job.")]
QueueName = Annotated[str, typer.Argument(metavar="QUEUE", help="The queue.")]
Parameters = Annotated[
    str, typer.Option("--parameters", "-p", metavar="JSON|@FILE", help="What the task is given; @- is stdin.")
]
Metadata = Annotated[
    str | None, typer.Option(metavar="JSON|@FILE", help="A JSON object that is kept with the job, to find it by.")
]
Queue = Annotated[str | None, typer.Option(help="The queue; the type's own by default.")]
Priority = Annotated[
    int | None, typer.Option(min=PRIORITY_MIN, max=PRIORITY_MAX, help="10 is the most urgent; 5 by default.")
]
MaxAttempts = Annotated[
    int | None, typer.Option(min=1, max=ATTEMPTS_MAX, help="Attempts at most; the type's own by default.")
]


def reads(folder: Path) -> Addresses:
    """Return the addresses of the deployment."""
    return addresses.read(folder, os.environ)


def tasks(folder: Path) -> Tasks:
    """Return the API of jobs. Raises NotReachable: no gateway or key is known."""
    known = reads(folder)
    return Tasks(GatewayCalls(known.need("gateway"), api_key=known.need("api_key")))


def read_json(text: str, *, of: str) -> Any:
    """
    Return the JSON that an option has, or that stands in the file that it names.

    Raises:
        typer.BadParameter: it is no JSON.
        CommandFailed: there is no such file.
    """
    if text.startswith("@"):
        text = _content(text[1:], of)
    try:
        return msgspec.json.decode(text)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise typer.BadParameter(f"{of} is no JSON: {error}") from error


def without_none(**fields: object) -> dict[str, object]:
    """Return *fields* without those that are None."""
    return {name: value for name, value in fields.items() if value is not None}


def _content(name: str, of: str) -> str:
    try:
        return sys.stdin.read() if name == "-" else Path(name).read_text()
    except UnicodeDecodeError as error:
        raise typer.BadParameter(f"{of}: {name} is no UTF-8") from error
    except OSError as error:
        raise CommandFailed(f"{of}: {name}: {error.strerror}") from error
