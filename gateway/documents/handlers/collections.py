"""Collections, and the change of their embedder."""

from typing import Annotated

import msgspec
from aiohttp import web
from msgspec import Meta

from gateway.documents.changes import new_id
from gateway.documents.parameters import NO_COLLECTION, read_book, read_collection_cursor
from gateway.documents.parsing.tasks import ParseReembedding, PreparedReembedding
from gateway.documents.parts import DocumentParts
from gateway.documents.views import CollectionChanged, CollectionPage, CollectionView
from gateway.errors import StateForbids
from gateway.http import paging
from gateway.http.answers import answer, found, page
from gateway.http.body import read_body
from gateway.http.call import Call
from gateway.http.child.parsing import parse_body
from gateway.http.paging import read_limit
from schemas.documents.records import ReembedCollection
from schemas.errors import Fault, Invalid
from schemas.structs import read_struct


class ReembedBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Another embedder of a collection."""

    embedder: Annotated[
        str, Meta(description="Its name in TIDEGATE_EMBEDDERS, or its id", min_length=1, max_length=128)
    ]
    skip_failed: Annotated[
        bool, Meta(description="Change over without the documents that it fails at: searches no longer find them")
    ] = False


async def list_collections(parts: DocumentParts, call: Call) -> web.Response:
    """List the collections of the tenant with their embedders, by name."""
    query = call.request.query
    collections, more = await parts.store.collections(
        call.principal.tenant, after=read_collection_cursor(query), limit=read_limit(query)
    )
    cursor = paging.cursor((collections[-1].book_slug,)) if more else None
    return page(call.request, CollectionPage(collections=collections, next_cursor=cursor))


async def reembed_collection(parts: DocumentParts, call: Call) -> web.Response:
    """Embed a collection with another embedder, which searches use once all is done; repeated, retry what failed."""
    collection, tenant = read_book(call.path), call.principal.tenant
    task = ParseReembedding(body=await read_body(call))
    body: PreparedReembedding = await parse_body(task, call.credentials, parser=parts.shared.parser)
    asked = read_struct(body.members, ReembedBody)
    embedder = await _embedder(parts, asked.embedder)
    _check(found(await parts.store.collection(tenant, collection), NO_COLLECTION), embedder, asked)
    command = ReembedCollection(
        tenant=tenant,
        collection=collection,
        command_id=new_id(),
        embedder=embedder,
        skips_failed=asked.skip_failed,
        by=call.principal.key_id,
    )
    [place], applied = await parts.changes.apply([command], call.stamp)
    document = CollectionChanged(
        book_slug=collection, command_id=command.command_id, wal_ids=[place.wal_id], applied=applied
    )
    return answer(document, status=202)


async def _embedder(parts: DocumentParts, name: str) -> str:
    """Return the id of an embedder. Raises Invalid: there is none."""
    embedder = await parts.store.embedder(name)
    if embedder is None:
        detail = "no embedder of that name or id has been used yet: start a documents-embed process with it"
        raise Invalid([Fault(pointer="/embedder", detail=detail)])
    return embedder


def _check(collection: CollectionView, embedder: str, asked: ReembedBody) -> None:
    if collection.embedder == embedder and collection.building is None:
        raise StateForbids("the collection is embedded with it already")
    if collection.building == embedder and not collection.building_failed and not asked.skip_failed:
        raise StateForbids("the collection is being embedded with it already")
