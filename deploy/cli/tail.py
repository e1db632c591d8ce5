"""`tidegate tail`: the records of a topic or of one run, decoded and verified."""

import json
import os
import shlex
import sys
from collections.abc import Iterable
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Annotated

import typer

from deploy.cli import addresses, options
from deploy.cli.output import as_json_value, console
from deploy.errors import CommandFailed
from deploy.local.settings_file import credentials_path
from deploy.log.reading import Edge, Start, parse_start, records
from deploy.log.showing import DecodedRecord, show
from schemas.access.credentials import CredentialsFile, CredentialsInvalid, CurrentCredentials, FileCredentials
from schemas.kafka.connection import KafkaSettings, kcat_options
from schemas.runs.topics import RUN_EVENTS

RUN = "run"
KCAT_FORMAT = r"%T %t/%p/%o %k %S bytes %h\n"


def register(app: typer.Typer) -> None:
    """Add the command to *app*."""
    app.command()(tail)


def tail(
    topic: Annotated[str, typer.Argument(metavar="TOPIC|run", help="A topic, or the word run and a run's id.")],
    run_id: Annotated[str | None, typer.Argument(metavar="[ID]", help="The run.")] = None,
    *,
    folder: options.Dir = options.DEFAULT_DIR,
    start: Annotated[
        str | None,
        typer.Option(
            "--from",
            help="beginning, end, an offset (in each partition) or a time (RFC 3339). "
            "By default end when following a topic, else beginning.",
        ),
    ] = None,
    count: Annotated[int | None, typer.Option(min=1, help="Stop after so many records.")] = None,
    follow: Annotated[
        bool | None, typer.Option("--follow/--no-follow", help="Wait for what comes; by default without --count.")
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Print records as they lie in the log, and first the kcat command that prints the same ones."""
    if (topic == RUN) != (run_id is not None):
        raise typer.BadParameter("give a topic, or `run` and the id of a run")
    following = count is None if follow is None else follow
    begin = _start(start, default=Edge.END if following and run_id is None else Edge.BEGINNING)
    known = addresses.read(folder, os.environ)
    name = RUN_EVENTS.name if run_id is not None else topic
    kafka = known.need_kafka()
    command = kcat(kafka, name, begin, run_id=run_id, count=count, follow=following)
    print(command, file=sys.stderr if as_json else sys.stdout)
    proofs = read_credentials(folder)
    found = (
        show(raw, proofs)
        for raw in records(kafka, name, begin, follow=following)
        if run_id is None or raw.key == run_id.encode()
    )
    try:
        _print(islice(found, count), as_json=as_json)
    except KeyboardInterrupt:
        raise typer.Exit from None  # how a person ends it


def kcat(kafka: KafkaSettings, topic: str, start: Start, *, run_id: str | None, count: int | None, follow: bool) -> str:
    """Return the kcat command that prints place, key and size of the same records."""
    begin = f"s@{int(start.timestamp() * 1000)}" if isinstance(start, datetime) else start
    words = ["-t", topic, "-o", str(begin.value if isinstance(begin, Edge) else begin)]
    words += [] if follow else ["-e"]
    words += ["-c", str(count)] if count is not None and run_id is None else []
    command = " ".join(["kcat -C", *kcat_options(kafka), shlex.join([*words, "-f", KCAT_FORMAT])])
    if run_id is None:
        return command
    return f"{command} | grep -F {shlex.quote(f' {run_id} ')}" + ("" if count is None else f" | head -n {count}")


def _start(text: str | None, *, default: Edge) -> Start:
    try:
        return default if text is None else parse_start(text)
    except ValueError as error:
        raise typer.BadParameter(f"--from {text}: no beginning, end, offset or RFC 3339 time") from error


def read_credentials(folder: Path) -> CurrentCredentials | None:
    """
    Return what records are verified with; None where this machine has no credentials file.

    Raises:
        CommandFailed: the file cannot be used; says why.
    """
    path = credentials_path(folder, os.environ)
    try:
        return FileCredentials(CredentialsFile(path)) if path.exists() else None
    except CredentialsInvalid as error:
        raise CommandFailed(str(error)) from error


def _print(shown: Iterable[DecodedRecord], *, as_json: bool) -> None:
    for one in shown:
        if as_json:
            sys.stdout.write(json.dumps(one.document(), ensure_ascii=False, default=as_json_value) + "\n")
            sys.stdout.flush()
        elif console.is_terminal:
            console.print(one.line(), markup=False, no_wrap=True, overflow="ellipsis")  # --json has the whole of it
        else:
            print(one.line(), flush=True)
