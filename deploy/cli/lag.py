"""`tidegate lag`: how far each group is behind."""

import dataclasses
from contextlib import suppress
from time import sleep
from typing import Annotated

import typer
from rich.live import Live
from rich.table import Table

from deploy.admin.lag import PartitionLag, measure
from deploy.cli import addresses
from deploy.cli.options import DEFAULT_DIR, Dir, Json
from deploy.cli.output import console, print_json, table
from schemas.runs.topics import RUN_EVENTS

WATCH_INTERVAL_S = 1.0
COLUMNS = ("group", "partition", "committed", "end", "records", "seconds", "undecided", "expired", "fault")
SELDOM = ("undecided", "expired", "fault")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("lag")(lag)


def lag(
    folder: Dir = DEFAULT_DIR,
    *,
    watch: Annotated[bool, typer.Option("--watch", help="Go on until Ctrl-C.")] = False,
    as_json: Json = False,
) -> None:
    """Show each group's lag by partition, in records and in seconds since the first one that waits."""
    kafka = addresses.kafka(folder)
    if as_json or not watch:
        _print(measure(kafka), as_json=as_json)
    with suppress(KeyboardInterrupt):
        if watch and as_json:
            while True:
                sleep(WATCH_INTERVAL_S)
                _print(measure(kafka), as_json=True)
        if watch:
            with Live(_drawn(measure(kafka)), console=console, auto_refresh=False) as live:
                while True:
                    sleep(WATCH_INTERVAL_S)
                    live.update(_drawn(measure(kafka)), refresh=True)


def _print(partitions: list[PartitionLag], *, as_json: bool) -> None:
    if as_json:
        print_json([dataclasses.asdict(partition) for partition in partitions])
    else:
        console.print(_drawn(partitions))


def _drawn(partitions: list[PartitionLag]) -> Table:
    rows = [_row(each) for each in partitions]
    # A terminal is narrow: what is seldom there has a column only where it is.
    shown = [name for name in COLUMNS if name not in SELDOM or any(row[name] for row in rows)]
    return table(shown, ([row[name] for name in shown] for row in rows))


def _row(lag: PartitionLag) -> dict[str, object]:
    place = f"{lag.topic.removeprefix(f'{RUN_EVENTS.name}.{lag.group}.')}/{lag.partition}"
    cells = (
        *(lag.group, place, lag.committed, lag.end, lag.records, lag.seconds),
        *(lag.undecided, lag.expired, lag.fault and lag.fault.value),
    )
    return dict(zip(COLUMNS, cells, strict=True))
