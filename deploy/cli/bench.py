"""`tidegate bench documents`: what a deployment makes of documents, measured through its gateway."""

import asyncio
import dataclasses
import os
import platform
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from deploy.admin.documents import Documents
from deploy.admin.gateway import GatewayCalls
from deploy.cli import addresses
from deploy.cli.options import DEFAULT_DIR, Dir, Json
from deploy.cli.output import console, print_json, progress_bar, table
from deploy.errors import CommandFailed
from deploy.load.chart import Chart, Series, document
from deploy.load.documents import PERCENTILES, Step, Sustained, Workload, run_step, run_sustained
from gateway.client import Bounds, Refused, SendAgainLater, TidegateDocuments

COUNTS = "100,500,1000,5000"
WARM_UP = 20
WORDS = 120  # one chunk of the embedders' usual size
IN_FLIGHT = 32
REQUEST_TIMEOUT_S = 60.0
GIVE_UP_S = 900.0  # a step that is larger than the admitted backlog is slowed down by 429, not ended
COLUMNS = ("step", "documents", "stored", "failed", "refused", "seconds", "documents/s", "p50 ms", "p95 ms", "p99 ms")


def register(app: typer.Typer) -> None:
    """Add the commands of this group."""
    group = typer.Typer(no_args_is_help=True, help="Measurements of a running deployment.")
    group.command("documents")(documents)
    app.add_typer(group, name="bench")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    counts: Sequence[int]
    warm_up: int
    workload: Workload
    in_flight: int
    rate_per_s: float
    sustained_s: float


def documents(
    *,
    folder: Dir = DEFAULT_DIR,
    counts: Annotated[str, typer.Option(help="Documents of each step, comma separated.")] = COUNTS,
    words: Annotated[int, typer.Option(min=1, help="Words of each text; a chunk has some 150.")] = WORDS,
    warm_up: Annotated[int, typer.Option(min=0, help="Documents before anything is measured.")] = WARM_UP,
    in_flight: Annotated[int, typer.Option(min=1, help="Requests in flight at once.")] = IN_FLIGHT,
    sustained: Annotated[
        float, typer.Option(min=0, metavar="SECONDS", help="Then submit at a steady rate for so long; 0: do not.")
    ] = 60.0,
    rate: Annotated[float, typer.Option(min=0.01, help="That rate: documents a second.")] = 10.0,
    priority: Annotated[int, typer.Option(min=1, max=10, help="Of all documents.")] = 5,
    out: Annotated[Path | None, typer.Option(help="Write the results to this file, as JSON.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw them into this file, as SVG.")] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the documents there.")] = False,
    as_json: Json = False,
) -> None:
    """
    Submit made-up texts in steps of rising size, then at a steady rate, and measure until each is stored.

    Figures hold for the embedder that is named with them, on this machine, in this state. Exit code 1 if a document
    was not stored.
    """
    known = addresses.read(folder, os.environ)
    url, api_key = known.need("gateway"), known.need("api_key")
    plan = _Plan(
        counts=_numbers(counts),
        warm_up=warm_up,
        workload=Workload(book=f"bench-{secrets.token_hex(4)}", words=words, priority=priority),
        in_flight=in_flight,
        rate_per_s=rate,
        sustained_s=sustained,
    )
    api = Documents(GatewayCalls(url, api_key=api_key))
    try:
        found = asyncio.run(_measure(plan, api, url, api_key, shown=not as_json))
    except (Refused, SendAgainLater) as error:
        raise CommandFailed(f"the measurement ended: {error}") from error
    finally:
        if not keep:
            api.delete(plan.workload.book, None)
    _write(found, out=out, plot=plot)
    if as_json:
        print_json(found)
    else:
        _print(found)
    steps = [*found["scaling"], *([found["sustained"]["step"]] if found["sustained"] else [])]
    if lost := sum(step["documents"] - step["outcomes"].get("stored", 0) for step in steps):
        raise CommandFailed(f"{lost} documents were not stored")


