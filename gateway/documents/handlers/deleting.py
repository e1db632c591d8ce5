"""Documents that are deleted: one, or those of a whole collection."""

from contextlib import suppress

from aiohttp import web

from gateway.documents.changes import new_id
from gateway.documents.handlers.submitting import accepted_at, name_of, with_end
from gateway.documents.intake import RecentJob
from gateway.documents.parameters import read_book, read_expected, read_names, read_wait
from gateway.documents.parts import DocumentParts
from gateway.documents.views import CollectionChanged
from gateway.errors import StoreUnavailable
from gateway.http.answers import answer, limited
from gateway.http.call import Call
from schemas.documents.records import DeleteCollection, DeleteDocument
from schemas.documents.rules import NO_DOCUMENT
from schemas.errors import Fault, Invalid
from schemas.ids import uuid7


async def delete_document(parts: DocumentParts, call: Call) -> web.Response:
    """Delete a document, in whatever state it is; a version that is still in work will not come back."""
    (collection, document), tenant = read_names(call.path), call.principal.tenant
    waits, expected = read_wait(call.request.query), read_expected(call.request)
    if expected == NO_DOCUMENT:
        raise Invalid([Fault(pointer="", detail="If-None-Match has no meaning where a document is deleted")])
    if expected is not None:
        with suppress(StoreUnavailable):  # intake has the last word
            await parts.intake.check_revision(tenant, collection, document, expected)
    charge = parts.intake.throttle.charge_records(1, call.principal, call.credentials)
    command = DeleteDocument(
        tenant=tenant,
        collection=collection,
        document=document,
        job_id=str(uuid7(call.stamp.received_at)),
        expected_revision=expected,
        submitted_by=call.principal.key_id,
    )
    [place] = await parts.changes.publish([command], call.stamp)
    parts.intake.recent.add(command.job_id, RecentJob(tenant, collection, document, None))
    made = accepted_at(place, job_id=command.job_id, name=name_of(collection, document))
    if waits:
        made = await with_end(parts, call, made)
    return limited(answer(made, status=202), charge)


async def delete_collection(parts: DocumentParts, call: Call) -> web.Response:
    """Delete every document of a book that was sent before; what is sent afterwards stays."""
    collection, tenant = read_book(call.path), call.principal.tenant
    shares = await parts.changes.shares(tenant, collection)
    charge = parts.intake.throttle.charge_records(1, call.principal, call.credentials)
    command_id = new_id()
    commands = [
        DeleteCollection(
            tenant=tenant, collection=collection, share=share, command_id=command_id, by=call.principal.key_id
        )
        for share in shares
    ]
    places, applied = await parts.changes.apply(commands, call.stamp)
    document = CollectionChanged(
        book_slug=collection,
        command_id=command_id,
        wal_ids=[place.wal_id for place in places],
        applied=applied,
    )
    return limited(answer(document, status=202), charge)
