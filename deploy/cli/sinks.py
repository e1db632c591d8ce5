"""`tidegate sinks list|check|skip`: where records are sent in batches, and what to do about a sink that takes none."""

import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated

import typer

from deploy.admin import sinks as admin
from deploy.cli import addresses
from deploy.cli.options import DEFAULT_DIR, Dir, Json, Yes, existing_group
from deploy.cli.output import console, print_json, print_rows
from deploy.errors import CommandFailed
from deploy.local import settings_file
from schemas.process.interpreter import module_command, module_environment
from schemas.process.settings import as_environ
from schemas.sinks.topics import SINK, sink_of

CHECK_WITHIN_S = 600.0

Name = Annotated[str, typer.Argument(help="Of a sink in the file of TIDEGATE_SINKS.")]


def register(app: typer.Typer) -> None:
    """Add the commands of this group."""
    group = typer.Typer(no_args_is_help=True, help="Sinks, which are sent records in batches.")
    group.command("list")(list_sinks)
    group.command("check")(check)
    group.command("skip")(skip)
    app.add_typer(group, name="sinks")


def list_sinks(folder: Dir = DEFAULT_DIR, *, as_json: Json = False) -> None:
    """List the sinks, the source of each, and how many records of it wait."""
    kafka = addresses.kafka(folder)
    waiting = admin.waiting(kafka)
    rows = [
        {"sink": sink_of(group), "source": group.source.name, "waiting": waiting.get(group.name)}
        for group in admin.groups(kafka)
    ]
    print_rows(rows, as_json=as_json)


def check(name: Name, folder: Dir = DEFAULT_DIR, *, as_json: Json = False) -> None:
    """
    Write sample events of the type tidegate.check to a sink, as a group would, and say what it did.

    Run it against a sink that may keep them. Exit code 1 if the sink breaks the contract.
    """
    kafka = addresses.kafka(folder)
    asked = subprocess.run(
        module_command("processors", SINK.prefix, "--name", name, "--check"),
        env=module_environment() | dict(_settings(folder, name)) | as_environ(kafka),
        capture_output=True,
        text=True,
        timeout=CHECK_WITHIN_S,
        check=False,
    )
    said = list(_lines(asked.stdout + asked.stderr))
    rows = [
        {"check": line["check"], "result": "ok" if line["failure"] is None else line["failure"]}
        for line in said
        if line.get("event") == "sink checked"
    ]
    if not rows:
        reasons = [str(line["error"]) for line in said if line.get("error")]
        raise CommandFailed(reasons[-1] if reasons else f"the check ended with exit code {asked.returncode}")
    if as_json:
        print_json({"sink": name, "checks": rows})
    else:
        print_rows(rows, as_json=False)
    if failed := [row for row in rows if row["result"] != "ok"]:
        raise CommandFailed(f"{len(failed)} of {len(rows)} checks failed: sink {name} breaks the contract")


def skip(
    name: Name,
    folder: Dir = DEFAULT_DIR,
    *,
    partition: Annotated[int, typer.Option(min=0, help="Of the sink's source.")],
    to_offset: Annotated[int, typer.Option(min=0, help="The first offset that is not skipped.")],
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """
    Let a sink pass by what it does not take, up to an offset of one partition; it skips nothing that it takes.

    The order is kept in the topic of settled dead letters. The records stay in the log, where a replay finds them.
    """
    kafka = addresses.kafka(folder)
    order = admin.skippable(kafka, existing_group(f"{SINK.prefix}.{name}", kafka), partition, to_offset)
    what = f"{order.group.source.name}/{partition} from {order.first} up to, not including, {order.end}"
    if not yes:
        typer.confirm(f"Let sink {name} skip what it does not take of {what}?", abort=True)
    admin.skip(kafka, order)
    if as_json:
        print_json({"sink": name, "partition": partition, "from_offset": order.first, "to_offset": order.end})
    else:
        console.print(f"{name} skips what it does not take of {what}")


def _settings(folder: Path, name: str) -> Mapping[str, str]:
    """Return the settings of the sink in the stack in *folder*; without one, those of the environment."""
    known = {name: value for name, value in os.environ.items() if name.startswith(settings_file.PREFIX)}
    told = (settings_file.read(folder) or {}).get(f"{SINK.prefix}.{name}", {})
    credentials = settings_file.credentials_path(folder, os.environ)
    return {"TIDEGATE_CREDENTIALS": str(credentials), **told, **known}


def _lines(text: str) -> Iterator[Mapping[str, object]]:
    for line in text.splitlines():
        if line.startswith("{"):
            yield json.loads(line)
