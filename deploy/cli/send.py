"""`tidegate send`: produces events over HTTP, made up or from a file, and says what became of them."""

import asyncio
import os
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from deploy.cli import addresses, options
from deploy.cli.output import console, print_json, progress_bar, table
from deploy.errors import CommandFailed, NotReachable
from deploy.load.batches import work_in_batches
from deploy.load.events import (
    EventSource,
    FileEvents,
    GeneratedEvents,
    GeneratedUserEvents,
    NotAnEvent,
    OutgoingEvent,
    read_file,
    read_user_events,
)
from deploy.load.ledger import Ledger
from deploy.load.tally import Tally
from deploy.load.worker import Budget, work
from deploy.local.development import PLAIN_AGENT
from gateway.client import Bounds
from gateway.client.delivery import Delivery


def register(app: typer.Typer) -> None:
    """Add the command to *app*."""
    app.command()(send)


def send(
    *,
    folder: options.Dir = options.DEFAULT_DIR,
    url: Annotated[str | None, typer.Option(help="Gateway; without it, the stack's.")] = None,
    rate: Annotated[float, typer.Option(min=0, help="Events per second and worker; 0: as fast as answers come.")] = 0,
    burst: Annotated[int, typer.Option(min=0, help="Events in all; 0: until stopped.")] = 1000,
    workers: Annotated[int, typer.Option(min=1, help="Requests in flight at once.")] = 4,
    runs: Annotated[int, typer.Option(min=1, help="Runs that the events are spread over.")] = 20,
    size: Annotated[int, typer.Option(min=0, help="Bytes of text in each payload.")] = 200,
    sign: Annotated[bool, typer.Option("--sign", help="Sign with the agent's secret.")] = False,
    agent: Annotated[
        str | None, typer.Option(help=f"Who speaks; {PLAIN_AGENT}, or with --sign the stack's agent.")
    ] = None,
    user_events: Annotated[bool, typer.Option("--events", help="Send user events instead of events of runs.")] = False,
    batch: Annotated[int, typer.Option(min=1, max=100, help="With --events: events a request.")] = 1,
    users: Annotated[int, typer.Option(min=1, help="With --events: users that the events are spread over.")] = 20,
    file: Annotated[Path | None, typer.Option(exists=True, dir_okay=False, help="Events as JSON lines.")] = None,
    retry_for: Annotated[float, typer.Option(min=0, help="Seconds to go on with an event that is not taken.")] = 30,
    ledger: Annotated[Path | None, typer.Option(help="Append each event's outcome, synced, as JSON lines.")] = None,
    as_json: options.Json = False,
) -> None:
    """Send events: each run, or each user, in order, each event after the answer to the one before."""
    if batch > 1 and not user_events:
        raise typer.BadParameter("--batch goes with --events: events of a run are sent one after the other")
    known = addresses.read(folder, os.environ)
    agent_id = agent or (known.need("agent_id") if sign else PLAIN_AGENT)
    secret = None
    if sign:
        secret = addresses.agent_secret(known, os.environ, agent_id, tenant=None)
    bounds = Bounds(give_up_after_s=retry_for)
    delivery = Delivery(url or known.need("gateway"), api_key=known.need("api_key"), bounds=bounds)
    made_up = _made_up_users(size) if user_events else _made_up_runs(size, agent_id=agent_id, secret=secret)
    if file is None:
        total = burst or None
        sources = [made_up(share) for share in _shares(users if user_events else runs, workers)]
    else:
        listed = _listed(file, user_events=user_events, secret=secret)
        total = sum(len(each) for each in listed)
        sources = [FileEvents(listed[worker::workers]) for worker in range(workers)]
    with Ledger(ledger) as lines, progress_bar(shown=not as_json) as progress:
        bar = progress.add_task("sending", total=total)
        load = _Load(sources=sources, delivery=delivery, bounds=bounds, batch=batch, rate_per_s=rate, ledger=lines)
        summary = asyncio.run(load.run(total, on_settled=lambda: progress.advance(bar)))
    print_json(summary) if as_json else _show(summary)
    _exit(summary)


def _made_up_users(size: int) -> Callable[[int], EventSource]:
    return lambda share: GeneratedUserEvents(user_count=share, payload_bytes=size)


def _made_up_runs(size: int, *, agent_id: str, secret: str | None) -> Callable[[int], EventSource]:
    return lambda share: GeneratedEvents(run_count=share, agent_id=agent_id, secret=secret, payload_bytes=size)


def _shares(count: int, workers: int) -> Sequence[int]:
    """Return how many of *count* runs or users each worker has; no worker has none."""
    workers = min(workers, count)
    return [count // workers + (worker < count % workers) for worker in range(workers)]


def _listed(file: Path, *, user_events: bool, secret: str | None) -> Sequence[list[OutgoingEvent]]:
    try:
        return read_user_events(file) if user_events else read_file(file, secret=secret)
    except NotAnEvent as error:
        raise CommandFailed(str(error)) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class _Load:
    sources: Sequence[EventSource]
    delivery: Delivery
    bounds: Bounds
    batch: int
    rate_per_s: float
    ledger: Ledger

    async def run(self, total: int | None, *, on_settled: Callable[[], None]) -> dict[str, Any]:
        """Let the workers send until all is sent or a signal asks them to finish."""
        tally = Tally()
        budget = Budget(left=total, stop=asyncio.Event())
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, budget.stop.set)
        began_s = time.monotonic()
        async with self.delivery, asyncio.TaskGroup() as group:
            for source in self.sources:
                group.create_task(self._work(source, tally, budget, on_settled))
        tally.unsent = budget.left or 0
        return tally.summary(time.monotonic() - began_s)

    async def _work(self, source: EventSource, tally: Tally, budget: Budget, on_settled: Callable[[], None]) -> None:
        send = work if self.batch == 1 else partial(work_in_batches, batch=self.batch, bounds=self.bounds)
        await send(
            source,
            delivery=self.delivery,
            budget=budget,
            rate_per_s=self.rate_per_s,
            tally=tally,
            ledger=self.ledger,
            on_settled=on_settled,
        )


def _show(summary: dict[str, Any]) -> None:
    errors = ", ".join(f"{code} {count} ({summary['details'][code]})" for code, count in summary["errors"].items())
    latency = ", ".join(f"{name} {value} ms" for name, value in summary["latency_ms"].items())
    rows = [
        ("sent", summary["sent"]),
        ("accepted (202)", summary["accepted"]),
        ("  of these duplicates", summary["duplicates"]),
        ("refused", summary["refused"]),
        ("in doubt", summary["in_doubt"]),
        ("not sent", summary["unsent"]),
        ("backpressure (429)", summary["backpressure"]),
        ("errors by code", errors or None),
        ("duration", f"{summary['duration_s']} s"),
        ("throughput", f"{summary['accepted_per_s']} accepted/s"),
        ("latency", latency or None),
    ]
    console.print(table(("", ""), rows))


def _exit(summary: dict[str, Any]) -> None:
    """
    Raise the error that sets the exit code, unless everything was accepted.

    Raises:
        CommandFailed: something was not.
        NotReachable: nothing was, because there was no connection.
    """
    if not summary["accepted"] and set(summary["errors"]) == {"CONNECTION"}:
        raise NotReachable("the gateway does not answer: is the stack up?")
    if summary["accepted"] < summary["sent"] or summary["unsent"]:
        raise CommandFailed("not every event was accepted")
