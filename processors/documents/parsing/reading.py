"""The readers, by kind."""

from collections.abc import Callable, Mapping
from typing import Protocol

from processors.documents.parsing.docx import read_docx
from processors.documents.parsing.epub import read_epub
from processors.documents.parsing.html import read_html
from processors.documents.parsing.pdf import read_pdf
from processors.documents.parsing.plain import read_markdown, read_text
from processors.documents.parsing.results import Parsed
from schemas.documents.kinds import UploadKind


class Reader(Protocol):
    """A function that reads one format."""

    def __call__(self, content: bytes, *, charset: str | None) -> Parsed:
        """Return what is in *content*; *charset* is what its sender declared. Raises UnreadableUpload."""


READERS: Mapping[UploadKind, Reader] = {
    UploadKind.TEXT: read_text,
    UploadKind.MARKDOWN: read_markdown,
    UploadKind.HTML: read_html,
    UploadKind.EPUB: read_epub,
    UploadKind.DOCX: read_docx,
    UploadKind.PDF: read_pdf,
}

ReadUpload = Callable[[UploadKind, bytes, str | None], Parsed]


def read(kind: UploadKind, content: bytes, charset: str | None) -> Parsed:
    """Return what is in an upload of the kind. Raises UnreadableUpload."""
    return READERS[kind](content, charset=charset)
