"""`tidegate doctor`: what a stack needs, and what is wrong with it."""

import dataclasses
import os

import typer

from deploy.cli import addresses
from deploy.cli.options import DEFAULT_DIR, Dir, Json
from deploy.cli.output import print_rows
from deploy.errors import CommandFailed
from deploy.local.doctor import CheckState, examine


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("doctor")(doctor)


def doctor(folder: Dir = DEFAULT_DIR, *, as_json: Json = False) -> None:
    """Check this machine and the running stack; each problem says what to do."""
    known = addresses.read(folder, os.environ)
    findings = list(examine(folder, os.environ, kafka=known.kafka, postgres=known.postgres))
    print_rows([dataclasses.asdict(finding) for finding in findings], as_json=as_json)
    if problems := sum(finding.state is CheckState.PROBLEM for finding in findings):
        raise CommandFailed(f"{problems} problems")
