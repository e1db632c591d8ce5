"""Files that are uploaded: their text is read out of them later, in a process of its own."""

import asyncio

from aiohttp import web

from gateway.documents.handlers.submitting import accepted
from gateway.documents.parameters import read_idempotency_key, read_wait
from gateway.documents.parsing.files import FORM, FORM_BYTES_MAX, read_fields, read_form, whole_file
from gateway.documents.parsing.prepared import DocumentOrigin, PreparedDocument, prepare_file
from gateway.documents.parts import DocumentParts
from gateway.errors import UnsupportedCoding
from gateway.http.body import receive, too_large
from gateway.http.call import Call
from schemas.documents.rules import FILE_BYTES_MAX

UPLOAD_BYTES_MAX = FILE_BYTES_MAX + FORM_BYTES_MAX
COPIES = 2  # of a form, and of the file within it
_OF_QUERY = ("book_slug", "chapter_index", "priority", "metadata")


async def upload_document(parts: DocumentParts, call: Call) -> web.Response:
    """
    Accept a file: a form, or the file itself with the rest in the query. A large one becomes several documents.

    Its type is declared, and its first bytes must agree. A file that cannot be read, or in which no text is found,
    fails later, as its job says.
    """
    parts.intake.throttle.check_admission(1)
    query, headers = call.request.query, call.request.headers
    waits = read_wait(query)
    origin = DocumentOrigin(
        principal=call.principal, stamp=call.stamp, idempotency_key=read_idempotency_key(call.request)
    )
    if headers.get("Content-Encoding", "identity").strip().lower() != "identity":
        raise UnsupportedCoding(("identity",))
    body = await receive(call)
    held_bytes = COPIES * len(body)
    parts.files.reserve(held_bytes)
    try:
        document = await asyncio.to_thread(  # it searches and hashes up to 32 MiB
            _prepared,
            body,
            origin,
            content_type=headers.get("Content-Type", ""),
            query={name: query[name] for name in _OF_QUERY if name in query},
            filename=query.get("filename"),
        )
        return await accepted(parts, call, document, origin, waits=waits)
    finally:
        parts.files.release(held_bytes)


def _prepared(
    body: bytes, origin: DocumentOrigin, *, content_type: str, query: dict[str, str], filename: str | None
) -> PreparedDocument:
    if content_type.partition(";")[0].strip().lower() == FORM:
        file, fields = read_form(body, content_type=content_type)
    else:
        fields = read_fields(query)
        file = whole_file(body, content_type=content_type, filename=filename)
    if len(file.content) > FILE_BYTES_MAX:
        raise too_large(FILE_BYTES_MAX)
    return prepare_file(
        file.content,
        origin,
        fields=fields.fields,
        content_type=file.content_type,
        filename=file.filename,
        metadata=fields.metadata,
        metadata_text=fields.metadata_text,
    )
