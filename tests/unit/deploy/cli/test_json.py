"""`--json` on every command, and what JSON and tables look like."""

import io
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import click
import pytest
import typer

from deploy.cli import output
from deploy.cli.app import build
from deploy.cli.options import GROUP_NAMES, known_group
from deploy.local.logs import as_documents


def leaves(command: click.Command, *path: str) -> Iterator[tuple[str, click.Command]]:
    """Yield every command that does something, by its whole name."""
    if isinstance(command, click.Group) or hasattr(command, "commands"):
        for name, inner in command.commands.items():  # type: ignore[attr-defined]
            yield from leaves(inner, *path, name)
    else:
        yield " ".join(path), command


COMMANDS = dict(leaves(typer.main.get_command(build())))


def test_the_tree_is_walked() -> None:
    assert {"lag", "keys create", "agents rotate", "run show", "logs", "schemas show"} <= COMMANDS.keys()


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_has_json(name: str) -> None:
    options = {option for each in COMMANDS[name].params for option in getattr(each, "opts", [])}
    assert "--json" in options


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_says_what_it_does(name: str) -> None:
    assert COMMANDS[name].help


def test_times_are_rfc_3339(capsys: pytest.CaptureFixture[str]) -> None:
    moment = datetime(2026, 1, 1, 12, tzinfo=UTC)
    east = moment.astimezone(timezone(timedelta(hours=2)))
    output.print_json({"at": moment, "there": east, "path": Path("a/b"), "names": {"b", "a"}})
    shown = json.loads(capsys.readouterr().out)
    assert shown == {
        "at": "2026-01-01T12:00:00Z",
        "there": "2026-01-01T14:00:00+02:00",
        "path": "a/b",
        "names": ["a", "b"],
    }


def test_a_table_is_not_wrapped_in_a_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eighty columns are a terminal's; a program reads a row a line."""
    piped = io.StringIO()
    monkeypatch.setattr(output.console, "_file", piped)
    monkeypatch.setenv("COLUMNS", "80")
    output.print_rows(
        [{"first_offset": number, "text": "x" * 300, "types": ["a", "b"], "none": None} for number in (1, 2)],
        as_json=False,
        absent={"none": "all"},
    )
    head, *rows = piped.getvalue().splitlines()
    assert head.split() == ["first", "offset", "text", "types", "none"]
    assert [row.split() for row in rows] == [[number, "x" * 300, "a,", "b", "all"] for number in ("1", "2")]
    assert "\x1b" not in piped.getvalue()


def test_long_text_is_not_wrapped_in_a_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    piped = io.StringIO()
    monkeypatch.setattr(output.console, "_file", piped)
    output.console.print("word " * 100)
    assert len(piped.getvalue().splitlines()) == 1


@pytest.mark.parametrize(
    "name", ["evaluation.default", "evaluation:default", "tidegate.evaluation.default", "tidegate.evaluation:default"]
)
def test_a_group_has_one_name_and_older_spellings_count(name: str) -> None:
    assert known_group(name).name == "evaluation.default"
    assert known_group("tidegate.persistence").name == known_group("persistence").name == "persistence"
    assert ":" not in GROUP_NAMES


def test_an_unknown_group_is_a_usage_error_that_names_the_known_ones() -> None:
    with pytest.raises(typer.BadParameter, match=r"no group nobody; use one of persistence.*evaluation\.ENDPOINT"):
        known_group("nobody")


def test_a_log_as_json_is_a_document_a_line() -> None:
    texts = ['{"event": "start', 'ing"}\nplain text\n\n', "[1]\ncut"]
    assert [json.loads(line) for line in "".join(as_documents(texts)).splitlines()] == [
        {"event": "starting"},
        {"message": "plain text"},
        {"message": "[1]"},
        {"message": "cut"},
    ]
