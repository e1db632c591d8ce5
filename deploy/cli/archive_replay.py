"""`tidegate replay GROUP --from-archive`: archived records on their way back to a live group, at their own places."""

import os
from functools import partial

import typer

from deploy.admin import topics
from deploy.archive import reading
from deploy.archive.replaying import ArchivedRange, ranges, send
from deploy.cli.addresses import Addresses
from deploy.cli.output import console, print_json, print_rows, progress_bar
from deploy.errors import CommandFailed
from deploy.log.reading import Start
from deploy.log.writing import Writer
from schemas.archive.storage import prefix_of
from schemas.archive.topics import ARCHIVABLE
from schemas.kafka.connection import KafkaSettings
from schemas.kafka.lookups import admin_client, topic_ids
from schemas.kafka.topics import Group


def replay(
    known: Addresses,
    group: Group,
    *,
    start: Start,
    end: Start,
    run_id: str | None,
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Send archived records of the source of *group* to its live worker, which stores each at its own place."""
    if group.source not in ARCHIVABLE or group.beside:
        raise CommandFailed(f"the records of {group.name} cannot be taken from an archive of {group.source.name}")
    storage = reading.storage(known.folder, os.environ)
    kafka = known.need_kafka()
    topics.partitions_of(kafka, group.redrive)  # raises where there is no such group
    found = reading.read(storage, prefix_of(group.source.name, _topic_id(kafka, group)))
    wanted = ranges(found, start=start, end=end)
    count = sum(each.count_max for each in wanted)
    if not as_json:
        _print(wanted, count)
    if dry_run or not count:
        if as_json:
            print_json({"offsets": count, "partitions": _rows(wanted)})
        return
    what = f"{count} records" if run_id is None else f"those of run {run_id} among {count} records"
    if not yes:
        typer.confirm(f"Send {what} to {group.name} once more?", abort=True)
    with progress_bar(shown=not as_json) as progress:
        bar = progress.add_task(f"to {group.name}", total=count)
        key = None if run_id is None else run_id.encode()
        try:
            sent = send(storage, wanted, group, Writer(kafka), key=key, on_passed=partial(progress.advance, bar))
        except KeyboardInterrupt:
            raise CommandFailed("stopped; the same command does it again, which does no harm") from None
    if as_json:
        print_json({"records": sent, "partitions": _rows(wanted)})
        return
    console.print(
        f"{sent} records sent to {group.redrive.name}: `tidegate lag` shows what {group.name} has yet to handle"
    )


def _topic_id(kafka: KafkaSettings, group: Group) -> str:
    """Return the id of the topic as it is now: only its own records have their places in it."""
    ids = topic_ids(admin_client(kafka), [group.source.name], timeout_s=topics.TIMEOUT_S)
    if group.source.name not in ids:
        raise CommandFailed(f"topic {group.source.name} does not exist: run `tidegate topics create`")
    return ids[group.source.name]


def _print(wanted: list[ArchivedRange], count: int) -> None:
    print_rows(_rows(wanted), as_json=False)
    console.print(f"{count} offsets are in the range")


def _rows(wanted: list[ArchivedRange]) -> list[dict[str, object]]:
    return [
        {"partition": each.branch.partition, "from": each.start, "to": each.end, "objects": len(each.links)}
        for each in wanted
    ]
