"""Texts, put into normal form and cut into parts that fit a record."""

import re
from collections.abc import Iterable, Iterator

from processors.documents.parsing.results import (
    NOTES_MAX,
    PART_BYTES_MAX,
    PARTS_MAX,
    TEXT_BYTES_MAX,
    Parsed,
    Part,
    Reason,
    UnreadableUpload,
    clipped,
)
from schemas.documents.texts import normalised

# A part is cut at the last of these in its last half; the first kind that is there is taken.
_BORDERS = (re.compile(r"\n\s*\n"), re.compile(r"\n"), re.compile(r"\s"))
_CHARACTER_BYTES_MAX = 4


def parsed(parts: Iterable[Part], *, is_markdown: bool, metadata: dict[str, str], notes: Iterable[str] = ()) -> Parsed:
    """
    Return what was read of an upload.

    Raises:
        UnreadableUpload: there is no text in it, or too much.
    """
    found: list[Part] = []
    text_bytes = 0
    for part in parts:
        for piece in _pieces(part):
            text_bytes += len(piece.text.encode())
            if text_bytes > TEXT_BYTES_MAX or len(found) == PARTS_MAX:
                raise UnreadableUpload(
                    Reason.TOO_MUCH_TEXT, f"more than {TEXT_BYTES_MAX} bytes of text or {PARTS_MAX} parts"
                )
            found.append(piece)
    if not found:
        raise UnreadableUpload(Reason.NO_TEXT, "no text was found; pictures of pages are not read")
    shown = tuple(clipped(normalised(note).text) for note, _ in zip(notes, range(NOTES_MAX), strict=False))
    return Parsed(
        parts=tuple(found),
        is_markdown=is_markdown,
        metadata={normalised(name).text: normalised(value).text for name, value in metadata.items()},
        notes=shown,
    )


def _pieces(part: Part) -> Iterator[Part]:
    text = normalised(part.text).text
    title = clipped(normalised(part.title).text) if part.title else None
    href = clipped(normalised(part.href).text) if part.href else None
    at = 0
    while at < len(text):
        end = _end(text, at)
        if text[at:end].strip():
            yield Part(
                text=text[at:end],
                title=title or None,
                href=href,
                page=part.page,
                page_starts=part.page_starts if end == len(text) and at == 0 else ((0,) if part.page else ()),
            )
        at = end


def _end(text: str, at: int) -> int:
    # As many characters as surely fit; a text of one byte each gets them all.
    room = PART_BYTES_MAX
    if len(text) - at <= room and len(text[at:].encode()) <= PART_BYTES_MAX:
        return len(text)
    piece = text[at : at + room].encode()[:PART_BYTES_MAX].decode(errors="ignore")
    end = at + len(piece)
    middle = at + len(piece) // 2
    for border in _BORDERS:
        last = None
        for last in border.finditer(text, middle, end):  # noqa: B007  the last one is wanted
            pass
        if last is not None:
            return last.end()
    return end
