"""Uploads of each format: what is read of good ones, and the reason for bad ones."""

import re
import struct
from collections.abc import Mapping

import pytest

from processors.documents.parsing.reading import read
from processors.documents.parsing.results import PART_BYTES_MAX, Parsed, Reason, UnreadableUpload
from schemas.documents.kinds import UploadKind
from tests.support.documents import docx, epub, flated, paragraph, pdf, pdf_of_pages, stream, zipped

MIB = 1024 * 1024
ENTITIES = '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa">' + "".join(
    f'<!ENTITY {name} "{f"&{before};" * 10}">' for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


def text_of(kind: UploadKind, content: bytes, charset: str | None = None) -> str:
    (part,) = read(kind, content, charset).parts
    return part.text


def reason_of(kind: UploadKind, content: bytes) -> Reason:
    with pytest.raises(UnreadableUpload) as raised:
        read(kind, content, None)
    return raised.value.reason


def test_a_text_is_put_into_normal_form() -> None:
    assert text_of(UploadKind.TEXT, b"one\r\ntwo\x00 e\xcc\x81\xc2\xad") == "one\ntwo é"


def test_front_matter_becomes_metadata() -> None:
    found = read(UploadKind.MARKDOWN, b"---\ntitle: 'The Title'\ntags: [a]\nnested:\n  x: 1\n---\n# One\n\ntext", None)
    assert found.parts[0].text == "# One\n\ntext"
    assert found.parts[0].title == found.metadata["title"] == "The Title"
    assert found.is_markdown


def test_markdown_without_an_end_of_its_front_matter_keeps_it() -> None:
    assert text_of(UploadKind.MARKDOWN, b"---\ntitle: x\n") == "---\ntitle: x\n"


def test_blocks_of_html_break_lines() -> None:
    page = b"""<html lang=en><head><title> A  title </title><style>p {}</style></head><body><nav>menu</nav>
    <h1>One</h1><div>Hello</div><div>World <b>bo</b>ld<br>next</div><script>no()</script><template>no</template>
    <ul><li>a</li><li>b</li></ul><table><tr><td>x</td><td>y</td></tr></table><pre>a  b
  c</pre><h3>Three</h3>end &amp; more</body></html>"""
    found = read(UploadKind.HTML, page, None)
    assert found.parts[0].text == (
        "# One\n\nHello\n\nWorld bold\nnext\n\n- a\n- b\n\nx | y |\n\na  b\n  c\n\n### Three\n\nend & more"
    )
    assert found.parts[0].title == "A title"
    assert found.metadata["language"] == "en"


def test_html_is_read_however_deep_it_is() -> None:
    assert text_of(UploadKind.HTML, b"<div>" * 5_000 + b"deep") == "deep"


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ('<meta charset="utf-16">ü'.encode(), "ü"),
        ('<meta charset="windows-1251"><p>привет'.encode("windows-1251"), "привет"),
        ('<meta charset="rot13">grün'.encode("cp1252"), "grün"),
        ('<meta charset="iso-8859-1">“quoted”'.encode("cp1252"), "“quoted”"),
        ("\ufeffgrün".encode("utf-16"), "grün"),
    ],
)
def test_a_page_is_decoded_whatever_it_says_of_itself(content: bytes, text: str) -> None:
    assert text_of(UploadKind.HTML, content) == text


def test_a_book_has_a_part_for_each_document_of_its_spine() -> None:
    chapters = {"two.xhtml": "<h1>Two</h1><p>text", "one.xhtml": "<p>first"}
    found = read(UploadKind.EPUB, epub(chapters, spine=["one.xhtml", "missing.xhtml", "two.xhtml"]), None)
    assert [(each.title, each.text, each.href) for each in found.parts] == [
        ("About one.xhtml", "first", "OPS/one.xhtml"),
        ("About two.xhtml", "# Two\n\ntext", "OPS/two.xhtml"),
    ]
    assert found.metadata == {"title": "The Book", "creator": "A. Writer"}
    assert found.notes == ("OPS/missing.xhtml is in the book's order but not in the archive",)


def test_an_encrypted_book_is_said() -> None:
    encryption = '<encryption><EncryptedData><CipherReference URI="OPS/a.xhtml"/></EncryptedData></encryption>'
    assert (
        reason_of(UploadKind.EPUB, epub({"a.xhtml": "x"}, more={"META-INF/encryption.xml": encryption}))
        is Reason.ENCRYPTED
    )


