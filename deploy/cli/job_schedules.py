"""`tidegate jobs schedules`: jobs at the times of cron expressions."""

import json
from datetime import datetime
from typing import Annotated, Any

import typer

from deploy.cli.job_options import MaxAttempts, Parameters, Priority, Queue, read_json, tasks, without_none
from deploy.cli.options import DEFAULT_DIR, Dir, Json, Yes
from deploy.cli.output import console, print_json, shown, table
from schemas.jobs.states import Missed, Overlap

Name = Annotated[str, typer.Argument(metavar="NAME", help="The schedule's name or id.")]


def register(app: typer.Typer) -> None:
    """Add the commands of this group."""
    group = typer.Typer(no_args_is_help=True, help="Schedules: jobs at the times of a cron expression.")
    group.command("list")(list_schedules)
    group.command("add")(add)
    group.command("show")(show)
    group.command("delete")(delete)
    group.command("pause")(pause)
    group.command("resume")(resume)
    group.command("run")(run)
    app.add_typer(group, name="schedules")


def list_schedules(folder: Dir = DEFAULT_DIR, *, as_json: Json = False) -> None:
    """List the schedules, and when each fires next."""
    found = tasks(folder).schedules()
    if as_json:
        print_json(found)
        return
    rows = (
        (
            each["name"],
            each["definition"]["cron"],
            each["definition"].get("timezone", "UTC"),
            each["definition"]["type"],
            "paused" if each["paused_at"] else _moment(each["next_at"]),
            _moment(each["last_fired_at"]),
        )
        for each in found
    )
    if found:
        console.print(table(("schedule", "cron", "zone", "type", "next", "last"), rows))
    else:
        console.print("there is no schedule")


def add(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Unique within the tenant.")],
    folder: Dir = DEFAULT_DIR,
    *,
    cron: Annotated[str, typer.Option(help="Five fields: minute, hour, day, month, weekday.")],
    task_type: Annotated[str, typer.Option("--type", help="The task type.")],
    timezone: Annotated[str, typer.Option(help="An IANA zone, such as Europe/Berlin.")] = "UTC",
    parameters: Parameters = "{}",
    queue: Queue = None,
    priority: Priority = None,
    max_attempts: MaxAttempts = None,
    missed: Annotated[
        Missed, typer.Option(help="Times that passed unseen: one job, none, or one each.")
    ] = Missed.COALESCE,
    overlap: Annotated[Overlap, typer.Option(help="While its last job is not finished.")] = Overlap.ALLOW,
    as_json: Json = False,
) -> None:
    """Add a schedule, and show when it fires."""
    definition = without_none(
        name=name,
        cron=cron,
        timezone=timezone,
        type=task_type,
        parameters=read_json(parameters, of="--parameters"),
        queue=queue,
        priority=priority,
        max_attempts=max_attempts,
        missed=missed.value,
        overlap=overlap.value,
    )
    made = tasks(folder).add_schedule(definition)
    if as_json:
        print_json(made)
        return
    times = ", ".join(_moment(each) or "" for each in made["next_times"])
    console.print(f"schedule {name} fires at {times}", markup=False, soft_wrap=True)


def show(name: Name, folder: Dir = DEFAULT_DIR, *, as_json: Json = False) -> None:
    """Show a schedule and its next five times."""
    found = tasks(folder).schedule(name)
    if as_json:
        print_json(found)
        return
    console.print(table(("schedule", found["name"]), _rows(found)))


def delete(name: Name, folder: Dir = DEFAULT_DIR, *, yes: Yes = False, as_json: Json = False) -> None:
    """Delete a schedule; its jobs stay."""
    jobs = tasks(folder)
    found = jobs.schedule(name)
    if not yes:
        typer.confirm(f"Delete the schedule {found['name']}?", abort=True)
    _print(jobs.change_schedule("DELETE", found["schedule_id"]), f"schedule {name} is deleted", as_json=as_json)


def pause(name: Name, folder: Dir = DEFAULT_DIR, *, as_json: Json = False) -> None:
    """Let a schedule fire no more."""
    _change(folder, name, "pause", "is paused", as_json=as_json)


def resume(name: Name, folder: Dir = DEFAULT_DIR, *, as_json: Json = False) -> None:
    """Let a paused schedule fire again, at its next time."""
    _change(folder, name, "resume", "is resumed", as_json=as_json)


def run(name: Name, folder: Dir = DEFAULT_DIR, *, as_json: Json = False) -> None:
    """Run one job of a schedule now, beside its times."""
    _change(folder, name, "run", "runs once", as_json=as_json)


def _change(folder: Dir, name: str, action: str, said: str, *, as_json: bool) -> None:
    jobs = tasks(folder)
    changed = jobs.change_schedule("POST", jobs.schedule(name)["schedule_id"], f"/{action}")
    _print(changed, f"schedule {name} {said}", as_json=as_json)


def _print(changed: dict[str, Any], said: str, *, as_json: bool) -> None:
    if as_json:
        print_json(changed)
    else:
        soon = "" if changed["applied"] else ", as soon as intake comes to it"
        console.print(f"{said}{soon}", markup=False, soft_wrap=True)


def _rows(found: dict[str, Any]) -> list[tuple[str, object]]:
    definition = {name: value for name, value in found["definition"].items() if name != "name"}
    return [
        ("id", found["schedule_id"]),
        *((name, json.dumps(value) if isinstance(value, dict) else value) for name, value in definition.items()),
        ("paused", _moment(found["paused_at"])),
        ("last fired", _moment(found["last_fired_at"])),
        ("last job", found["last_task_id"]),
        ("next times", ", ".join(_moment(each) or "" for each in found["next_times"]) or "none"),
        ("created by", found["created_by"]),
    ]


def _moment(text: str | None) -> str | None:
    return None if text is None else shown(datetime.fromisoformat(text))
