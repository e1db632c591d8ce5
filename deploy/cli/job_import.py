"""`tidegate jobs import`: a job for each record of a file."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import typer

from deploy.admin.gateway import Refused
from deploy.admin.tasks import Tasks
from deploy.cli.job_options import Priority, Queue, tasks, without_none
from deploy.cli.options import DEFAULT_DIR, Dir, Json
from deploy.cli.output import console, plain, print_json, progress_bar, table
from deploy.errors import CommandFailed
from deploy.load.job_files import FileRecord, NotAFile, read_records
from schemas.jobs.rules import BATCH_JOBS_MAX

CONCURRENT = 16
ERRORS_SHOWN_MAX = 20
ERRORS_KEPT_MAX = 1000


@dataclass(slots=True)
class _Count:
    """The outcomes so far."""

    accepted: int = 0
    duplicates: int = 0
    failed: int = 0
    errors: list[dict[str, object]] = field(default_factory=list)  # the first `ERRORS_KEPT_MAX`

    def add(self, record: FileRecord, accepted: Mapping[str, Any] | None, fault: str | None) -> None:
        """Count one record: its answer, or its fault."""
        if fault is None:
            is_duplicate = accepted is not None and bool(accepted.get("duplicate"))
            self.duplicates += is_duplicate
            self.accepted += not is_duplicate
            return
        self.failed += 1
        if len(self.errors) < ERRORS_KEPT_MAX:
            self.errors.append({"record": record.number, "line": record.line, "error": fault})


def import_file(
    file: Annotated[
        Path,
        typer.Argument(exists=True, dir_okay=False, metavar="FILE", help="CSV, or JSON lines with a submission each."),
    ],
    folder: Dir = DEFAULT_DIR,
    *,
    task_type: Annotated[
        str | None, typer.Option("--type", help="The type of each row of a CSV, and of lines that name none.")
    ] = None,
    queue: Queue = None,
    priority: Priority = None,
    tag: Annotated[list[str] | None, typer.Option(help="A label for each job; may be repeated.")] = None,
    as_json: Json = False,
) -> None:
    """Submit a job for each record of a file; importing the file again doubles nothing."""
    if file.suffix.lower() == ".csv" and task_type is None:
        raise typer.BadParameter("a CSV needs --type: its rows are the parameters of that type")
    jobs = tasks(folder)
    schema = _schema(jobs, task_type) if task_type is not None else None
    more = without_none(queue=queue, priority=priority, tags=tag or None)
    total, count = _records_of(file), _Count()
    try:
        records = read_records(file, task_type=task_type, schema=schema)
        with ThreadPoolExecutor(CONCURRENT) as threads, progress_bar(shown=not as_json) as bars:
            bar = bars.add_task(f"import {file.name}", total=total)
            try:
                while batch := list(islice(records, BATCH_JOBS_MAX)):
                    answers = threads.map(partial(_submitted, jobs, more), batch)
                    for record, (accepted, fault) in zip(batch, answers, strict=True):
                        count.add(record, accepted, fault)
                        bars.advance(bar)
            except BaseException:
                threads.shutdown(cancel_futures=True)
                raise
    except NotAFile as error:
        raise CommandFailed(str(error)) from error
    finally:
        if as_json:
            print_json(_summary(count))
        else:
            _print(count)
    if count.failed:
        raise CommandFailed(
            f"not imported: {count.failed} of the file's records; correct them and import the file again"
        )


def _submitted(
    jobs: Tasks, more: Mapping[str, object], record: FileRecord
) -> tuple[Mapping[str, Any] | None, str | None]:
    """Return the answer to a record, or what is wrong with it."""
    if record.submission is None:
        return None, record.fault
    try:
        return jobs.submit({**more, **record.submission}, key=record.key), None
    except Refused as refused:
        return None, f"{refused.code}: {refused.detail}"


def _schema(jobs: Tasks, task_type: str) -> Mapping[str, Any]:
    for each in jobs.types():
        if each["type"] == task_type:
            schema: Mapping[str, Any] = each["schema"]
            return schema
    raise CommandFailed(f"there is no task type {task_type}: `tidegate jobs types` lists them")


def _records_of(file: Path) -> int:
    """Return about how many records there are, by the lines."""
    with file.open("rb") as lines:
        return sum(1 for line in lines if line.strip()) - (file.suffix.lower() == ".csv")


def _summary(count: _Count) -> dict[str, object]:
    return {
        "accepted": count.accepted,
        "duplicates": count.duplicates,
        "failed": count.failed,
        "errors": count.errors,
    }


def _print(count: _Count) -> None:
    if count.errors:
        shown = count.errors[:ERRORS_SHOWN_MAX]
        rows = ((each["record"], each["line"], plain(str(each["error"]))) for each in shown)
        console.print(table(("record", "line", "error"), rows))
        if count.failed > len(shown):
            console.print(f"and {count.failed - len(shown)} more; --json has them")
    console.print(f"{count.accepted} accepted, {count.duplicates} were there already, {count.failed} failed")
