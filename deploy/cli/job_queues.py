"""`tidegate jobs queues`: the queues, their limits, and their pauses."""

from typing import Annotated

import typer

from deploy.cli.job_options import QueueName, tasks, without_none
from deploy.cli.options import DEFAULT_DIR, Dir, Json
from deploy.cli.output import console, print_json, table
from schemas.jobs.rules import RUNNING_MAX, STEP_S_DEFAULT, STEP_S_MAX

Reason = Annotated[str | None, typer.Option(help="Why, for people.")]
Until = Annotated[str | None, typer.Option(help="Resumed by itself then (RFC 3339).")]

COLUMNS = (
    *("queue", "ready", "delayed", "running", "oldest ready", "executors", "paused", "limit", "limit of a tenant"),
    "step",
)


def register(app: typer.Typer) -> None:
    """Add the commands of this group."""
    group = typer.Typer(invoke_without_command=True, help="Queues: what waits in them, their limits and pauses.")
    group.callback()(_list_by_default)
    group.command("list")(list_queues)
    group.command("pause")(pause)
    group.command("resume")(resume)
    group.command("limits")(limits)
    app.add_typer(group, name="queues")


def _list_by_default(context: typer.Context, folder: Dir = DEFAULT_DIR, *, as_json: Json = False) -> None:
    if context.invoked_subcommand is None:
        list_queues(folder, as_json=as_json)


def list_queues(folder: Dir = DEFAULT_DIR, *, as_json: Json = False) -> None:
    """List the queues: what waits in each, what runs, and who works on it."""
    found = tasks(folder).queues()
    if as_json:
        print_json(found)
        return
    rows = (
        (
            each["queue"],
            each["ready"],
            each["delayed"],
            each["running"],
            None if each["oldest_ready_s"] is None else f"{each['oldest_ready_s']:.0f} s",
            each["executors"],
            (each["pause_reason"] or "yes") if each["paused"] else None,
            each["max_running"],
            each["max_running_per_tenant"],
            f"{each['step_s']:g} s",
        )
        for each in found
    )
    console.print(table(COLUMNS, rows))


def pause(
    queue: QueueName, folder: Dir = DEFAULT_DIR, *, reason: Reason = None, until: Until = None, as_json: Json = False
) -> None:
    """Start no more jobs of a queue; those that run go on."""
    changed = tasks(folder).change_queue("POST", queue, "/pause", without_none(reason=reason, until=until))
    _print(changed, f"queue {queue} is paused", as_json=as_json)


def resume(queue: QueueName, folder: Dir = DEFAULT_DIR, *, as_json: Json = False) -> None:
    """Start jobs of a paused queue again."""
    changed = tasks(folder).change_queue("POST", queue, "/resume")
    _print(changed, f"queue {queue} is resumed", as_json=as_json)


def limits(
    queue: QueueName,
    folder: Dir = DEFAULT_DIR,
    *,
    max_running: Annotated[
        int | None, typer.Option(min=0, max=RUNNING_MAX, help="Jobs that run at once, over all executors; 0: no limit.")
    ] = None,
    max_running_per_tenant: Annotated[
        int | None, typer.Option(min=0, max=RUNNING_MAX, help="The same of each tenant; 0: no limit.")
    ] = None,
    step: Annotated[
        float | None,
        typer.Option(max=STEP_S_MAX, metavar="SECONDS", help="Waiting that counts as much as a level of priority."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Set the limits of a queue, and create a missing queue; what is not named stays."""
    if (max_running, max_running_per_tenant, step) == (None, None, None):
        raise typer.BadParameter("give --max-running, --max-running-per-tenant or --step")
    jobs = tasks(folder)
    before = next((each for each in jobs.queues() if each["queue"] == queue), {})
    asked = {
        "max_running": before.get("max_running") if max_running is None else max_running or None,
        "max_running_per_tenant": (
            before.get("max_running_per_tenant") if max_running_per_tenant is None else max_running_per_tenant or None
        ),
        "step_s": before.get("step_s", STEP_S_DEFAULT) if step is None else step,
    }
    changed = jobs.change_queue("PUT", queue, "", without_none(**asked))
    _print(changed, f"queue {queue} has its limits", as_json=as_json)


def _print(changed: dict[str, object], said: str, *, as_json: bool) -> None:
    if as_json:
        print_json(changed)
    else:
        soon = "" if changed["applied"] else ", as soon as intake comes to it"
        console.print(f"{said}{soon}", markup=False, soft_wrap=True)