def test_a_word_document_has_headings_paragraphs_and_tables() -> None:
    cell = f"<w:tc>{paragraph('a')}</w:tc>"
    body = (
        paragraph("Top", style="Heading1")
        + paragraph("Some text")
        + f"<w:tbl><w:tr>{cell}{cell}</w:tr><w:tr>{cell}</w:tr></w:tbl>"
        + paragraph("Unter", style="berschrift2")
        + "<w:p><w:del><w:r><w:delText>gone</w:delText></w:r></w:del>"
        "<w:r><w:t>kept</w:t><w:br/><w:t>line</w:t></w:r></w:p>"
    )
    styles = '<w:styles xmlns:w="w"><w:style w:styleId="berschrift2"><w:name w:val="heading 2"/></w:style></w:styles>'
    found = text_of(UploadKind.DOCX, docx(body, more={"word/styles.xml": styles}))
    assert found == "# Top\n\nSome text\n\na |  a |\na |\n\n## Unter\n\nkept\nline".replace("|  a", "| a")


def test_what_a_word_document_links_to_is_not_fetched() -> None:
    relations = (
        '<Relationships><Relationship Type="http://x/officeDocument" TargetMode="External" Target="file:///etc/passwd"/>'
        '<Relationship Type="http://x/image" TargetMode="External" Target="http://127.0.0.1:1/"/></Relationships>'
    )
    more = {"_rels/.rels": relations, "word/_rels/document.xml.rels": relations}
    assert text_of(UploadKind.DOCX, docx(paragraph("text"), more=more)) == "text"
    assert reason_of(UploadKind.DOCX, zipped({"_rels/.rels": relations})) is Reason.TYPE_MISMATCH


def test_a_pdf_has_its_pages_and_where_they_begin() -> None:
    (part,) = read(UploadKind.PDF, pdf_of_pages(["First page", "Second page"]), None).parts
    assert part.text == "First page\n\nSecond page"
    assert (part.page, part.page_starts) == (1, (0, 12))


def test_a_large_text_is_cut_at_paragraphs() -> None:
    found = read(UploadKind.TEXT, ("é" * 999 + "\n\n").encode() * 3000, None)
    assert len(found.parts) > 1
    assert all(len(each.text.encode()) <= PART_BYTES_MAX for each in found.parts)
    assert all(each.text.endswith("\n\n") for each in found.parts)
    assert sum(len(each.text) for each in found.parts) == 1001 * 3000


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        (UploadKind.TEXT, b" \n\x00"),
        (UploadKind.HTML, b"<script>x</script>"),
        (UploadKind.EPUB, epub({"a.xhtml": "<p></p>"})),
        (UploadKind.DOCX, docx("<w:p/>")),
        (UploadKind.PDF, pdf_of_pages([""])),
    ],
)
def test_an_upload_without_text_is_no_success(kind: UploadKind, content: bytes) -> None:
    assert reason_of(kind, content) is Reason.NO_TEXT


def lying(content: bytes, sizes: int) -> bytes:
    """Return an archive whose headers give *sizes* for each inflated file."""
    local = re.sub(
        rb"(PK\x03\x04.{18}).{4}", lambda found: found[1] + struct.pack("<I", sizes), content, flags=re.DOTALL
    )
    return re.sub(rb"(PK\x01\x02.{20}).{4}", lambda found: found[1] + struct.pack("<I", sizes), local, flags=re.DOTALL)


CATALOGUE = "<< /Type /Catalog /Pages 2 0 R >>"
STRANGER = '<!DOCTYPE x [<!ENTITY x SYSTEM "file:///etc/passwd">]>'
RING: Mapping[int, str | bytes] = {1: CATALOGUE, 2: "<< /Type /Pages /Kids [2 0 R] /Count 1 >>"}
WIDE: Mapping[int, str | bytes] = {
    1: CATALOGUE,
    2: f"<< /Type /Pages /Kids [{'3 0 R ' * 30_000}] /Count 9 >>",
    3: "<< >>",
}
SECRET: Mapping[int, str | bytes] = {
    1: CATALOGUE,
    2: "<< /Type /Pages /Kids [] /Count 0 >>",
    3: "<< /Filter /Standard /V 1 /R 2 /O (a) /U (b) /P 1 >>",
}
BOMB = docx(paragraph("a" * 30 * MIB))
HUGE: Mapping[str, bytes] = {f"{number}": b"" for number in range(2001)}
LOCKED = docx(paragraph("a")).replace(b"PK\x01\x02\x14\x03\x14\x00\x00\x00", b"PK\x01\x02\x14\x03\x14\x00\x01\x00")


