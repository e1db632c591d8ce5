"""
`<dir>/made.json`: which names in the folder of a stack are the stack's own, so that a purge touches nothing else.

A name is the stack's if nothing had it when a stack was first started there.
"""

import json
import os
from pathlib import Path

from deploy.errors import CommandFailed
from deploy.local import development, folders, lock, logs, settings_file, stack_file

NAME = "made.json"
LOCKS = (lock.SUPERVISOR, lock.CHILDREN)
NAMES = (
    *("kafka", "postgres", "postgres.unfinished", logs.FOLDER, "up.log", "up.log.1"),
    *(development.CREDENTIALS, development.SECRETS, development.LIMITS, development.RETENTION),
    *(settings_file.NAME, stack_file.NAME, stack_file.TEMPORARY),
    *(folders.OBJECTS, folders.REPLAYS),
)


def claim(folder: Path) -> None:
    """Record as the stack's own each name that nothing has yet. Call it before anything is made in *folder*."""
    known = read(folder)
    if known is None:
        # Only a stack makes this lock: one of a version that kept no record was started here.
        is_older_stack = (folder / lock.CHILDREN).exists()
        known = frozenset(NAMES) if is_older_stack else frozenset()
    owned = known | {name for name in NAMES if not os.path.lexists(folder / name)}
    temporary = folder / f".{NAME}"
    temporary.write_text(json.dumps({"made_by_stack": sorted(owned)}, indent=2) + "\n")
    temporary.replace(folder / NAME)


def read(folder: Path) -> frozenset[str] | None:
    """
    Return the names in *folder* that are the stack's own; None if no stack was ever started there.

    Raises:
        CommandFailed: the record cannot be read.
    """
    try:
        names = json.loads((folder / NAME).read_text())["made_by_stack"]
    except FileNotFoundError:
        return None
    except (ValueError, KeyError) as error:
        raise CommandFailed(
            f"{folder / NAME} cannot be read, so nothing is known to be the stack's: {error}"
        ) from error
    return frozenset(name for name in names if name in NAMES)
