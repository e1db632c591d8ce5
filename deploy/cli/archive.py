"""`tidegate archive ls|cat|verify`: the archived objects, their records, and whether they are whole."""

import os
import sys
from collections.abc import Mapping
from dataclasses import asdict
from typing import Annotated

import typer

from deploy.admin import topics
from deploy.archive import queries, reading
from deploy.archive.reading import BranchObjects
from deploy.archive.selecting import ArchiveSelection, lines
from deploy.archive.verifying import FaultKind, Proof, verify
from deploy.cli import addresses
from deploy.cli.options import DEFAULT_DIR, Dir, Json, moment
from deploy.cli.output import console, plain, print_json, print_rows, shown
from deploy.errors import CommandFailed
from schemas.archive.chain import Link
from schemas.archive.lines import read as read_line
from schemas.archive.names import Branch
from schemas.archive.storage import ArchiveStorage, prefix_of
from schemas.archive.topics import ARCHIVABLE, archived_topic
from schemas.kafka.connection import KafkaSettings
from schemas.kafka.headers import moment_of
from schemas.kafka.lookups import admin_client, topic_ids

TOPIC_NAMES = ", ".join(sorted(topic.name for topic in ARCHIVABLE))

Topic = Annotated[str | None, typer.Argument(metavar="TOPIC", help="Only this topic; without it all of them.")]
OneTopic = Annotated[str, typer.Argument(metavar="TOPIC", help=f"One of {TOPIC_NAMES}.")]
Partition = Annotated[int | None, typer.Option(min=0, help="Only this partition.")]
Since = Annotated[str | None, typer.Option("--since", help="Only what was written since then (RFC 3339).")]
Until = Annotated[str | None, typer.Option("--until", help="Only what was written before then (RFC 3339).")]
TopicId = Annotated[str | None, typer.Option(help="Kafka's id of the topic, where it was created more than once.")]


def register(app: typer.Typer) -> None:
    """Add the commands of this group."""
    group = typer.Typer(no_args_is_help=True, help="The records of topics as objects in object storage.")
    group.command("ls")(ls)
    group.command("cat")(cat)
    group.command("verify")(verify_objects)
    app.add_typer(group, name="archive")


def ls(
    topic: Topic = None,
    folder: Dir = DEFAULT_DIR,
    *,
    partition: Partition = None,
    since: Since = None,
    until: Until = None,
    duckdb: Annotated[bool, typer.Option("--duckdb", help="Print the query by which DuckDB reads them.")] = False,
    as_json: Json = False,
) -> None:
    """List the archived objects: which offsets each covers, and from when to when its records were written."""
    selection = ArchiveSelection(since=moment(since), until=moment(until))
    storage = reading.storage(folder, os.environ)
    rows: list[dict[str, object]] = []
    names = []
    for branch, objects in _found(storage, topic, partition).items():
        reading.demand_readable(objects)
        for link in objects.chain.links:
            if selection.may_be_in(link):
                names.append(link.name)
                rows.append(_row(branch, objects, link))
    if duckdb:
        if not names:
            console.print("-- no archived object is in the range")
            return
        console.out(queries.read_json(reading.location(folder, os.environ), names), highlight=False)
        return
    print_rows(rows, as_json=as_json)


def cat(
    topic: OneTopic,
    folder: Dir = DEFAULT_DIR,
    *,
    partition: Partition = None,
    topic_id: TopicId = None,
    first: Annotated[int, typer.Option("--from-offset", min=0, help="From this offset on.")] = 0,
    end: Annotated[int | None, typer.Option("--to-offset", min=0, help="Up to, not including.")] = None,
    since: Since = None,
    until: Until = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the lines as they are archived.")] = False,
) -> None:
    """Print archived records, one a line, in the order of their offsets by partition."""
    selection = ArchiveSelection(first=first, end=end, since=moment(since), until=moment(until))
    storage = reading.storage(folder, os.environ)
    found = _of_one_id(_found(storage, _known(topic), partition), topic_id)
    for branch, objects in found.items():
        reading.demand_readable(objects)
        for gap in objects.chain.gaps:
            if gap.next > first and (end is None or gap.first < end):
                raise CommandFailed(f"{branch} lacks {gap.first} to {gap.next - 1}; see `tidegate archive verify`")
        for link in objects.chain.links:
            for text in lines(storage, link, selection) if selection.may_be_in(link) else ():
                sys.stdout.buffer.write(text if as_json else _shown(text))
    sys.stdout.flush()


