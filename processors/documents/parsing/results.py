"""The outcome of parsing an upload."""

from collections.abc import Sequence
from enum import StrEnum

import msgspec

CONTENT_BYTES_MAX = 32 * 1024 * 1024
PART_BYTES_MAX = 2 * 1024 * 1024  # of a part's text, as UTF-8
TEXT_BYTES_MAX = 64 * 1024 * 1024  # of all parts of an upload, as UTF-8
LABEL_CHARACTERS_MAX = 1000  # of a title, a note or a value of the metadata
METADATA_MAX = 64
NOTES_MAX = 100
PARTS_MAX = 10_000


class Reason(StrEnum):
    """The cause of a failure; stable, for programs."""

    UNSUPPORTED_TYPE = "unsupported_type"
    TYPE_MISMATCH = "type_mismatch"  # of what is declared and what the bytes are
    TOO_LARGE = "too_large"
    TOO_MUCH_TEXT = "too_much_text"
    TOO_MANY_PAGES = "too_many_pages"
    ARCHIVE_BOUNDS = "archive_bounds"
    NESTED_ARCHIVE = "nested_archive"
    ENCRYPTED = "encrypted"
    CORRUPT = "corrupt"
    NO_TEXT = "no_text"
    TIMEOUT = "timeout"  # of processor or wall clock
    MEMORY = "memory"
    CRASHED = "crashed"
    BAD_ANSWER = "bad_answer"
    BUSY = "busy"  # no child came free in time
    UNAVAILABLE = "unavailable"  # no child could be started


TRANSIENT = frozenset({Reason.BUSY, Reason.UNAVAILABLE})


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """A part of an upload, which becomes a document of its own; its text is in normal form."""

    text: str
    title: str | None = None
    href: str | None = None  # of an EPUB: the file in it
    page: int | None = None  # of a PDF: the first one, from 1
    page_starts: tuple[int, ...] = ()  # of a PDF: where in the text each page begins, the first one's included


class Parsed(msgspec.Struct, frozen=True, kw_only=True, tag="parsed", tag_field="outcome"):
    """The texts of an upload; at least one part, and none without text."""

    parts: tuple[Part, ...]
    is_markdown: bool = False  # headings are `#` lines
    metadata: dict[str, str] = {}
    notes: tuple[str, ...] = ()  # about what was left out or guessed


class ParseFailed(msgspec.Struct, frozen=True, kw_only=True, tag="failed", tag_field="outcome"):
    """An upload without texts, and the cause."""

    reason: Reason
    detail: str

    @property
    def is_transient(self) -> bool:
        """True if the same upload may be parsed later."""
        return self.reason in TRANSIENT


class UnreadableUpload(Exception):
    """The upload cannot be read; the same bytes fail again."""

    def __init__(self, reason: Reason, detail: str) -> None:
        self.reason = reason
        self.detail = detail
        super().__init__(f"{reason}: {detail}")


def clipped(text: str) -> str:
    """Return a text for a title, a note or the metadata: one line, not too long."""
    return " ".join(text[: LABEL_CHARACTERS_MAX * 4].split())[:LABEL_CHARACTERS_MAX]


def labels(values: Sequence[tuple[str, str | None]]) -> dict[str, str]:
    """Return metadata of what is there of *values*."""
    found = {clipped(name): clipped(value) for name, value in values if value and value.strip()}
    return dict(list(found.items())[:METADATA_MAX])
