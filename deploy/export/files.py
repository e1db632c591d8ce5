"""The files of exports: written whole or not at all, and the standard streams in their place."""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from deploy.errors import CommandFailed

STANDARD = "-"  # a file of that name is stdin or stdout


@contextmanager
def written(path: Path) -> Iterator[BinaryIO]:
    """
    Yield a file that replaces *path* once it is whole, readable by its owner alone; stdout is written to directly.

    An OSError inside the `with` block is taken to be of this file.

    Raises:
        CommandFailed: *path* is a folder, or cannot be written, as on a full disk. Nothing is left of the new file.
        BrokenPipeError: nobody reads stdout any more.
    """
    if str(path) == STANDARD:
        with _reported("stdout"):
            yield sys.stdout.buffer
            sys.stdout.buffer.flush()
        return
    if path.is_dir():
        raise CommandFailed(f"{path} is a folder: name a file in it, such as {path / 'run.jsonl'}")
    # A device or pipe is written to: renamed over, /dev/null would be a file from then on.
    is_special = path.exists() and not path.is_file()
    with _reported(str(path)), path.open("wb") if is_special else _replacing(path) as file:
        yield file


@contextmanager
def _reported(name: str) -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise CommandFailed(f"{name} cannot be written: {error.strerror}") from error


@contextmanager
def _replacing(path: Path) -> Iterator[BinaryIO]:
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """Yield the file at *path*, to be read. Raises CommandFailed where it cannot be opened."""
    if str(path) == STANDARD:
        yield sys.stdin.buffer
        return
    try:
        file = path.open("rb")
    except OSError as error:
        raise CommandFailed(f"{path}: {error.strerror}") from error
    with file:
        yield file
