"""The files of exports: written whole or not at all, and the standard streams in their place."""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from deploy.errors import Failed

STANDARD = "-"  # a file of that name is stdin or stdout


@contextmanager
def written(path: Path) -> Iterator[BinaryIO]:
    """
    A file that takes the place of *path* once it is whole; readable by its owner alone. stdout comes as it is written.

    Raises:
        Failed: the folder cannot be written.
    """
    if str(path) == STANDARD:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    try:
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise Failed(f"{path} cannot be written: {error.strerror}") from error
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
    """The file at *path*, to be read. Raises Failed where there is none."""
    if str(path) == STANDARD:
        yield sys.stdin.buffer
        return
    try:
        file = path.open("rb")
    except OSError as error:
        raise Failed(f"{path}: {error.strerror}") from error
    with file:
        yield file
