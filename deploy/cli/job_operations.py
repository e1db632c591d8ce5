"""`tidegate jobs operations`: one action on every job that a filter matches."""

import json
import time
from collections.abc import Callable
from typing import Annotated, Any

import typer

from deploy.admin.tasks import Tasks
from deploy.cli.job_options import Priority, tasks, without_none
from deploy.cli.options import DEFAULT_DIR, Dir, Json, Yes
from deploy.cli.output import console, print_json, print_rows, progress_bar, table
from schemas.jobs.states import JobAction, JobStatus

LISTED = 20
COLUMNS = ("created_at", "operation_id", "action", "job_count", "done_count", "refused_count", "finished_at")
POLL_S = 0.5


def register(app: typer.Typer) -> None:
    """Add the commands of this group."""
    group = typer.Typer(no_args_is_help=True, help="Operations: one action on every job that a filter matches.")
    group.command("start")(start)
    group.command("list")(list_operations)
    group.command("show")(show)
    app.add_typer(group, name="operations")


def start(
    action: Annotated[JobAction, typer.Argument(metavar="ACTION", help="cancel, retry or reprioritise.")],
    folder: Dir = DEFAULT_DIR,
    *,
    created_from: Annotated[str | None, typer.Option("--from", help="Only jobs created then or later.")] = None,
    created_before: Annotated[str | None, typer.Option("--to", help="Only jobs created before.")] = None,
    status: Annotated[JobStatus | None, typer.Option(help="Only jobs of this status.")] = None,
    kind: Annotated[str | None, typer.Option("--type", help="Only jobs of this type.")] = None,
    queue: Annotated[str | None, typer.Option(help="Only jobs of this queue.")] = None,
    user: Annotated[str | None, typer.Option(help="Only jobs for this user.")] = None,
    tag: Annotated[str | None, typer.Option(help="Only jobs with this tag.")] = None,
    priority: Priority = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count.")] = False,
    waiting: Annotated[bool, typer.Option("--wait", help="Wait until it is through.")] = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Start an action on the jobs that match now; --from or --to (RFC 3339) is required. It counts first."""
    if created_from is None and created_before is None:
        raise typer.BadParameter("give --from or --to: an operation covers the jobs of a time")
    if (action is JobAction.REPRIORITISE) != (priority is not None):
        raise typer.BadParameter("reprioritise needs --priority, and no other action takes one")
    wanted = without_none(
        created_from=created_from,
        created_before=created_before,
        status=None if status is None else status.value,
        type=kind,
        queue=queue,
        user_id=user,
        tag=tag,
    )
    asked = without_none(filter=wanted, action=action.value, priority=priority)
    jobs = tasks(folder)
    if dry_run or not yes:
        counted = jobs.start_operation(asked | {"dry_run": True})
        if dry_run:
            _print_count(counted, as_json=as_json)
            return
        typer.confirm(f"{action.value.capitalize()} {_matches(counted)}?", abort=True, err=as_json)
    started = jobs.start_operation(asked)
    if waiting:
        started = _finished(jobs, started["operation_id"], shown=not as_json)
    if as_json:
        print_json(started)
    elif waiting:
        done, refused = started["done_count"], started["refused_count"]
        console.print(f"{done} jobs changed; the state of {refused} did not allow it", markup=False)
    else:
        console.print(f"operation {started['operation_id']} is started", markup=False, soft_wrap=True)


def list_operations(
    folder: Dir = DEFAULT_DIR,
    *,
    count: Annotated[int, typer.Option(min=1, help="How many, the newest first.")] = LISTED,
    as_json: Json = False,
) -> None:
    """List operations, the newest first."""
    found = tasks(folder).operations(count=count)
    if as_json:
        print_json(found)
    else:
        print_rows([{name: each[name] for name in COLUMNS} for each in found], as_json=False)


def show(
    operation_id: Annotated[str, typer.Argument(metavar="ID", help="The operation.")],
    folder: Dir = DEFAULT_DIR,
    *,
    as_json: Json = False,
) -> None:
    """Show how far an operation is."""
    found = tasks(folder).operation(operation_id)
    if as_json:
        print_json(found)
        return
    rows = ((name, json.dumps(value) if isinstance(value, dict) else value) for name, value in found.items())
    console.print(table(("operation", operation_id), rows))


def _finished(
    jobs: Tasks, operation_id: str, *, shown: bool, sleep: Callable[[float], None] = time.sleep
) -> dict[str, Any]:
    with progress_bar(shown=shown) as bars:
        bar = bars.add_task("jobs", total=None)
        while (found := jobs.operation(operation_id))["finished_at"] is None:
            bars.update(bar, total=found["job_count"], completed=found["done_count"] + found["refused_count"])
            sleep(POLL_S)
    return found


def _print_count(counted: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(counted)
    else:
        console.print(f"{_matches(counted)} match; nothing was changed")


def _matches(counted: dict[str, Any]) -> str:
    return f"{'at least ' if counted.get('is_estimate') else ''}{counted['matches']} jobs"
