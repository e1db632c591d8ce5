"""Options that several commands share."""

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
GROUP_NAMES = ", ".join([*(group.name for group in (*GROUPS, *OPTIONAL_GROUPS)), "evaluation.ENDPOINT", "sink.NAME"])


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
