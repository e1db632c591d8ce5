"""Uploads: the file and its fields out of a multipart form, or out of a body and its query."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from email.message import Message
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from gateway.documents.names import book_fault, chapter_text
from gateway.documents.parsing.submission import BookSlug, Priority
from gateway.errors import BadBody, UnsupportedMediaType
from schemas import strictjson
from schemas.documents.kinds import KindMismatch, UnsupportedKind, kind_of
from schemas.documents.rules import METADATA_BYTES_MAX, PRIORITY_DEFAULT, RETRIES_DEFAULT
from schemas.errors import Fault, Invalid
from schemas.strictjson import NotJson
from schemas.texts import exceeds, label_fault

FORM = "multipart/form-data"
OCTETS = "application/octet-stream"
FILE_TYPES = (
    "text/plain",
    "text/markdown",
    "text/html",
    "application/epub+zip",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    "application/pdf",
)
PARTS_MAX = 16
HEAD_BYTES_MAX = 8 * 1024
FORM_BYTES_MAX = METADATA_BYTES_MAX + 64 * 1024
"""The room that the fields and the borders of a form have beside its file."""

_KNOWN = ("book_slug", "chapter_index", "priority", "metadata")
_BOUNDARY_CHARACTERS_MAX = 70  # RFC 2046, 5.1.1


class UploadForm(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A file and what it is; a raw body has the same in its query, and `filename`."""

    file: Annotated[str, Meta(extra_json_schema={"format": "binary"})]
    book_slug: BookSlug
    chapter_index: Annotated[str, Meta(description="As in JSON; 7 is the integer")]
    priority: Priority = PRIORITY_DEFAULT
    metadata: Annotated[str | UnsetType, Meta(description="The text of a JSON object")] = UNSET


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadedFile:
    """A file as it was sent."""

    content: bytes
    content_type: str
    filename: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadFields:
    """The fields of an upload, by their names in the record."""

    fields: Mapping[str, object]
    metadata: Mapping[str, Any] | None
    metadata_text: str | None


@dataclass(frozen=True, slots=True)
class _Part:
    name: str
    filename: str | None
    content_type: str
    content: bytes


def read_fields(given: Mapping[str, str]) -> UploadFields:
    """Return the fields of an upload. Raises Invalid: one breaks a rule; every fault is listed."""
    book, chapter = given.get("book_slug"), chapter_text(given.get("chapter_index"))
    faults = [Fault(pointer=f"/{name}", detail="unknown field") for name in given if name not in _KNOWN]
    if fault := book_fault(book):
        faults.append(Fault(pointer="/book_slug", detail=fault))
    if isinstance(chapter, Fault):
        faults.append(chapter)
    priority = given.get("priority", str(PRIORITY_DEFAULT))
    is_number = priority.isascii() and priority.isdigit() and len(priority) <= 2  # noqa: PLR2004  two digits
    metadata = _metadata(given.get("metadata"), faults)
    if faults:
        raise Invalid(faults)
    fields = {
        "collection": book,
        "document": chapter,
        "priority": int(priority) if is_number else priority,
        "max_retries": RETRIES_DEFAULT,
    }
    return UploadFields(fields=fields, metadata=metadata, metadata_text=given.get("metadata"))


def whole_file(content: bytes, *, content_type: str, filename: str | None) -> UploadedFile:
    """
    Return the file of an upload.

    Raises:
        UnsupportedMediaType: it is declared as no type that is read, or its first bytes are of another one.
        Invalid: it is empty, or its name is not valid.
    """
    if not content:
        raise Invalid([Fault(pointer="/file", detail="an empty file")])
    if filename is not None and (fault := label_fault(filename)):
        raise Invalid([Fault(pointer="/filename", detail=fault)])
    try:
        kind_of(content, content_type=content_type, filename=filename)
    except UnsupportedKind as error:
        types = ", ".join(FILE_TYPES)
        raise UnsupportedMediaType(f"{error}; send {types}, or {OCTETS} with a name that says which") from error
    except KindMismatch as error:
        raise UnsupportedMediaType(str(error)) from error
    return UploadedFile(content=content, content_type=content_type.strip()[:255] or OCTETS, filename=filename)


