"""
Output of commands: tables for people, JSON for programs.

JSON is data: names without spaces, times in RFC 3339, lists as lists, None as null. `NO_COLOR` is honoured by rich.
"""

import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from rich.console import Console, ConsoleDimensions
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

MASK = "***"

PIPE_COLUMNS = 100_000  # of a pipe or a file: nothing is wrapped there


class _Output(Console):
    """Standard output: as wide as the terminal; what is no terminal has no width."""

    @property
    def size(self) -> ConsoleDimensions:
        """See `Console.size`."""
        return super().size if self.is_terminal else ConsoleDimensions(PIPE_COLUMNS, 25)

    @size.setter
    def size(self, new_size: tuple[int, int]) -> None:
        Console.size.fset(self, new_size)  # type: ignore[attr-defined]  # mypy sees no property of the base class


console = _Output(highlight=False)


def print_json(value: object) -> None:
    """Print *value* as one JSON document, times by RFC 3339."""
    sys.stdout.write(json.dumps(value, indent=2, default=as_json_value) + "\n")


def as_json_value(value: object) -> object:
    """Return how JSON shows a *value* that it has no notation for."""
    match value:
        case datetime():
            return value.isoformat().replace("+00:00", "Z")
        case set() | frozenset():
            return sorted(value)
        case _:
            return str(value)


def table(columns: Sequence[str], rows: Iterable[Iterable[object]]) -> Table:
    """Return a plain table of values; a column is headed by its name in words."""
    drawn = Table(box=None, header_style="bold", pad_edge=False)
    for column in columns:
        drawn.add_column(column.replace("_", " "), overflow="fold")  # a cut address is of no use
    for row in rows:
        drawn.add_row(*(Text(plain(shown(cell))) for cell in row))
    return drawn


def plain(text: str) -> str:
    """Return *text* from outside as it may be shown: nothing in it steers the terminal."""
    return "".join(one if one.isprintable() else f"\\u{ord(one):04x}" for one in text)


def shown(cell: object) -> str:
    """Return *cell* as a person reads it."""
    match cell:
        case None:
            return "-"
        case bool():
            return "yes" if cell else "no"
        case datetime():
            return f"{cell.astimezone():%Y-%m-%d %H:%M:%S}"
        case float():
            return f"{cell:.1f}"
        case list() | tuple():
            return ", ".join(map(shown, cell)) or "none"
        case _:
            return str(cell)


def masked(address: str) -> str:
    """Return *address* without the password in it."""
    return re.sub(r"(?<=:)[^:/@]+(?=@)", MASK, address)


def progress_bar(*, shown: bool) -> Progress:
    """Return a bar for tasks that count; on a terminal only."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=console, transient=True, disable=not (shown and console.is_terminal))


def print_rows(rows: Sequence[Mapping[str, object]], *, as_json: bool, absent: Mapping[str, str] | None = None) -> None:
    """Print *rows*, which have the same names, as a table or a JSON array; *absent* words what None means by name."""
    if as_json:
        print_json(rows)
    elif rows:
        words = absent or {}
        cells = ([words.get(name) if cell is None else cell for name, cell in row.items()] for row in rows)
        console.print(table(list(rows[0]), cells))
