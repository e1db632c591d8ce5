"""The kinds of uploads, by what is declared and what the bytes are: both must agree."""

from enum import StrEnum

PDF_WITHIN_BYTES = 1024  # of the start: what is before the header of a PDF is tolerated by every reader


class UploadKind(StrEnum):
    """A format with a reader."""

    TEXT = "text"
    MARKDOWN = "markdown"
    HTML = "html"
    EPUB = "epub"
    DOCX = "docx"
    PDF = "pdf"


_BY_TYPE = {
    "text/plain": UploadKind.TEXT,
    "text/markdown": UploadKind.MARKDOWN,
    "text/x-markdown": UploadKind.MARKDOWN,
    "text/html": UploadKind.HTML,
    "application/xhtml+xml": UploadKind.HTML,
    "application/epub+zip": UploadKind.EPUB,
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": UploadKind.DOCX,
    "application/pdf": UploadKind.PDF,
}
_BY_EXTENSION = {
    "txt": UploadKind.TEXT,
    "text": UploadKind.TEXT,
    "md": UploadKind.MARKDOWN,
    "markdown": UploadKind.MARKDOWN,
    "html": UploadKind.HTML,
    "htm": UploadKind.HTML,
    "xhtml": UploadKind.HTML,
    "epub": UploadKind.EPUB,
    "docx": UploadKind.DOCX,
    "pdf": UploadKind.PDF,
}
_UNTOLD = {"", "application/octet-stream", "binary/octet-stream"}
ZIP_MAGIC = b"PK\x03\x04"
ARCHIVE_MAGIC = (
    ZIP_MAGIC,
    b"PK\x05\x06",
    b"\x1f\x8b\x08",
    b"7z\xbc\xaf\x27\x1c",
    b"Rar!\x1a\x07",
    b"BZh",
    b"\xfd7zXZ\x00",
)
_BINARY_MAGIC = (
    *ARCHIVE_MAGIC,
    b"%PDF-",
    b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1",  # the older Office
    b"\x7fELF",
    b"MZ\x90",
    b"\x89PNG",
    b"\xff\xd8\xff",
    b"GIF8",
    b"SQLite format 3",
)


class UnsupportedKind(Exception):
    """The upload is declared as nothing that is read. Send another format, or declare it."""


class KindMismatch(Exception):
    """The upload is not what it is declared to be. Declare it as what it is."""


def kind_of(content: bytes, *, content_type: str | None, filename: str | None) -> UploadKind:
    """
    Return the kind of an upload.

    Raises:
        UnsupportedKind: it is declared as no kind that is read.
        KindMismatch: its content type, its name and its first bytes do not agree.
    """
    kind = _declared(content_type, filename)
    if not _agrees(kind, content):
        raise KindMismatch(f"declared as {kind}, but the bytes are of something else")
    return kind


def _declared(content_type: str | None, filename: str | None) -> UploadKind:
    media_type = (content_type or "").partition(";")[0].strip().lower()
    name = filename or ""
    by_name = _BY_EXTENSION.get(name.rpartition(".")[2].lower()) if "." in name else None
    if media_type in _UNTOLD:
        if by_name is None:
            raise UnsupportedKind("neither content type nor file name tells a known type")
        return by_name
    by_type = _BY_TYPE.get(media_type)
    if by_type is None:
        raise UnsupportedKind(f"content of the type {media_type[:100]!r} is not read")
    if by_type is UploadKind.TEXT and by_name is UploadKind.MARKDOWN:  # many send Markdown as what it also is
        return by_name
    if by_name not in (None, by_type):
        raise KindMismatch(f"the content type says {by_type}, the file's name {by_name}")
    return by_type


def _agrees(kind: UploadKind, content: bytes) -> bool:
    match kind:
        case UploadKind.EPUB | UploadKind.DOCX:
            return content.startswith(ZIP_MAGIC)
        case UploadKind.PDF:
            return b"%PDF-" in content[:PDF_WITHIN_BYTES]
        case _:
            return not content.startswith(_BINARY_MAGIC)
