"""EPUB: each document of the spine is a part, in the order of reading."""

import posixpath
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import unquote, urldefrag

from processors.documents.parsing.charset import decoded
from processors.documents.parsing.html import declared_charset, page_of
from processors.documents.parsing.parts import parsed
from processors.documents.parsing.results import Parsed, Part, Reason, UnreadableUpload, labels
from processors.documents.parsing.xml import elements_of, local, xml_events
from processors.documents.parsing.zips import Archive

CONTAINER = "META-INF/container.xml"
ENCRYPTION = "META-INF/encryption.xml"
_CONTENT_TYPES = frozenset({"application/xhtml+xml", "text/html"})
_NAVIGATION_TYPE = "application/x-dtbncx+xml"
_METADATA = ("title", "creator", "language", "publisher", "date", "identifier")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Item:
    href: str  # in the archive
    media_type: str
    properties: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Package:
    items: dict[str, _Item]
    spine: list[str]
    metadata: dict[str, str]


def read_epub(content: bytes, *, charset: str | None) -> Parsed:  # noqa: ARG001  its files say it themselves
    """Return a book; what its lists name and the archive lacks is noted."""
    archive = Archive(content)
    if CONTAINER not in archive:
        raise UnreadableUpload(Reason.TYPE_MISMATCH, f"an archive without {CONTAINER} is no EPUB")
    package = _package(archive)
    if not _encrypted(archive).isdisjoint(package.items[each].href for each in package.spine if each in package.items):
        raise UnreadableUpload(Reason.ENCRYPTED, "the book's texts are encrypted")
    notes: list[str] = []
    titles = _titles(archive, package, notes)
    parts = _parts(archive, package, titles, notes)
    return parsed(list(parts), is_markdown=True, metadata=package.metadata, notes=notes)


def _package(archive: Archive) -> _Package:
    places = (
        element.get("full-path")
        for element in elements_of(archive.read(CONTAINER), CONTAINER)
        if local(element.tag) == "rootfile"
    )
    place = next((each for each in places if each), None)
    if place is None or place not in archive:
        raise UnreadableUpload(Reason.CORRUPT, "the container names no package that is in the archive")
    items: dict[str, _Item] = {}
    spine: list[str] = []
    values: list[tuple[str, str | None]] = []
    for element in elements_of(archive.read(place), place, forbids_doctype=False):
        match local(element.tag):
            case "item":
                items[element.get("id", "")] = _Item(
                    href=_beside(place, element.get("href", "")),
                    media_type=element.get("media-type", ""),
                    properties=frozenset(element.get("properties", "").split()),
                )
            case "itemref":
                spine.append(element.get("idref", ""))
            case name if name in _METADATA and name not in dict(values):
                values.append((name, element.text))
    return _Package(items=items, spine=spine, metadata=labels(values))


def _encrypted(archive: Archive) -> set[str]:
    if ENCRYPTION not in archive:
        return set()
    return {
        unquote(element.get("URI", ""))
        for element in elements_of(archive.read(ENCRYPTION), ENCRYPTION)
        if local(element.tag) == "CipherReference"
    }


def _parts(archive: Archive, package: _Package, titles: dict[str, str], notes: list[str]) -> Iterator[Part]:
    for reference in dict.fromkeys(package.spine):  # a book that names a file twice is read once
        item = package.items.get(reference)
        if item is None or item.href not in archive:
            notes.append(f"{item.href if item else reference} is in the book's order but not in the archive")
            continue
        if item.media_type not in _CONTENT_TYPES:
            notes.append(f"{item.href} of the type {item.media_type} is not read")
            continue
        source = archive.read(item.href)
        page = page_of(decoded(source, declared=declared_charset(source)).text)
        yield Part(text=page.text, title=titles.get(item.href) or page.title, href=item.href)


def _titles(archive: Archive, package: _Package, notes: list[str]) -> dict[str, str]:
    """Return the first title that the book's own contents give each file."""
    found: dict[str, str] = {}
    for item in package.items.values():
        if item.href not in archive:
            continue
        is_navigation = item.media_type == _NAVIGATION_TYPE
        if not is_navigation and "nav" not in item.properties:
            continue
        try:
            links = list((_ncx_links if is_navigation else _nav_links)(archive.read(item.href), item.href))
        except UnreadableUpload as error:
            if error.reason is not Reason.CORRUPT:
                raise
            notes.append(error.detail)
            continue
        for href, title in links:
            if title.strip():
                found.setdefault(_beside(item.href, href), " ".join(title.split()))
    return found


def _ncx_links(content: bytes, name: str) -> Iterator[tuple[str, str]]:
    title = ""
    for event, element in xml_events(content, name, forbids_doctype=False):
        if event == "end" and local(element.tag) == "text":
            title = element.text or ""
        elif event == "end" and local(element.tag) == "content":
            yield element.get("src", ""), title


def _nav_links(content: bytes, name: str) -> Iterator[tuple[str, str]]:
    for element in elements_of(content, name, forbids_doctype=False):
        if local(element.tag) == "a":
            yield element.get("href", ""), "".join(element.itertext())


def _beside(place: str, href: str) -> str:
    return posixpath.normpath(posixpath.join(posixpath.dirname(place), unquote(urldefrag(href).url)))
