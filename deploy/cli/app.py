"""The composition of the `tidegate` command and its exit codes: 0 done, 1 failed, 2 usage, 3 not reachable."""

import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, TextIO

import typer
from rich.console import Console

from deploy.errors import CommandFailed
from schemas.process.settings import SettingsInvalid

EXIT_USAGE = 2
HELP = "Run and operate Tidegate. Exit codes: 0 done, 1 failed, 2 usage, 3 not reachable."
# Each command and its module in deploy/cli, in the order of the help.
COMMANDS: Mapping[str, str] = {
    **dict.fromkeys(("up", "down", "logs", "restart"), "stack"),
    **{
        name: name
        for name in (
            *(
                "status",
                "doctor",
                "env",
                "send",
                "sign",
                "tail",
                "run",
                "events",
                "jobs",
                "documents",
                "lag",
                "dlq",
                "replay",
                "bench",
            ),
            *(
                "endpoints",
                "sinks",
                "retention",
                "archive",
                "topics",
                "schemas",
                "tenants",
                "agents",
                "keys",
                "issuers",
                "migrate",
                "config",
            ),
        )
    },
}


def build(wanted: str | None = None) -> typer.Typer:
    """
    Return `tidegate` with every command, or with those of the module that has *wanted*.

    Importing all of them takes most of a second.
    """
    app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, help=HELP)
    app.callback()(_options)
    module_of_wanted = COMMANDS.get(wanted or "")
    for module in [module_of_wanted] if module_of_wanted else dict.fromkeys(COMMANDS.values()):
        import_module(f"deploy.cli.{module}").register(app)
    return app


def _show_version(shown: bool) -> None:  # noqa: FBT001  # as typer calls it
    if shown:
        print(f"tidegate {version('tidegate')}")
        raise typer.Exit


def _options(
    *,
    version_shown: Annotated[  # its callback has ended the program
        bool, typer.Option("--version", is_eager=True, callback=_show_version, help="Print the version.")
    ] = False,
) -> None:
    """Take the options that come before a command."""


def main() -> None:
    """Run `tidegate`."""
    wanted = next((word for word in sys.argv[1:] if not word.startswith("-")), None)
    try:
        build(wanted)()
    except CommandFailed as error:
        _complain(str(error))
        sys.exit(error.exit_code)
    except SettingsInvalid as error:
        _complain(str(error))
        sys.exit(EXIT_USAGE)
    except BrokenPipeError:  # whoever read the output has seen enough, such as `head`
        _silence(sys.stdout)
        sys.exit(CommandFailed.exit_code)
    except OSError as error:
        _silence(sys.stdout)
        place = f"{error.filename}: " if error.filename is not None else ""
        _complain(f"{place}{error.strerror or error}")
        sys.exit(CommandFailed.exit_code)


def _silence(stream: TextIO) -> None:
    """Let the interpreter flush what is left of *stream* to nowhere, instead of failing once more at its end."""
    with suppress(OSError, ValueError), Path(os.devnull).open("w") as nothing:
        os.dup2(nothing.fileno(), stream.fileno())


def _complain(text: str) -> None:
    Console(stderr=True, highlight=False).print(text, style="red", markup=False, soft_wrap=True)


if __name__ == "__main__":
    main()
