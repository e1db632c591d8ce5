"""XML from strangers: no entities, no document types, nothing fetched."""

from collections.abc import Iterator
from io import BytesIO
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import iterparse

from processors.documents.parsing.results import Reason, UnreadableUpload


def xml_events(content: bytes, name: str, *, forbids_doctype: bool = True) -> Iterator[tuple[str, Element]]:
    """
    Yield "start" and "end" with each element in its order; clear what you are done with.

    Raises:
        UnreadableUpload: *name* is no XML, or has what is not read in it.
    """
    try:
        yield from iterparse(BytesIO(content), events=("start", "end"), forbid_dtd=forbids_doctype)
    except (ParseError, DefusedXmlException, ValueError, LookupError) as error:
        raise UnreadableUpload(Reason.CORRUPT, f"{name[:200]!r} is not readable as XML: {error}") from error


def elements_of(content: bytes, name: str, *, forbids_doctype: bool = True) -> Iterator[Element]:
    """Yield each element when it is whole. Raises UnreadableUpload, as `xml_events`."""
    return (element for event, element in xml_events(content, name, forbids_doctype=forbids_doctype) if event == "end")


def local(tag: str) -> str:
    """Return the name of a tag without its namespace."""
    return tag.rpartition("}")[2]
