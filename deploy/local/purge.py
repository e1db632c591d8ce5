"""Delete what a stack made, and nothing else that may lie in its folder."""

import shutil
from contextlib import suppress
from pathlib import Path

from deploy.local import development, folders, lock, logs, settings_file, stack_file

MADE = (
    *("kafka", "postgres", "postgres.unfinished", logs.FOLDER),
    *("up.log", "up.log.1", lock.SUPERVISOR, lock.CHILDREN),
    *(development.CREDENTIALS, development.SECRETS, development.LIMITS, development.RETENTION),
    *(settings_file.NAME, stack_file.NAME),
    *(folders.OBJECTS, folders.REPLAYS),
)


def purge(folder: Path) -> None:
    """Delete the data, logs and secrets of the stopped stack in *folder*, and the folder if nothing else is in it."""
    for path in (folder / name for name in MADE):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    with suppress(OSError):  # something of the user's is in it, or it is not there
        folder.rmdir()
