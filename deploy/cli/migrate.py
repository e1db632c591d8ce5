"""`tidegate migrate`."""

import os

import typer

from deploy.admin import migrate
from deploy.cli import addresses
from deploy.cli.options import DEFAULT_DIR, Dir, Json
from deploy.cli.output import console, print_json


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("migrate")(apply)


def apply(folder: Dir = DEFAULT_DIR, *, as_json: Json = False) -> None:
    """Bring Postgres's tables to the newest version, as the owner of the tables."""
    applied = migrate.apply(addresses.read(folder, os.environ).need("postgres"))
    names = [f"{step.version:04}_{step.slug}" for step in applied]
    if as_json:
        print_json({"applied": names})
    else:
        console.print("\n".join(f"applied {name}" for name in names) or "the tables are up to date")