@pytest.mark.parametrize(
    ("kind", "content", "reason"),
    [
        (UploadKind.DOCX, BOMB, Reason.ARCHIVE_BOUNDS),
        (UploadKind.DOCX, lying(BOMB, 100), Reason.CORRUPT),
        (UploadKind.DOCX, lying(BOMB, 0xFFFFFFF0), Reason.ARCHIVE_BOUNDS),
        (UploadKind.DOCX, zipped(HUGE), Reason.ARCHIVE_BOUNDS),
        (UploadKind.DOCX, zipped({"word/document.xml": zipped({"a": b"b"})}), Reason.NESTED_ARCHIVE),
        (UploadKind.EPUB, epub({"a.xhtml": zipped({"a": b"b"})}), Reason.NESTED_ARCHIVE),
        (UploadKind.DOCX, LOCKED, Reason.ENCRYPTED),
        (UploadKind.DOCX, docx(paragraph("text"))[:-40], Reason.CORRUPT),
        (UploadKind.DOCX, docx(paragraph("text"))[:50], Reason.CORRUPT),
        (UploadKind.EPUB, docx(paragraph("text")), Reason.TYPE_MISMATCH),
        (UploadKind.DOCX, epub({"a.xhtml": "a"}), Reason.TYPE_MISMATCH),
        (UploadKind.DOCX, docx(paragraph("&i;"), prologue=ENTITIES + "]>"), Reason.CORRUPT),
        (UploadKind.DOCX, docx(paragraph("&x;"), prologue=STRANGER), Reason.CORRUPT),
        (UploadKind.DOCX, docx("<w:p>"), Reason.CORRUPT),
        (UploadKind.EPUB, zipped({"META-INF/container.xml": ENTITIES + "]><x>&i;</x>"}), Reason.CORRUPT),
        (UploadKind.EPUB, zipped({"META-INF/container.xml": "<x/>"}), Reason.CORRUPT),
        (UploadKind.PDF, b"%PDF-1.7\n", Reason.CORRUPT),
        (UploadKind.PDF, pdf_of_pages(["text"])[:300], Reason.CORRUPT),
        (UploadKind.PDF, pdf(RING), Reason.CORRUPT),
        (UploadKind.PDF, pdf(WIDE), Reason.TOO_MANY_PAGES),
        (UploadKind.PDF, pdf(SECRET, trailer="/Encrypt 3 0 R"), Reason.ENCRYPTED),
    ],
)  # fmt: skip
def test_a_bad_upload_has_its_reason(kind: UploadKind, content: bytes, reason: Reason) -> None:
    assert reason_of(kind, content) is reason


def test_the_page_of_a_nested_flate_bomb_has_no_text() -> None:
    bomb = stream(flated(b" " * 200 * MIB, times=2), filters="/Filter [/FlateDecode /FlateDecode]")
    objects: dict[int, str | bytes] = {
        1: CATALOGUE,
        2: "<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        3: "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 9 9] /Contents 4 0 R >>",
        4: bomb,
    }
    assert reason_of(UploadKind.PDF, pdf(objects)) is Reason.NO_TEXT


def test_a_deep_word_document_is_read() -> None:
    depth = 20_000
    body = "<w:x>" * depth + paragraph("deep") + "</w:x>" * depth
    assert text_of(UploadKind.DOCX, docx(body)) == "deep"


def test_the_parts_of_what_is_read_hold_no_character_that_postgres_refuses() -> None:
    found: Parsed = read(UploadKind.HTML, b"<title>a&#0;\xc2\xadb</title><p>x\x00y&#xD800;z", None)
    for text in (found.parts[0].text, found.parts[0].title or "", *found.metadata.values()):
        assert "\x00" not in text
        text.encode()