def read_form(body: bytes, *, content_type: str) -> tuple[UploadedFile, UploadFields]:
    """
    Return the file and the fields of a form (RFC 7578).

    Raises:
        BadBody: it is no such form.
        Invalid, UnsupportedMediaType: see `read_fields` and `whole_file`.
    """
    found: dict[str, _Part] = {}
    for part in _parts(body, _boundary(content_type)):
        if part.name in found:
            raise Invalid([Fault(pointer=f"/{part.name[:100]}", detail="given twice")])
        found[part.name] = part
    file = found.pop("file", None)
    if file is None:
        raise Invalid([Fault(pointer="/file", detail="missing")])
    fields = read_fields({name: _text(part) for name, part in found.items()})
    return whole_file(file.content, content_type=file.content_type, filename=file.filename), fields


def _metadata(text: str | None, faults: list[Fault]) -> Mapping[str, Any] | None:
    if text is None:
        return None
    if exceeds(text, METADATA_BYTES_MAX):
        faults.append(Fault(pointer="/metadata", detail=f"more than {METADATA_BYTES_MAX} bytes of JSON"))
        return None
    try:
        found = strictjson.decode_part("metadata", text)
    except Invalid as error:
        faults += error.faults
        return None
    except NotJson as error:
        faults.append(Fault(pointer="/metadata", detail=str(error)))
        return None
    if not isinstance(found, dict):
        faults.append(Fault(pointer="/metadata", detail="a JSON object"))
        return None
    return found


def _text(part: _Part) -> str:
    try:
        return part.content.decode()
    except UnicodeDecodeError:
        raise Invalid([Fault(pointer=f"/{part.name[:100]}", detail="not UTF-8")]) from None


def _boundary(content_type: str) -> bytes:
    boundary = _header("Content-Type", content_type).get_param("boundary")
    if not isinstance(boundary, str) or not 0 < len(boundary) <= _BOUNDARY_CHARACTERS_MAX or not boundary.isascii():
        raise BadBody("the form has no valid boundary")
    return b"--" + boundary.encode()


def _parts(body: bytes, border: bytes) -> Sequence[_Part]:
    """Return the parts of a form; each is found by its border, in one pass."""
    found: list[_Part] = []
    at = 0 if body.startswith(border) else body.find(b"\r\n" + border) + 2
    if not body.startswith(border, at):
        raise BadBody("the form does not begin with its boundary")
    at += len(border)
    while not body.startswith(b"--", at):
        if len(found) == PARTS_MAX:
            raise BadBody(f"a form of more than {PARTS_MAX} parts")
        # The line break that ends the border may be the one that ends a head without lines.
        head_end = body.find(b"\r\n\r\n", at, at + HEAD_BYTES_MAX)
        end = body.find(b"\r\n" + border, head_end + 2)
        if head_end < 0 or end < 0 or not body.startswith(b"\r\n", at):
            raise BadBody("the form is incomplete; send the whole request again")
        found.append(_part(body[at + 2 : head_end], body[head_end + 4 : end]))
        at = end + 2 + len(border)
    return found


def _part(head: bytes, content: bytes) -> _Part:
    fields: dict[str, str] = {}
    for line in head.split(b"\r\n"):
        field, _, value = line.decode("utf-8", "replace").partition(":")
        fields[field.strip().lower()] = value.strip()
    disposition = _header("Content-Disposition", fields.get("content-disposition", ""))
    name = disposition.get_param("name", header="Content-Disposition")
    if not isinstance(name, str) or not name:
        raise BadBody("a part of the form has no name")
    content_type = fields.get("content-type", "")
    return _Part(name=name, filename=disposition.get_filename(), content_type=content_type, content=content)


def _header(name: str, value: str) -> Message:
    message = Message()
    message[name] = value
    return message
