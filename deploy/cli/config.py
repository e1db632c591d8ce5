"""`tidegate config show`."""

import re
from collections.abc import Mapping

import typer

from deploy.cli.options import DEFAULT_DIR, Dir, Json
from deploy.cli.output import MASK, console, masked, print_json, table
from deploy.cli.stack import running
from deploy.errors import NotReachable
from deploy.local import settings_file

SECRET_NAME = re.compile(r"SECRET|PASSWORD|TOKEN|API_KEY")


def register(app: typer.Typer) -> None:
    """Add the commands of this group."""
    group = typer.Typer(no_args_is_help=True, help="Settings.")
    group.command("show")(show)
    group.callback()(lambda: None)  # keeps `show` a command of its own, though it is the only one
    app.add_typer(group, name="config")


def show(folder: Dir = DEFAULT_DIR, *, as_json: Json = False) -> None:
    """Show the settings of each service of the running stack, without secrets."""
    running(folder)
    by_service = settings_file.read(folder)
    if by_service is None:
        raise NotReachable(f"no settings in {folder}")
    shown = {service: without_secrets(settings) for service, settings in by_service.items()}
    if as_json:
        print_json(shown)
        return
    names = sorted({name for settings in shown.values() for name in settings})
    console.print(
        table(("setting", *shown), ((name, *(settings.get(name) for settings in shown.values())) for name in names))
    )


def without_secrets(settings: Mapping[str, str]) -> dict[str, str]:
    """Return *settings* with each secret masked, and the password in each address."""
    return {name: MASK if SECRET_NAME.search(name) else masked(value) for name, value in settings.items()}
