"""The composition of the `tidegate` command and its exit codes: 0 done, 1 failed, 2 usage, 3 not reachable."""

import os
import sys
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, TextIO

import typer
from rich.console import Console

from deploy.cli import (
    agents,
    config,
    dlq,
    doctor,
    endpoints,
    env,
    keys,
    lag,
    migrate,
    replay,
    retention,
    run,
    schemas,
    send,
    sign,
    stack,
    status,
    tail,
    tenants,
    topics,
)
from deploy.errors import Failed
from schemas.process.settings import SettingsInvalid

EXIT_USAGE = 2
HELP = "Run and operate Tidegate. Exit codes: 0 done, 1 failed, 2 usage, 3 not reachable."
COMMANDS = (
    stack, status, doctor, env, send, sign, tail, run, lag, dlq, replay, endpoints, retention, topics, schemas,
    tenants, agents, keys, migrate, config,
)  # fmt: skip


def build() -> typer.Typer:
    """The command with every group registered."""
    app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, help=HELP)
    app.callback()(_options)
    for group in COMMANDS:
        group.register(app)
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
    """Entry point of `tidegate`."""
    try:
        build()()
    except Failed as error:
        _complain(str(error))
        sys.exit(error.exit_code)
    except SettingsInvalid as error:
        _complain(str(error))
        sys.exit(EXIT_USAGE)
    except BrokenPipeError:  # whoever read the output has seen enough, such as `head`
        _silence(sys.stdout)
        sys.exit(Failed.exit_code)
    except OSError as error:
        _silence(sys.stdout)
        place = f"{error.filename}: " if error.filename is not None else ""
        _complain(f"{place}{error.strerror or error}")
        sys.exit(Failed.exit_code)


def _silence(stream: TextIO) -> None:
    """Let the interpreter flush what is left of *stream* to nowhere, instead of failing once more at its end."""
    with suppress(OSError, ValueError), Path(os.devnull).open("w") as nothing:
        os.dup2(nothing.fileno(), stream.fileno())


def _complain(text: str) -> None:
    Console(stderr=True, highlight=False).print(text, style="red", markup=False, soft_wrap=True)


if __name__ == "__main__":
    main()