async def _measure(plan: _Plan, api: Documents, url: str, api_key: str, *, shown: bool) -> dict[str, Any]:
    bounds = Bounds(request_timeout_s=REQUEST_TIMEOUT_S, give_up_after_s=GIVE_UP_S)
    scaling: list[Step] = []
    steady: Sustained | None = None
    first = 1
    with progress_bar(shown=shown) as bars:
        bar = bars.add_task("warm-up", total=plan.warm_up + sum(plan.counts))
        async with TidegateDocuments(url, api_key=api_key, in_flight_max=plan.in_flight, bounds=bounds) as client:
            # Without a warm-up the first step makes the collection, and loads the model where none has yet.
            if plan.warm_up:
                await run_step(client, plan.workload, first=first, documents=plan.warm_up)
                first += plan.warm_up
            for count in plan.counts:
                bars.update(bar, completed=first - 1, description=f"{count} documents")
                scaling.append(await run_step(client, plan.workload, first=first, documents=count))
                first += count
            if plan.sustained_s:
                bars.update(bar, completed=first - 1, description=f"{plan.rate_per_s:g} a second")
                steady = await run_sustained(
                    client,
                    plan.workload,
                    first=first,
                    rate_per_s=plan.rate_per_s,
                    duration_s=plan.sustained_s,
                    in_flight_max=plan.in_flight,
                )
    collection = await asyncio.to_thread(api.collection, plan.workload.book)
    return {
        "measured_at": datetime.now(UTC),
        "embedder": {"name": collection["embedder_name"], "id": collection["embedder"]},
        "words": plan.workload.words,
        "in_flight_max": plan.in_flight,
        "cores": os.cpu_count(),
        "machine": platform.platform(),
        "warm_up": plan.warm_up,
        "scaling": [dataclasses.asdict(step) for step in scaling],
        "sustained": None if steady is None else dataclasses.asdict(steady),
    }


def _numbers(text: str) -> list[int]:
    found = [each.strip() for each in text.split(",") if each.strip()]
    if not found or not all(each.isascii() and each.isdecimal() and int(each) for each in found):
        raise typer.BadParameter(f"--counts {text}: numbers from 1 on, comma separated")
    return [int(each) for each in found]


def _write(found: dict[str, Any], *, out: Path | None, plot: Path | None) -> None:
    if out is not None:
        out.write_bytes(msgspec.json.format(msgspec.json.encode(found)) + b"\n")
    if plot is not None:
        plot.write_text(document(_charts(found), caption=_caption(found)))


def _charts(found: dict[str, Any]) -> list[Chart]:
    steps = [step for step in found["scaling"] if step["documents_per_s"] is not None]
    charts = [
        Chart(
            title="Throughput by the size of the step",
            x="documents submitted at once",
            y="stored a second",
            series=[
                Series(name="documents/s", points=[(each["documents"], each["documents_per_s"]) for each in steps])
            ],
        ),
        Chart(
            title="From receipt to commit, all submitted at once",
            x="documents submitted at once",
            y="seconds",
            series=[
                Series(
                    name=f"p{percent}",
                    points=[(each["documents"], each["latency_ms"][f"p{percent}"] / 1000) for each in steps],
                )
                for percent in PERCENTILES
            ],
        ),
    ]
    if steady := found["sustained"]:
        stored = steady["stored_by_second"]
        charts.append(
            Chart(
                title=f"At {steady['target_per_s']:g} a second for {steady['submitting_s']:.0f} s",
                x="seconds since the first receipt",
                y="stored in the second",
                series=[
                    Series(name="stored", points=list(enumerate(stored))),
                    Series(
                        name="target",
                        points=[(0, steady["target_per_s"]), (max(1, len(stored) - 1), steady["target_per_s"])],
                    ),
                ],
            )
        )
    return charts


def _caption(found: dict[str, Any]) -> str:
    return f"embedder {found['embedder']['name']}, {found['words']} words a text, {found['cores']} cores"


def _print(found: dict[str, Any]) -> None:
    steps = [("at once", step) for step in found["scaling"]]
    if steady := found["sustained"]:
        steps.append((f"{steady['target_per_s']:g} a second", steady["step"]))
    console.print(_caption(found), markup=False)
    console.print(table(COLUMNS, (_row(name, step) for name, step in steps)))
    if steady and steady["drained_s"] is not None:
        console.print(f"the last one was stored {steady['drained_s']:.1f} s after the last receipt")


def _row(name: str, step: dict[str, Any]) -> tuple[object, ...]:
    outcomes = step["outcomes"]
    return (
        name,
        step["documents"],
        outcomes.get("stored", 0),
        step["accepted"] - outcomes.get("stored", 0),
        step["refused"],
        step["duration_s"],
        step["documents_per_s"],
        *(step["latency_ms"].get(f"p{percent}") for percent in PERCENTILES),
    )
