"""Searches."""

from aiohttp import web

from gateway.documents.parsing.searches import PreparedSearch, SeenRevision
from gateway.documents.parsing.tasks import ParseSearch
from gateway.documents.parts import DocumentParts
from gateway.errors import NotYetStored
from gateway.http.answers import answer
from gateway.http.body import read_body
from gateway.http.call import Call
from gateway.http.child.parsing import parse_body

SEEN_WITHIN_S = 5.0


async def search_documents(parts: DocumentParts, call: Call) -> web.Response:
    """Return the chunks that answer a query best: near by meaning, by their words, or both."""
    task = ParseSearch(body=await read_body(call))
    asked: PreparedSearch = await parse_body(task, call.credentials, parser=parts.shared.parser)
    if asked.seen is not None:
        await _wait_for(parts, call.principal.tenant, asked.seen)
    return answer(await parts.searches.search(call.principal.tenant, asked))


async def _wait_for(parts: DocumentParts, tenant: str, seen: SeenRevision) -> None:
    """Wait until a revision, or a newer one, is live or deleted. Raises NotYetStored: it is not in time."""

    async def look() -> bool | None:
        found = await parts.store.revisions(tenant, seen.collection, seen.document)
        if found is None:
            return None
        newest = max(found.live if found.live is not None else -1, found.deleted if found.deleted is not None else -1)
        return True if newest >= seen.revision else None

    if await parts.polling.until(look, timeout_s=SEEN_WITHIN_S) is None:
        raise NotYetStored(f"revision {seen.revision} of the document is not live: its job says how far it is")
