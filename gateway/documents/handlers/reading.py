"""Documents that are stored, their chunks, the figures of all, and the presets."""

from aiohttp import web

from gateway.documents.figures import metrics_of
from gateway.documents.parameters import (
    NO_DOCUMENT_THERE,
    read_chunk_cursor,
    read_collection,
    read_document_cursor,
    read_names,
)
from gateway.documents.parts import DocumentParts
from gateway.documents.views import DocumentPage, PresetList
from gateway.http import paging
from gateway.http.answers import answer, found, page
from gateway.http.call import Call
from gateway.http.paging import read_limit
from schemas.documents.presets import LIMITS
from schemas.pacing.presets import PRESETS

CHUNKS_MAX = 200  # a page


async def list_documents(parts: DocumentParts, call: Call) -> web.Response:
    """List the live documents of a book, or of all."""
    query = call.request.query
    documents, last = await parts.store.documents(
        call.principal.tenant, read_collection(query), after=read_document_cursor(query), limit=read_limit(query)
    )
    cursor = None if last is None else paging.cursor(last)
    return page(call.request, DocumentPage(documents=documents, next_cursor=cursor))


async def show_document(parts: DocumentParts, call: Call) -> web.Response:
    """Return one document; its ETag is the newest revision, for If-Match."""
    collection, document = read_names(call.path)
    view = found(await parts.store.document(call.principal.tenant, collection, document), NO_DOCUMENT_THERE)
    response = answer(view)
    response.headers["ETag"] = f'"{view.latest_revision}"'
    return response


async def list_chunks(parts: DocumentParts, call: Call) -> web.Response:
    """List the chunks of the live version of a document."""
    query = call.request.query
    collection, document = read_names(call.path)
    chunks = await parts.store.chunks(
        call.principal.tenant,
        collection,
        document,
        after=read_chunk_cursor(query),
        limit=read_limit(query, largest=CHUNKS_MAX),
    )
    return page(call.request, found(chunks, "no version of such a document is live"))


async def show_document_metrics(parts: DocumentParts, call: Call) -> web.Response:
    """Return the figures of the tenant's documents, with the line that adds up."""
    figures = await parts.store.figures(call.principal.tenant)
    pace = parts.intake.pace
    return answer(metrics_of(figures, multiplier=pace.multiplier, tokens=pace.tokens_available))


async def list_presets(_parts: DocumentParts, _call: Call) -> web.Response:
    """List the presets of environments and of the controller of rates."""
    return answer(
        PresetList(
            presets={name.value: limits for name, limits in LIMITS.items()},
            controllers={name.value: preset for name, preset in PRESETS.items()},
        )
    )
