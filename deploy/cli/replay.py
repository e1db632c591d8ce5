"""`tidegate replay`: handle part of the log once more, beside the live group."""

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from time import sleep
from typing import Annotated

import typer

from deploy.admin import replays
from deploy.cli import addresses, archive_replay
from deploy.cli.options import DEFAULT_DIR, GROUP_NAMES, Dir, Json, Yes, existing_group, known_group
from deploy.cli.output import console, print_json, print_rows, progress_bar
from deploy.errors import CommandFailed
from deploy.local import folders, logs, settings_file
from deploy.log.reading import Edge, Start, parse_start
from schemas.archive.topics import archived_topic
from schemas.kafka import replays as plans
from schemas.kafka.connection import KafkaSettings
from schemas.kafka.replays import Replay
from schemas.process.interpreter import module_command, module_environment
from schemas.process.settings import as_environ

POLL_S = 0.5
STOP_S = 30.0

OVERWRITE_HELP = (
    "Write stored rows again; none is removed. Without it what is missing is added, and nothing else changes."
)
FROM_ARCHIVE_HELP = "Take the records from the archive, and give them to the live group."


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("replay")(replay)


def replay(
    name: Annotated[str, typer.Argument(metavar="GROUP", help=f"One of {GROUP_NAMES}.")],
    folder: Dir = DEFAULT_DIR,
    *,
    from_start: Annotated[bool, typer.Option("--from-start", help="From the oldest record that is left.")] = False,
    from_time: Annotated[
        str | None, typer.Option(help="From the first record written then or later (RFC 3339).")
    ] = None,
    from_offset: Annotated[int | None, typer.Option(min=0, help="From this offset in each partition.")] = None,
    run_id: Annotated[str | None, typer.Option("--run", help="Only this run; by default from the start.")] = None,
    to: Annotated[str, typer.Option(help="Up to, not including: end, an offset or a time.")] = Edge.END.value,
    resume: Annotated[str | None, typer.Option(help="Go on with a replay that was interrupted: its id.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help=OVERWRITE_HELP)] = False,
    from_archive: Annotated[bool, typer.Option("--from-archive", help=FROM_ARCHIVE_HELP)] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count.")] = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """
    Handle part of the log once more, with a group of its own beside the live one.

    It counts first, and refuses when part of the range has expired. Ctrl-C stops it; --resume goes on.
    """
    known, group = addresses.read(folder, os.environ), known_group(name)
    if archived_topic(group) is not None:
        raise CommandFailed(f"{group.name} is not replayed: what is archived stays as it is")
    if from_archive:
        if resume is not None or overwrite:
            raise typer.BadParameter("--from-archive goes with neither --resume nor --overwrite")
        archive_replay.replay(
            known,
            group,
            start=_start(from_start=from_start, from_time=from_time, from_offset=from_offset, run_id=run_id),
            end=_end(to),
            run_id=run_id,
            dry_run=dry_run,
            yes=yes,
            as_json=as_json,
        )
        return
    if group.beside:
        raise CommandFailed(
            f"{group.name} reads the same records from several topics, of which a replay repeats one: replay the group "
            "that writes them, such as documents.intake"
        )
    kafka = known.need_kafka()
    group = existing_group(name, kafka)
    servers = as_environ(kafka)
    if group.member is None:
        # With the operator's login: a replay may delete rows, which the live group may not.
        servers["TIDEGATE_POSTGRES"] = known.need("postgres")
    if resume is not None:
        wanted = _read(folder, resume)
    else:
        start = _start(from_start=from_start, from_time=from_time, from_offset=from_offset, run_id=run_id)
        spans = replays.spans(kafka, group, start, _end(to))
        count = sum(span.count for span in spans)
        if dry_run or not count:
            _print_spans(spans, count, as_json=as_json, dry_run=dry_run)
            return
        if not as_json:
            _print_spans(spans, count, as_json=False)
        if not yes:
            typer.confirm(_question(count, run_id, overwrite=overwrite), abort=True)
        wanted = replays.plan(kafka, group, spans, run_id=run_id, overwrite=overwrite)
        plans.write(_path(folder, wanted.id, make=True), wanted)
    _carry_out(folder, wanted, kafka, servers, as_json=as_json)


def _carry_out(
    folder: Path, wanted: Replay, kafka: KafkaSettings, servers: Mapping[str, str], *, as_json: bool
) -> None:
    group = existing_group(wanted.group, kafka)
    total = sum(wanted.ends.values()) - sum(wanted.starts.values())
    log = logs.path(folder, f"replay-{wanted.id}")
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as out, progress_bar(shown=not as_json) as progress:
        bar = progress.add_task(f"replay {wanted.id}", total=total)
        worker = subprocess.Popen(
            module_command("processors", _processor(wanted), "--replay", str(_path(folder, wanted.id))),
            env={**module_environment(), **_settings(folder, wanted), **servers, "TIDEGATE_MANAGEMENT_PORT": "0"},
            stdout=out,
            stderr=out,
            start_new_session=True,  # Ctrl-C is for us: the worker is asked to stop
        )
        try:
            while worker.poll() is None:
                sleep(POLL_S)
                progress.update(bar, completed=total - replays.remaining(kafka, group, wanted))
        except KeyboardInterrupt:
            raise CommandFailed(f"stopped; `tidegate replay {wanted.group} --resume {wanted.id}` goes on") from None
        finally:
            worker.terminate()
            worker.wait(STOP_S)
    left = replays.remaining(kafka, group, wanted)
    if worker.returncode or left:
        raise CommandFailed(
            f"the replay ended with {left} of {total} to do, see {log}; "
            f"`tidegate replay {wanted.group} --resume {wanted.id}` goes on"
        )
    outcomes = _outcomes(log)
    if as_json:
        print_json({"id": wanted.id, "records": total, "outcomes": outcomes})
        return
    said = ", ".join(f"{count} {outcome}" for outcome, count in outcomes.items()) or "none was of this run"
    console.print(f"{total} records handled once more: {said}")


def _outcomes(log: Path) -> Mapping[str, int]:
    """Return what the worker counted, over all its starts."""
    counted: dict[str, int] = {}
    for line in log.read_text(errors="replace").splitlines():
        said = json.loads(line) if line.startswith("{") else {}
        if said.get("event") == "replay ended":
            for outcome, count in said["outcomes"].items():
                counted[outcome] = counted.get(outcome, 0) + count
    return counted


def _print_spans(spans: list[replays.Span], count: int, *, as_json: bool, dry_run: bool = False) -> None:
    rows = [{"partition": span.partition, "from": span.start, "to": span.end, "oldest": span.first} for span in spans]
    if as_json:
        print_json({"records": count, "partitions": rows})
        return
    print_rows(rows, as_json=False)
    console.print(f"{count} records are in the range")
    if dry_run:
        console.print("dry run: nothing was handled")


def _question(count: int, run_id: str | None, *, overwrite: bool) -> str:
    what = f"{count} records" if run_id is None else f"those of run {run_id} among {count} records"
    return f"Handle {what} once more{', writing their rows again' if overwrite else ''}?"


def _start(*, from_start: bool, from_time: str | None, from_offset: int | None, run_id: str | None) -> Start:
    given = [from_start or None, from_time, from_offset]
    if sum(each is not None for each in given) > 1 or (run_id is None and given == [None, None, None]):
        raise typer.BadParameter("give one of --from-start, --from-time and --from-offset, or --run")
    if from_offset is not None:
        return from_offset
    return Edge.BEGINNING if from_time is None else _parsed(from_time, of="--from-time")


def _end(text: str) -> Start:
    return _parsed(text, of="--to")


def _parsed(text: str, *, of: str) -> Start:
    try:
        return parse_start(text)
    except ValueError as error:
        raise typer.BadParameter(f"{of} {text}: no offset or RFC 3339 time") from error


def _processor(wanted: Replay) -> str:
    group = known_group(wanted.group)
    return wanted.group.replace(".", "-") if group.family is None else group.family


def _settings(folder: Path, wanted: Replay) -> Mapping[str, str]:
    """Return the settings of the live worker of the stack in *folder*; without a stack, those of the environment."""
    told = settings_file.read(folder) or {}
    return told.get(wanted.group) or told.get(_processor(wanted), {})


def _read(folder: Path, replay_id: str) -> Replay:
    path = _path(folder, replay_id)
    try:
        return plans.read(path)
    except (OSError, ValueError) as error:
        known = ", ".join(sorted(plan.stem for plan in path.parent.glob("*.json"))) or "none"
        raise CommandFailed(f"no replay {replay_id} in {folder}; there are: {known}") from error


def _path(folder: Path, replay_id: str, *, make: bool = False) -> Path:
    if make:
        (folder / folders.REPLAYS).mkdir(parents=True, exist_ok=True)
    return folder / folders.REPLAYS / f"{replay_id}.json"
