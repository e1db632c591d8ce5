"""The agent's tools: they list, search and read the text files of one folder, and fail as tools do."""

import re
from dataclasses import dataclass
from pathlib import Path

FILES_MAX = 1_000
MATCHES_MAX = 50  # per search
FILE_BYTES_MAX = 1024 * 1024


class ToolFailed(Exception):
    """The tool has nothing for these arguments. Go on without its result."""


class OtherEncoding(ToolFailed):
    """The file is no text in this encoding. Try another."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """One line that a search found."""

    file: str
    line: int
    text: str


def list_files(folder: Path) -> list[str]:
    """
    Return the names of the folder's text files.

    Raises:
        ToolFailed: there is no such folder.
    """
    if not folder.is_dir():
        raise ToolFailed(f"no folder {folder}")
    return sorted(path.name for path in folder.glob("*.txt"))[:FILES_MAX]


def search(folder: Path, stem: str) -> list[Match]:
    """Return the lines with a word that begins with *stem*; bytes that are no UTF-8 match nothing."""
    begins = re.compile(rf"\b{re.escape(stem)}", re.IGNORECASE)
    return [
        Match(file=name, line=number, text=line.strip())
        for name in list_files(folder)
        for number, line in enumerate((folder / name).read_text("utf-8", errors="replace").splitlines(), 1)
        if begins.search(line)
    ][:MATCHES_MAX]


def read_file(folder: Path, name: str, encoding: str) -> str:
    """
    Return the text of one file.

    Raises:
        OtherEncoding: the bytes are no text in *encoding*.
        ToolFailed: missing, unreadable, too large, or outside the folder.
    """
    path = (folder / name).resolve()
    if path.parent != folder.resolve():
        raise ToolFailed(f"{name} lies outside the folder")
    try:
        if path.stat().st_size > FILE_BYTES_MAX:
            raise ToolFailed(f"{name} is larger than {FILE_BYTES_MAX} bytes")
        return path.read_text(encoding)
    except UnicodeDecodeError as error:
        raise OtherEncoding(f"{name}: byte {error.start} is no {encoding}") from error
    except OSError as error:
        raise ToolFailed(f"{name}: {error.strerror}") from error
