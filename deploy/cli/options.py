"""Options that several commands share."""

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from deploy.admin import topics
from schemas.catalogue import GROUPS, OPTIONAL_GROUPS, find_group
from schemas.kafka.connection import KafkaSettings
from schemas.kafka.topics import GROUP_PREFIX, Group
from schemas.sinks.topics import sink_of

Dir = Annotated[Path, typer.Option("--dir", help="Folder of the stack that `tidegate up` runs.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]

DEFAULT_DIR = Path(".tidegate")
GROUP_NAMES = ", ".join(
    [*(group.name for group in (*GROUPS, *OPTIONAL_GROUPS)), "evaluation.ENDPOINT", "sink.NAME", "archive.TOPIC"]
)


def known_group(name: str) -> Group:
    """
    Return the group that an option names; Kafka's name of it and the older `evaluation:ENDPOINT` count too.

    Raises:
        typer.BadParameter: there is no group of that name.
    """
    group = find_group(name.removeprefix(GROUP_PREFIX).replace(":", ".", 1))
    if group is None:
        raise typer.BadParameter(f"there is no group {name}; use one of {GROUP_NAMES}")
    return group


def existing_group(name: str, kafka: KafkaSettings) -> Group:
    """
    Return the same as the cluster has it: its topics say which source a sink has.

    Raises:
        typer.BadParameter: there is no group of that name.
        NotReachable: no broker answers, where that must be asked.
    """
    group = known_group(name)
    if sink_of(group) is None:
        return group
    return next((each for each in topics.groups_of(kafka) if each.name == group.name), group)


def moment(text: str | None) -> datetime | None:
    """
    Return the time that an option names; None if it was not given.

    Raises:
        typer.BadParameter: it is no RFC 3339 time with its offset from UTC.
    """
    if text is None:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise typer.BadParameter(f"{text} is no RFC 3339 time") from error
    if found.tzinfo is None:
        raise typer.BadParameter(f"{text} lacks its offset from UTC, such as Z or +02:00")
    return found
