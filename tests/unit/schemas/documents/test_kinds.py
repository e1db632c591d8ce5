"""The kind of an upload, by its declaration and its bytes."""

import pytest

from schemas.documents.kinds import KindMismatch, UnsupportedKind, UploadKind, kind_of

ZIP = b"PK\x03\x04rest"


@pytest.mark.parametrize(
    ("content", "content_type", "filename", "kind"),
    [
        (b"text", "text/plain; charset=utf-8", None, UploadKind.TEXT),
        (b"text", "text/plain", "notes.md", UploadKind.MARKDOWN),
        (b"text", "TEXT/HTML", "a.htm", UploadKind.HTML),
        (b"text", None, "A.TXT", UploadKind.TEXT),
        (b"%PDF-1.7", "application/octet-stream", "a.pdf", UploadKind.PDF),
        (b"\n\n%PDF-1.7", "application/pdf", None, UploadKind.PDF),
        (ZIP, "application/epub+zip", "book.epub", UploadKind.EPUB),
        (ZIP, "", "letter.docx", UploadKind.DOCX),
        (b"text", "text/plain", "name.without.known", UploadKind.TEXT),
    ],
)
def test_a_kind_is_what_is_declared(
    content: bytes, content_type: str | None, filename: str | None, kind: UploadKind
) -> None:
    assert kind_of(content, content_type=content_type, filename=filename) is kind


@pytest.mark.parametrize(
    ("content", "content_type", "filename", "refusal"),
    [
        (b"text", None, None, UnsupportedKind),
        (b"text", "image/png", "a.txt", UnsupportedKind),
        (b"text", "application/pdf", None, KindMismatch),
        (b"%PDF-1.7", "text/plain", None, KindMismatch),
        (ZIP, "text/html", None, KindMismatch),
        (b"%PDF-1.7", "application/epub+zip", None, KindMismatch),
        (b"%PDF-1.7", "application/pdf", "a.docx", KindMismatch),
        (b"\x89PNG\r\n", None, "a.md", KindMismatch),
    ],
)
def test_what_does_not_agree_is_refused(
    content: bytes, content_type: str | None, filename: str | None, refusal: type[Exception]
) -> None:
    with pytest.raises(refusal):
        kind_of(content, content_type=content_type, filename=filename)
