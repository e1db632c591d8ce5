"""The names of a partition's files: the places of what is in them."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

_OPEN = re.compile(r"(?P<first>\d{20})-(?P<opened_s>\d{10,})\.open\Z")
_CLOSED = re.compile(r"(?P<first>\d{20})-(?P<last>\d{20})\.jsonl(\.zst)?\Z")


class OpenFile(NamedTuple):
    """A file that is written to."""

    path: Path
    first: int  # the offset of its first record
    opened_s: int  # by the time of day


class ClosedFile(NamedTuple):
    """A file that is whole."""

    path: Path
    first: int
    last: int  # the offset of its last record


def open_file(folder: Path, *, first: int, opened_s: int) -> OpenFile:
    """Return the open file that begins with *first*."""
    return OpenFile(folder / f"{first:020}-{opened_s:010}.open", first, opened_s)


def closed_path(folder: Path, *, first: int, last: int, zstd: bool) -> Path:
    """Return the path of the closed file that has the records from *first* to *last*."""
    return folder / f"{first:020}-{last:020}.jsonl{'.zst' if zstd else ''}"


def sent_back_path(folder: Path, *, first: int, last: int, attempt: int) -> Path:
    """Return the path of records that were dead letters, sent back for the *attempt*th time: a file of their own."""
    return folder / f"{first:020}-{last:020}.redriven-{attempt}.jsonl"


def open_files(folder: Path) -> Sequence[OpenFile]:
    """Return the open files of a partition by their first offsets; more than one only after a crash."""
    found = ((path, _OPEN.match(path.name)) for path in folder.iterdir())
    return sorted(
        (OpenFile(path, int(name["first"]), int(name["opened_s"])) for path, name in found if name),
        key=lambda each: each.first,
    )


def closed_files(folder: Path) -> Sequence[ClosedFile]:
    """Return the closed files of a partition by their first offsets; not those of records that were sent back."""
    found = ((path, _CLOSED.match(path.name)) for path in folder.iterdir())
    return sorted(
        (ClosedFile(path, int(name["first"]), int(name["last"])) for path, name in found if name),
        key=lambda each: each.first,
    )
