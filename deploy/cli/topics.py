"""`tidegate topics list|create|describe|accept`."""

import os
from typing import Annotated

import typer
from confluent_kafka import TopicPartition
from confluent_kafka.admin import ConfigResource, OffsetSpec, ResourceType

from deploy.admin import positions, topics
from deploy.cli import addresses
from deploy.cli.options import DEFAULT_DIR, Dir, Json, Yes
from deploy.cli.output import console, print_json, print_rows, table
from deploy.errors import CommandFailed
from schemas.catalogue import GROUPS, all_topics, find_topic, groups_among
from schemas.kafka.lookups import admin_client
from schemas.process.settings import load
from schemas.runs.endpoints import EndpointsSettings, groups, watch
from schemas.sinks import sinks_file
from schemas.sinks.sinks_file import SinksSettings

SHOWN_CONFIG = ("cleanup.policy", "retention.ms", "max.message.bytes", "min.insync.replicas")


def register(app: typer.Typer) -> None:
    """Add the commands of this group."""
    group = typer.Typer(no_args_is_help=True, help="Kafka's topics, as the code declares them.")
    group.command("list")(list_topics)
    group.command("create")(create)
    group.command("describe")(describe)
    group.command("accept")(accept)
    app.add_typer(group, name="topics")


def list_topics(folder: Dir = DEFAULT_DIR, *, as_json: Json = False) -> None:
    """List the declared topics and whether the cluster has them."""
    found = topics.existing(admin_client(addresses.kafka(folder)))
    rows = [
        {
            "topic": topic.name,
            "partitions": found.get(topic.name),
            "key": topic.key,
            "records": [record.cls.__name__ for record in topic.records],
        }
        for topic in all_topics(groups_among(found))
    ]
    print_rows(rows, as_json=as_json)


def create(
    folder: Dir = DEFAULT_DIR,
    partitions: Annotated[
        int, typer.Option(min=1, help="Of each topic that does not fix its number; never changed later.")
    ] = topics.PARTITIONS,
    replication: Annotated[
        int | None,
        typer.Option(min=1, help="Copies of each partition; without it those of run.events or the brokers'."),
    ] = None,
    *,
    as_json: Json = False,
) -> None:
    """
    Create the topics that are missing and commit each group's first offset where it has none.

    Those of webhook endpoints too: TIDEGATE_ENDPOINTS or TIDEGATE_EVALUATION_URL says which there are. Those of sinks,
    which TIDEGATE_SINKS names. Those of processing, if TIDEGATE_EVENT_TYPES names functions, and of the archive, if
    TIDEGATE_ARCHIVE_TOPICS names topics.
    """
    kafka = addresses.kafka(folder)
    endpoints = watch(load(EndpointsSettings, os.environ))()
    sinks = sinks_file.watch(load(SinksSettings, os.environ))()
    wanted = (*GROUPS, *topics.optional_groups(os.environ), *groups(endpoints), *sinks_file.groups(sinks))
    created = topics.create(kafka, wanted, partitions=partitions, replication=replication)
    offsets = topics.commit_first_offsets(kafka, wanted)
    if as_json:
        print_json({"created": created, "first_offsets": offsets})
        return
    console.print("\n".join(f"created {name}" for name in created) or "every topic is there")
    for group, count in offsets.items():
        console.print(f"{group} begins in {count} partitions")


def accept(
    folder: Dir = DEFAULT_DIR,
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be done.")] = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """
    Accept the log as it is, after it was cut off, or deleted and created again, and let the groups go on.

    Each group goes on from the first record that it has not handled. Rows of lost records stay in Postgres. First make
    sure that no other copy of the log can be brought back.
    """
    known = addresses.read(folder, os.environ)
    kafka, postgres = known.need_kafka(), known.need("postgres")
    found = positions.acceptances(kafka, postgres)
    rows: list[dict[str, object]] = [
        {
            "group": each.found.group.name,
            "topic": each.found.place[0],
            "partition": each.found.place[1],
            "committed": each.found.position.offset,
            "end": each.found.log.end,
            "fault": each.fault.value,
            "goes_on_at": each.offset,
        }
        for each in found.positions
    ]
    if not as_json:
        print_rows(rows, as_json=False)
    for name in [] if as_json else sorted(found.recreated):
        console.print(f"{name} was deleted and created again: the rows that are stored lose their places in it")
    if found.is_needed and not dry_run:
        if not yes:
            typer.confirm("Accept the log as it is?", abort=True)
        positions.accept(kafka, postgres, found)
    if as_json:
        accepted = found.is_needed and not dry_run
        print_json({"accepted": accepted, "topics_recreated": sorted(found.recreated), "positions": rows})
    elif not found.is_needed:
        console.print("nothing to accept: every position stands for what its group has handled")
    elif dry_run:
        console.print("nothing was done")
    else:
        console.print("accepted; workers that were stopped go on by themselves")


def describe(
    name: Annotated[str, typer.Argument(help="A declared topic.")], folder: Dir = DEFAULT_DIR, *, as_json: Json = False
) -> None:
    """Show one topic: what it carries, its settings in the cluster and the offsets of its partitions."""
    topic = find_topic(name)
    if topic is None:
        raise CommandFailed(f"no topic {name} is declared; `tidegate topics list` names them")
    admin = admin_client(addresses.kafka(folder))
    count = topics.existing(admin).get(name)
    if count is None:
        raise CommandFailed(f"topic {name} does not exist: run `tidegate topics create`")
    [config] = admin.describe_configs([ConfigResource(ResourceType.TOPIC, name)]).values()
    in_force = config.result(topics.TIMEOUT_S)
    places = [TopicPartition(name, partition) for partition in range(count)]
    first = topics.offsets(admin, places, OffsetSpec.earliest())
    end = topics.offsets(admin, places, OffsetSpec.latest())
    settings = {setting: in_force[setting].value for setting in SHOWN_CONFIG}
    partitions = [
        {"partition": partition, "first_offset": first[partition], "end_offset": end[partition]}
        for partition in range(count)
    ]
    if as_json:
        records = [record.cls.__name__ for record in topic.records]
        print_json({"topic": name, "key": topic.key, "records": records, "config": settings, "partitions": partitions})
        return
    console.print(f"{name}: {', '.join(record.cls.__name__ for record in topic.records)} by {topic.key}")
    console.print(table(("setting", "value"), settings.items()))
    print_rows(partitions, as_json=False)
