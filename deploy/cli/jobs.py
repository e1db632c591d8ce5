"""`tidegate jobs`: submit background jobs, follow them and change them; with queues, schedules, operations, imports."""

import asyncio
from typing import Annotated, Any

import typer

from deploy.cli import job_import, job_operations, job_queues, job_schedules
from deploy.cli.job_options import (
    JobId,
    MaxAttempts,
    Metadata,
    Parameters,
    Priority,
    Queue,
    read_json,
    reads,
    tasks,
    without_none,
)
from deploy.cli.job_rows import LISTED_COLUMNS, attempt_rows, job_rows, listed_row
from deploy.cli.job_watching import follow, wait
from deploy.cli.options import DEFAULT_DIR, Dir, Json
from deploy.cli.output import console, plain, print_json, print_rows, table
from deploy.errors import CommandFailed

LISTED = 20


def register(app: typer.Typer) -> None:
    """Add the commands of this group."""
    group = typer.Typer(no_args_is_help=True, help="Background jobs.")
    for name, command in (
        ("submit", submit),
        ("list", list_jobs),
        ("show", show),
        ("logs", logs),
        ("cancel", cancel),
        ("retry", retry),
        ("types", types),
        ("pause", job_queues.pause),
        ("resume", job_queues.resume),
        ("import", job_import.import_file),
    ):
        group.command(name)(command)
    for part in (job_queues, job_schedules, job_operations):
        part.register(group)
    app.add_typer(group, name="jobs")


