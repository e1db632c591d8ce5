"""Files of the formats that are read, put together byte by byte."""

import zipfile
import zlib
from collections.abc import Mapping, Sequence
from io import BytesIO

CONTAINER = (
    '<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles>'
    '<rootfile full-path="OPS/book.opf" media-type="application/oebps-package+xml"/></rootfiles></container>'
)
_WORD = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'


def zipped(files: Mapping[str, str | bytes], *, level: int = 6) -> bytes:
    """Return an archive of *files*."""
    target = BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=level) as archive:
        for name, content in files.items():
            # Without the time of day: the bytes become names of tests, which all workers of a run must agree on.
            archive.writestr(zipfile.ZipInfo(name), content, compress_type=zipfile.ZIP_DEFLATED, compresslevel=level)
    return target.getvalue()


def epub(
    chapters: Mapping[str, str | bytes], *, spine: Sequence[str] = (), more: Mapping[str, str | bytes] | None = None
) -> bytes:
    """Return a book of *chapters*, which its contents call by their names; *spine* names other files as well."""
    items = [*chapters, *(each for each in spine if each not in chapters)]
    manifest = "".join(f'<item id="{each}" href="{each}" media-type="application/xhtml+xml"/>' for each in items)
    order = "".join(f'<itemref idref="{each}"/>' for each in (spine or chapters))
    package = (
        '<package xmlns="http://www.idpf.org/2007/opf"><metadata xmlns:dc="http://purl.org/dc/elements/1.1/">'
        "<dc:title>The Book</dc:title><dc:creator>A. Writer</dc:creator></metadata><manifest>"
        f'{manifest}<item id="nav" href="nav.xhtml" media-type="application/xhtml+xml" properties="nav"/></manifest>'
        f"<spine>{order}</spine></package>"
    )
    links = "".join(f'<li><a href="{each}">About {each}</a></li>' for each in chapters)
    nav = f'<html xmlns="http://www.w3.org/1999/xhtml"><body><nav><ol>{links}</ol></nav></body></html>'
    files: dict[str, str | bytes] = {
        "mimetype": "application/epub+zip",
        "META-INF/container.xml": CONTAINER,
        "OPS/book.opf": package,
        "OPS/nav.xhtml": nav,
    }
    return zipped(files | {f"OPS/{name}": text for name, text in chapters.items()} | dict(more or {}))


def docx(body: str, *, prologue: str = "", more: Mapping[str, str | bytes] | None = None) -> bytes:
    """Return a Word document with the XML *body*."""
    document = f"{prologue}<w:document {_WORD}><w:body>{body}</w:body></w:document>"
    return zipped({"[Content_Types].xml": "<Types/>", "word/document.xml": document} | dict(more or {}))


def paragraph(text: str, *, style: str = "") -> str:
    """Return the XML of a paragraph."""
    properties = f'<w:pPr><w:pStyle w:val="{style}"/></w:pPr>' if style else ""
    return f"<w:p>{properties}<w:r><w:t>{text}</w:t></w:r></w:p>"


def pdf(objects: Mapping[int, str | bytes], *, trailer: str = "") -> bytes:
    """Return a PDF of numbered objects, of which 1 is the catalogue."""
    content, places = b"%PDF-1.4\n", {}
    for number, body in objects.items():
        places[number] = len(content)
        raw = body if isinstance(body, bytes) else body.encode()
        content += b"%d 0 obj\n" % number + raw + b"\nendobj\n"
    table = len(content)
    size = max(objects) + 1
    content += b"xref\n0 %d\n0000000000 65535 f \n" % size
    for number in range(1, size):
        content += b"%010d 00000 n \n" % places.get(number, 0)
    content += b"trailer << /Size %d /Root 1 0 R %s >>\nstartxref\n%d\n%%%%EOF" % (size, trailer.encode(), table)
    return content


def stream(body: bytes, *, filters: str = "") -> bytes:
    """Return the object of a stream."""
    return b"<< /Length %d %s >>\nstream\n" % (len(body), filters.encode()) + body + b"\nendstream"


def pdf_of_pages(texts: Sequence[str]) -> bytes:
    """Return a PDF with a page for each text."""
    kids = " ".join(f"{10 + 2 * at} 0 R" for at in range(len(texts)))
    objects: dict[int, str | bytes] = {
        1: "<< /Type /Catalog /Pages 2 0 R >>",
        2: f"<< /Type /Pages /Kids [{kids}] /Count {len(texts)} >>",
        3: "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    }
    for at, text in enumerate(texts):
        number = 10 + 2 * at
        objects[number] = (
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 600 800] /Contents {number + 1} 0 R"
            " /Resources << /Font << /F1 3 0 R >> >> >>"
        )
        objects[number + 1] = stream(f"BT /F1 12 Tf 50 700 Td ({text}) Tj ET".encode())
    return pdf(objects)


def flated(body: bytes, *, times: int) -> bytes:
    """Return *body*, compressed again and again."""
    for _ in range(times):
        body = zlib.compress(body, 9)
    return body
