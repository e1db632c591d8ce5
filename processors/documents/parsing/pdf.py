"""PDF: the text of its pages, in parts that begin with a page."""

from collections.abc import Iterator
from io import BytesIO
from typing import Any

from pypdf import PdfReader
from pypdf.errors import DependencyError, PyPdfError

from processors.documents.parsing.parts import parsed
from processors.documents.parsing.results import PART_BYTES_MAX, Parsed, Part, Reason, UnreadableUpload, labels
from schemas.documents.texts import normalised

PAGES_MAX = 5000
NODES_MAX = 4 * PAGES_MAX  # of the tree of pages
# What pypdf raises of a broken file, its own errors aside.
_BROKEN = (
    PyPdfError,
    ValueError,
    KeyError,
    IndexError,
    TypeError,
    AttributeError,
    RecursionError,
    OverflowError,
    OSError,
)
_BETWEEN = "\n\n"


def read_pdf(content: bytes, *, charset: str | None) -> Parsed:  # noqa: ARG001  fonts say it themselves
    """Return a PDF; a page that cannot be read is noted."""
    notes: list[str] = []
    try:
        reader = PdfReader(BytesIO(content), strict=False)
        if reader.is_encrypted:
            raise UnreadableUpload(Reason.ENCRYPTED, "the file is encrypted")
        _count_pages(reader)
        pages = len(reader.pages)
        found = reader.metadata
        metadata = labels(
            [("title", found.title), ("creator", found.author), ("subject", found.subject)] if found else []
        )
    except DependencyError as error:
        raise UnreadableUpload(Reason.ENCRYPTED, "the file is encrypted") from error
    except _BROKEN as error:
        raise UnreadableUpload(Reason.CORRUPT, f"the file cannot be opened: {error}") from error
    texts = ((number, _page(reader, number, notes)) for number in range(1, pages + 1))
    parts = list(_parts(texts, metadata.get("title")))
    return parsed(parts, is_markdown=False, metadata=metadata | {"pages": str(pages)}, notes=notes)


def _count_pages(reader: PdfReader) -> None:
    """Walk the tree of pages within bounds: it may be a ring, or a million wide. Raises UnreadableUpload."""
    seen: set[tuple[int, int]] = set()
    waiting: list[Any] = [reader.root_object.raw_get("/Pages")]
    nodes = 0
    while waiting:
        reference = waiting.pop()
        nodes += 1
        if nodes > NODES_MAX:
            raise UnreadableUpload(Reason.TOO_MANY_PAGES, f"more than {PAGES_MAX} pages")
        if (number := getattr(reference, "idnum", None)) is not None:
            place = (number, getattr(reference, "generation", 0))
            if place in seen:
                raise UnreadableUpload(Reason.CORRUPT, "the tree of pages holds itself or a page twice")
            seen.add(place)
        node = reference.get_object() if reference is not None else None
        kids = node.get("/Kids") if isinstance(node, dict) else None
        kids = kids.get_object() if kids is not None else None
        if isinstance(kids, list):
            if len(kids) > NODES_MAX:
                raise UnreadableUpload(Reason.TOO_MANY_PAGES, f"more than {PAGES_MAX} pages")
            waiting += kids
    if len(reader.pages) > PAGES_MAX:
        raise UnreadableUpload(Reason.TOO_MANY_PAGES, f"{len(reader.pages)} pages; at most {PAGES_MAX} are read")


def _page(reader: PdfReader, number: int, notes: list[str]) -> str:
    try:
        return reader.pages[number - 1].extract_text().strip()
    except _BROKEN as error:
        notes.append(f"page {number} cannot be read: {type(error).__name__}")
        return ""


def _parts(pages: Iterator[tuple[int, str]], title: str | None) -> Iterator[Part]:
    """Yield pages together as far as they fit."""
    texts: list[str] = []
    first, size = 1, 0
    for number, text in pages:
        added = len(text.encode(errors="replace")) + len(_BETWEEN)
        if texts and size + added > PART_BYTES_MAX:
            yield _part(first, texts, title)
            texts, size = [], 0
        if not texts:
            first = number
        texts.append(text)
        size += added
    if texts:
        yield _part(first, texts, title)


def _part(first: int, texts: list[str], title: str | None) -> Part:
    texts = [normalised(each).text for each in texts]
    starts = [0]
    for text in texts[:-1]:
        starts.append(starts[-1] + len(text) + len(_BETWEEN))
    return Part(text=_BETWEEN.join(texts), title=title, page=first, page_starts=tuple(starts))