def verify_objects(
    topic: Topic = None,
    folder: Dir = DEFAULT_DIR,
    *,
    deep: Annotated[
        bool, typer.Option("--contents/--no-contents", help="Read every object, not only its footer.")
    ] = True,
    as_json: Json = False,
) -> None:
    """
    Prove that archived objects are as they were written, and that none is missing; exit code 1 if not.

    What the groups have committed says how far the archive must go, if Kafka is known.
    """
    storage = reading.storage(folder, os.environ)
    known = addresses.read(folder, os.environ)
    committed = {} if known.kafka is None else _committed(known.need_kafka(), topic)
    proof = Proof(faults=[])
    for _ in verify(storage, prefix_of(None if topic is None else _known(topic)), committed, deep=deep, proof=proof):
        pass
    if as_json:
        print_json(asdict(proof))
    else:
        print_rows([asdict(fault) for fault in proof.faults], as_json=False)
        compared = "" if known.kafka is not None else "; Kafka is not known, so their ends were compared with nothing"
        console.print(f"{proof.objects} objects with {proof.records} records are whole{compared}")
    broken = [fault for fault in proof.faults if fault.kind is not FaultKind.LEFTOVER]
    if broken:
        raise CommandFailed(f"the archive is not whole: {len(broken)} faults, the first in {broken[0].object}")


def _known(topic: str) -> str:
    if topic not in {each.name for each in ARCHIVABLE}:
        raise typer.BadParameter(f"{topic} is no topic that can be archived; use one of {TOPIC_NAMES}")
    return topic


def _found(storage: ArchiveStorage, topic: str | None, partition: int | None) -> Mapping[Branch, BranchObjects]:
    found = reading.read(storage, prefix_of(None if topic is None else _known(topic)))
    return {branch: each for branch, each in found.items() if partition in (None, branch.partition)}


def _of_one_id(found: Mapping[Branch, BranchObjects], topic_id: str | None) -> Mapping[Branch, BranchObjects]:
    ids = sorted({branch.topic_id for branch in found})
    if topic_id is None and len(ids) > 1:
        raise CommandFailed(f"the topic was created more than once: name one of {', '.join(ids)} by --topic-id")
    return {branch: each for branch, each in found.items() if topic_id in (None, branch.topic_id)}


def _shown(text: bytes) -> bytes:
    """Return a line for people: where the record was, when it was written, and what it says."""
    line = read_line(text)
    record = bytes(line.record).decode()
    said = record if record != "null" else f"not decoded: {len(line.value_bytes or b'')} bytes"
    place = f"{line.topic}/{line.partition}/{line.offset}"
    return f"{place}  {shown(moment_of(line.timestamp))}  {plain(said)}\n".encode()


def _row(branch: Branch, objects: BranchObjects, link: Link) -> dict[str, object]:
    footer = link.footer
    return {
        "topic": branch.topic,
        "topic_id": branch.topic_id,
        "partition": branch.partition,
        "first": footer.first,
        "next": footer.next,
        "records": footer.count,
        "bytes": objects.sizes[link.name],
        "from": moment_of(footer.first_ms),
        "to": moment_of(footer.last_ms),
    }


def _committed(kafka: KafkaSettings, topic: str | None) -> Mapping[Branch, int]:
    """Return what the groups of the archive have committed of the topics as they are now."""
    found: dict[Branch, int] = {}
    groups = [each for each in topics.groups_of(kafka) if archived_topic(each) and topic in (None, each.member)]
    ids = topic_ids(admin_client(kafka), [group.source.name for group in groups], timeout_s=topics.TIMEOUT_S)
    for group in groups:
        for place in topics.committed(kafka, group, group.source):
            if place.offset >= 0 and group.source.name in ids:
                branch = Branch(topic=place.topic, topic_id=ids[place.topic], partition=place.partition)
                found[branch] = place.offset
    return found
