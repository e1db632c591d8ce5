"""How commands print: tables for people, JSON for programs. `NO_COLOR` and plain pipes are honoured by rich."""

import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

MASK = "***"

console = Console(highlight=False)


def print_json(value: object) -> None:
    """Print *value* as one JSON document; what JSON does not know is printed as its text."""
    sys.stdout.write(json.dumps(value, indent=2, default=str) + "\n")


def table(columns: Sequence[str], rows: Iterable[Iterable[object]]) -> Table:
    """A plain table of values."""
    drawn = Table(box=None, header_style="bold", pad_edge=False)
    for column in columns:
        drawn.add_column(column, overflow="fold")  # a cut address is of no use
    for row in rows:
        drawn.add_row(*(Text(plain(shown(cell))) for cell in row))
    return drawn


def plain(text: str) -> str:
    """*text* from outside as it may be shown: nothing in it steers the terminal."""
    return "".join(one if one.isprintable() else f"\\u{ord(one):04x}" for one in text)


def shown(cell: object) -> str:
    """*cell* as a person reads it."""
    match cell:
        case None:
            return "-"
        case bool():
            return "yes" if cell else "no"
        case datetime():
            return f"{cell.astimezone():%Y-%m-%d %H:%M:%S}"
        case float():
            return f"{cell:.1f}"
        case _:
            return str(cell)


def masked(address: str) -> str:
    """*address* without the password in it."""
    return re.sub(r"(?<=:)[^:/@]+(?=@)", MASK, address)


def progress_bar(*, shown: bool) -> Progress:
    """A bar for tasks that count; on a terminal only."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=console, transient=True, disable=not (shown and console.is_terminal))


def print_rows(rows: Sequence[Mapping[str, object]], *, as_json: bool) -> None:
    """Print *rows*, which have the same names, as a table or as a JSON array."""
    if as_json:
        print_json(rows)
    elif rows:
        console.print(table(list(rows[0]), (row.values() for row in rows)))
