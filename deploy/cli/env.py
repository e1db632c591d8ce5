"""`tidegate env`: the stack's addresses and API key as variables of the shell."""

import os
import shlex

import typer

from deploy.cli import addresses
from deploy.cli.options import DEFAULT_DIR, Dir, Json
from deploy.cli.output import print_json
from deploy.errors import NotReachable

# As the README's commands use them.
VARIABLES: tuple[tuple[str, str], ...] = (
    ("GATEWAY", "gateway"),
    ("WEBSOCKET", "websocket"),
    ("KEY", "api_key"),
    ("KAFKA", "kafka"),
    ("POSTGRES", "postgres"),
)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("env")(env)


def env(folder: Dir = DEFAULT_DIR, *, as_json: Json = False) -> None:
    """Print what `eval "$(tidegate env)"` needs: GATEWAY, WEBSOCKET, KEY, KAFKA and POSTGRES, secrets included."""
    known = addresses.read(folder, os.environ)
    found = {name: str(value) for name, of in VARIABLES if (value := getattr(known, of)) is not None}
    if not found:
        raise NotReachable(f"no stack runs in {folder}: start one with `tidegate up` or set TIDEGATE_GATEWAY")
    if as_json:
        print_json(found)
        return
    for name, value in found.items():
        print(f"export {name}={shlex.quote(value)}")
