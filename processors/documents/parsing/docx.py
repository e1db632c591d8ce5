"""DOCX (ECMA-376): paragraphs, headings and tables of the main document; nothing that it links to."""

from collections.abc import Iterator
from xml.etree.ElementTree import Element

from processors.documents.parsing.parts import parsed
from processors.documents.parsing.prose import Prose
from processors.documents.parsing.results import Parsed, Part, Reason, UnreadableUpload, labels
from processors.documents.parsing.xml import elements_of, local, xml_events
from processors.documents.parsing.zips import Archive

RELATIONS = "_rels/.rels"
MAIN = "word/document.xml"
STYLES = "word/styles.xml"
PROPERTIES = "docProps/core.xml"
_MAIN_RELATION = "/officeDocument"
_PROPERTIES = ("title", "creator", "subject", "language", "created", "modified")
_SKIPPED = frozenset({"Fallback", "del", "moveFrom", "instrText", "delText", "pPrChange", "rPrChange"})
_LEVELS = {f"heading {level}": level for level in range(1, 10)} | {"title": 1, "subtitle": 2}


def read_docx(content: bytes, *, charset: str | None) -> Parsed:  # noqa: ARG001  XML says it itself
    """Return a Word document as one part."""
    archive = Archive(content)
    main = _main(archive)
    if main not in archive:
        raise UnreadableUpload(Reason.TYPE_MISMATCH, f"an archive without {MAIN} is no DOCX")
    levels = _heading_levels(archive)
    prose = Prose()
    for event, element in _shown(archive.read(main), main):
        _add(event, element, prose, levels)
    metadata = labels(list(_properties(archive)))
    return parsed([Part(text=prose.text(), title=metadata.get("title"))], is_markdown=True, metadata=metadata)


def _main(archive: Archive) -> str:
    if MAIN in archive or RELATIONS not in archive:
        return MAIN
    for element in elements_of(archive.read(RELATIONS), RELATIONS):
        if element.get("Type", "").endswith(_MAIN_RELATION) and element.get("TargetMode") != "External":
            return element.get("Target", "").lstrip("/")
    return MAIN


def _shown(content: bytes, name: str) -> Iterator[tuple[str, Element]]:
    """Yield the events of what a reader of the document sees, and forget each element behind it."""
    skipping = 0
    for event, element in xml_events(content, name):
        is_skipped = local(element.tag) in _SKIPPED
        if event == "start":
            skipping += is_skipped
            if not skipping:
                yield event, element
        else:
            if not skipping:
                yield event, element
            skipping -= is_skipped
            if local(element.tag) in ("p", "tbl"):
                element.clear()


def _add(event: str, element: Element, prose: Prose, levels: dict[str, int]) -> None:
    match event, local(element.tag):
        case "end", "t":
            prose.add(element.text or "")
        case "end", "tab":
            prose.add(" ")
        case "end", "br" | "cr":
            prose.end_line()
        case "start", "pStyle":
            if (level := levels.get(_value(element))) is not None:
                prose.begin_heading(level)
        case "end", "p":
            prose.end_paragraph()
        case "start", "tr":
            prose.begin_row()
        case "end", "tc":
            prose.add(" | ")
        case "end", "tr":
            prose.end_row()


def _heading_levels(archive: Archive) -> dict[str, int]:
    """Return the level of each style that is one of headings, by the name that is the same in every language."""
    found = {f"Heading{level}": level for level in range(1, 10)} | {"Title": 1, "Subtitle": 2}
    if STYLES not in archive:
        return found
    style = ""
    for event, element in xml_events(archive.read(STYLES), STYLES):
        if event == "start" and local(element.tag) == "style":
            style = next((value for name, value in element.attrib.items() if local(name) == "styleId"), "")
        elif event == "end" and local(element.tag) == "name" and (name := _value(element).lower()) in _LEVELS:
            found[style] = _LEVELS[name]
    return found


def _properties(archive: Archive) -> Iterator[tuple[str, str | None]]:
    if PROPERTIES in archive:
        for element in elements_of(archive.read(PROPERTIES), PROPERTIES):
            if local(element.tag) in _PROPERTIES:
                yield local(element.tag), element.text


def _value(element: Element) -> str:
    return next((value for name, value in element.attrib.items() if local(name) == "val"), "")
