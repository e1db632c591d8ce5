"""Removal of what a stack made in its folder, and of nothing else that may be there."""

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from deploy.errors import CommandFailed
from deploy.local import development, lock, logs, made, settings_file

LOG_FILE = re.compile(r".+\.log(\.1)?\Z")
# Of an interrupted write.
CREDENTIALS_TEMPORARY = re.compile(rf"\.{re.escape(development.CREDENTIALS)}\.[0-9a-f]{{8}}\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Purged:
    """One path: removed, or left for a reason."""

    path: str
    left_because: str | None = None  # None: it was removed


def purge(folder: Path) -> Iterator[Purged]:
    """
    Remove the data, logs and secrets of the stopped stack in *folder*, step by step; then *folder* if it is empty.

    Links are neither followed nor removed. What is elsewhere, such as the place that TIDEGATE_OBJECTS names, stays.

    Raises:
        CommandFailed: no stack was started there, one still runs, or something cannot be removed.
    """
    if folder.is_symlink():
        raise CommandFailed(f"{folder} is a link to {folder.readlink()}: nothing was removed; name the folder itself")
    if not folder.is_dir() or not any(folder.iterdir()):
        return
    if (folder / lock.CHILDREN).exists():
        made.claim(folder)  # it may be a stack of a version that kept no record
    owned = made.read(folder)
    if owned is None:
        raise CommandFailed(f"no stack was ever started in {folder}: nothing was removed")
    with lock.hold(folder):
        yield from _elsewhere(folder)
        for path in sorted(folder.iterdir()):
            if path.name in (made.NAME, *made.LOCKS):
                continue
            if path.name in owned or CREDENTIALS_TEMPORARY.match(path.name):
                yield from _remove(path)
            else:
                yield Purged(path=str(path), left_because="the stack did not make it")
        for name in (made.NAME, *made.LOCKS):
            (folder / name).unlink(missing_ok=True)
    if not any(folder.iterdir()):
        folder.rmdir()
        yield Purged(path=str(folder))


def _remove(path: Path) -> Iterator[Purged]:
    if path.is_symlink():
        yield Purged(path=str(path), left_because=f"it is a link to {path.readlink()}")
        return
    try:
        if path.name == logs.FOLDER:
            yield from _remove_logs(path)
            return
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    except OSError as error:
        raise CommandFailed(f"{error.filename or path} cannot be removed: {error.strerror}") from error
    yield Purged(path=str(path))


def _remove_logs(folder: Path) -> Iterator[Purged]:
    for path in sorted(folder.iterdir()):
        if LOG_FILE.match(path.name) and path.is_file() and not path.is_symlink():
            path.unlink()
        else:
            yield Purged(path=str(path), left_because="it is not a log of the stack")
    if not any(folder.iterdir()):
        folder.rmdir()
        yield Purged(path=str(folder))


def _elsewhere(folder: Path) -> Iterator[Purged]:
    """Yield what the stack used and that is not in its folder."""
    told = (settings_file.read(folder) or {}).get("gateway", {})
    objects = told.get("TIDEGATE_OBJECTS", "")
    if objects and Path(objects).absolute().parent != folder.absolute():
        yield Purged(path=objects, left_because="TIDEGATE_OBJECTS named it")
    for server in ("kafka", "postgres"):
        if told and not (folder / server).exists():
            name = f"TIDEGATE_{server.upper()}"
            yield Purged(path=f"what was stored in {server}", left_because=f"{name} named the server")
