"""What several commands take."""

from pathlib import Path
from typing import Annotated

import typer

from schemas.topics import GROUPS, Group, find_group

Dir = Annotated[Path, typer.Option("--dir", help="Folder of the stack that `tidegate up` runs.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]

DEFAULT_DIR = Path(".tidegate")
GROUP_NAMES = ", ".join([*(group.name for group in GROUPS), "evaluation:ENDPOINT"])


def known_group(name: str) -> Group:
    """
    The group that an option names.

    Raises:
        typer.BadParameter: there is none of that name.
    """
    group = find_group(name.replace(":", ".", 1))
    if group is None:
        raise typer.BadParameter(f"no group {name}; there are {GROUP_NAMES}")
    return group