def submit(
    task_type: Annotated[str, typer.Argument(metavar="TYPE", help="The task type; `tidegate jobs types` lists them.")],
    folder: Dir = DEFAULT_DIR,
    *,
    parameters: Parameters = "{}",
    queue: Queue = None,
    priority: Priority = None,
    run_at: Annotated[str | None, typer.Option(help="Not before this time (RFC 3339).")] = None,
    delay: Annotated[float | None, typer.Option(min=0, metavar="SECONDS", help="Not before so many seconds.")] = None,
    expires_at: Annotated[
        str | None, typer.Option(help="Cancelled if it was not started by this time (RFC 3339).")
    ] = None,
    dedupe_key: Annotated[str | None, typer.Option(help="At most one unfinished job of the type has it.")] = None,
    max_attempts: MaxAttempts = None,
    timeout: Annotated[float | None, typer.Option(min=0, metavar="SECONDS", help="A soft limit of this job.")] = None,
    tag: Annotated[list[str] | None, typer.Option(help="A label to find it by; may be repeated.")] = None,
    metadata: Metadata = None,
    user: Annotated[str | None, typer.Option(help="The user whom it is for.")] = None,
    idempotency_key: Annotated[
        str | None, typer.Option(help="The same key is the same job, however often it is submitted.")
    ] = None,
    waiting: Annotated[bool, typer.Option("--wait", help="Wait for its end; exit code 1 unless it completed.")] = False,
    following: Annotated[
        bool, typer.Option("--follow", help="Show its states, progress and output until its end, as --wait.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Submit a job; it is in the log when this ends."""
    submission = without_none(
        type=task_type,
        parameters=read_json(parameters, of="--parameters"),
        queue=queue,
        priority=priority,
        run_at=run_at,
        delay_s=delay,
        expires_at=expires_at,
        dedupe_key=dedupe_key,
        max_attempts=max_attempts,
        timeout_s=timeout,
        tags=tag or None,
        metadata=None if metadata is None else read_json(metadata, of="--metadata"),
        user_id=user,
    )
    jobs = tasks(folder)
    accepted = jobs.submit(submission, key=idempotency_key)
    if not (waiting or following):
        _print_accepted(accepted, as_json=as_json)
        return
    if following:
        asyncio.run(follow(reads(folder), jobs, accepted["task_id"], as_json=as_json))
        finished = jobs.job(accepted["task_id"])
    else:
        finished = wait(jobs, accepted["task_id"], shown=not as_json)
    _print_job(finished, as_json=as_json)
    if finished["status"] != "completed":
        raise CommandFailed(f"the job is {finished['status']}{_because(finished)}")


def list_jobs(
    *,
    folder: Dir = DEFAULT_DIR,
    status: Annotated[
        str | None, typer.Option(help="Only pending, running, completed, failed or cancelled ones.")
    ] = None,
    kind: Annotated[str | None, typer.Option("--type", help="Only jobs of this type.")] = None,
    queue: Annotated[str | None, typer.Option(help="Only jobs of this queue.")] = None,
    user: Annotated[str | None, typer.Option(help="Only jobs for this user.")] = None,
    tag: Annotated[str | None, typer.Option(help="Only jobs with this tag.")] = None,
    start: Annotated[str | None, typer.Option("--from", help="Only jobs created then or later (RFC 3339).")] = None,
    to: Annotated[str | None, typer.Option(help="Only jobs created before (RFC 3339).")] = None,
    where: Annotated[
        str | None, typer.Option("--metadata", metavar="PATH=VALUE", help="Only jobs with this in their metadata.")
    ] = None,
    count: Annotated[int, typer.Option(min=1, help="How many, the newest first.")] = LISTED,
    ids: Annotated[bool, typer.Option("--ids", help="Print the ids alone, one a line.")] = False,
    as_json: Json = False,
) -> None:
    """List jobs, the newest first."""
    query = {
        "status": status,
        "type": kind,
        "queue": queue,
        "user_id": user,
        "tag": tag,
        "from": start,
        "to": to,
        "metadata": where,
    }
    asked = {name: value for name, value in query.items() if value is not None}
    found = tasks(folder).listed(asked, count=count)
    if as_json:
        print_json(found)
    elif ids:
        for job in found:
            print(job["task_id"])
    elif found:
        console.print(table(LISTED_COLUMNS, (listed_row(job) for job in found)))
    else:
        console.print("there is no such job")


def show(job_id: JobId, folder: Dir = DEFAULT_DIR, *, as_json: Json = False) -> None:
    """Show one job: its state, its attempts and its result."""
    _print_job(tasks(folder).job(job_id), as_json=as_json)


def logs(
    job_id: JobId,
    folder: Dir = DEFAULT_DIR,
    *,
    attempt: Annotated[
        int | None, typer.Option(min=1, help="The number of the attempt; the newest that ended by default.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Print what an attempt of a job wrote, once it has ended; `submit --follow` shows it meanwhile."""
    found = tasks(folder).log(job_id, attempt)
    if as_json:
        print_json(found)
        return
    for line in found["log"].splitlines():
        print(plain(line.expandtabs()))


def cancel(job_id: JobId, folder: Dir = DEFAULT_DIR, *, as_json: Json = False) -> None:
    """Cancel a job: at once if it waits; one that runs is stopped, and killed 10 s later."""
    changed = tasks(folder).change("DELETE", job_id)
    _print_changed(changed, as_json=as_json)


def retry(job_id: JobId, folder: Dir = DEFAULT_DIR, *, as_json: Json = False) -> None:
    """Run a failed or cancelled job again, under the same id; its history stays."""
    changed = tasks(folder).change("POST", job_id, "/retry")
    _print_changed(changed, as_json=as_json)


def types(
    name: Annotated[str | None, typer.Argument(metavar="[TYPE]", help="Show this one with its parameters.")] = None,
    folder: Dir = DEFAULT_DIR,
    *,
    as_json: Json = False,
) -> None:
    """List the task types, or show what one takes."""
    found = tasks(folder).types()
    if name is not None:
        found = [each for each in found if each["type"] == name]
        if not found:
            raise CommandFailed(f"there is no task type {name}: `tidegate jobs types` lists them")
        if not as_json:
            print_json(found[0]["schema"])
            return
    if as_json:
        print_json(found)
        return
    columns = ("type", "queue", "right", "description")
    print_rows([{column: each[column] for column in columns} for each in found], as_json=False)


def _print_accepted(accepted: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(accepted)
        return
    said = "is there already" if accepted.get("duplicate") else "is in the log"
    console.print(
        f"job {accepted['task_id']} ({accepted['type']}, queue {accepted['queue']}) {said}",
        markup=False,
        soft_wrap=True,
    )


def _print_changed(changed: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(changed)
        return
    words = {"cancel_requested": "is being cancelled"}
    status = changed["status"]
    console.print(f"job {changed['task_id']} {words.get(status, f'is {status}')}", markup=False, soft_wrap=True)


def _print_job(job: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(job)
        return
    console.print(table(("job", plain(job["task_id"])), job_rows(job)))
    if attempts := job.get("attempt_history"):
        console.print(table(("attempt", "outcome", "started", "duration", "error"), attempt_rows(attempts)))


def _because(job: dict[str, Any]) -> str:
    found = job.get("error") or job.get("reason")
    return f": {plain(str(found))}" if found else ""
