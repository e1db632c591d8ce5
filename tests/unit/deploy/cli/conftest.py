"""A folder of a stack that does not run, and the command on it."""

import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner

from deploy.cli.app import build
from deploy.local import development

NOW = datetime(2026, 1, 1, tzinfo=UTC)

Command = Callable[..., str]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with the credentials of a stack that does not run; no setting names another."""
    for name in [name for name in os.environ if name.startswith("TIDEGATE_")]:
        monkeypatch.delenv(name)
    development.prepare(tmp_path, logins=[], now=NOW)
    return tmp_path


@pytest.fixture
def command(folder: Path) -> Command:
    """Return a function that runs the command on the folder, returns what it printed and raises what it raised."""

    def run(*arguments: str, answer: str | bytes | None = None) -> str:
        done = CliRunner().invoke(build(), [*arguments, "--dir", str(folder)], input=answer, catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.stdout

    return run
