"""Documents as the API has them: the paths that commands call, with an API key."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlencode
from uuid import uuid4

from deploy.admin.gateway import NOT_FOUND, GatewayCalls, Refused
from deploy.errors import CommandFailed
from schemas.documents.states import ENDS, Phase

DOCUMENTS = "/api/documents"
SEARCH = "/api/search"
PAGE_MAX = 200  # of chunks; longer pages of the others are not worth a case of their own
IDEMPOTENCY_KEY = "Idempotency-Key"
GOOD_ENDS = (Phase.STORED, Phase.UNCHANGED, Phase.DELETED)

Json = dict[str, Any]


def has_ended(job: Mapping[str, Any]) -> bool:
    """Return True if a job has come to its end."""
    return job["phase"] in ENDS


class Documents:
    """The documents of one API key's tenant."""

    def __init__(self, calls: GatewayCalls) -> None:
        """Ask by *calls*."""
        self._calls = calls

    def submit(self, document: Mapping[str, object]) -> Json:
        """Submit a text under an idempotency key of its own: a repeated attempt doubles nothing."""
        accepted: Json = self._calls.call("POST", DOCUMENTS, document, headers=_once())
        return accepted

    def upload(self, content: bytes, *, media_type: str, query: Mapping[str, str]) -> Json:
        """Submit a file; *query* names its book, its chapter and itself."""
        accepted: Json = self._calls.send(
            f"{DOCUMENTS}/uploads?{urlencode(query)}", content, headers={"Content-Type": media_type, **_once()}
        )
        return accepted

    def job(self, job_id: str) -> Json:
        """Return one job. Raises CommandFailed: no such job."""
        found: Json = self._calls.found(f"{DOCUMENTS}/jobs/{_part(job_id)}", f"job {job_id}")
        return found

    def jobs(self, query: Mapping[str, str], *, count: int) -> list[Json]:
        """Return up to *count* jobs that *query* admits, the newest first."""
        return self._calls.listed(f"{DOCUMENTS}/jobs", "jobs", query, count=count, page_max=PAGE_MAX)

    def change_job(self, job_id: str, action: str) -> Json:
        """Cancel a job, or run it again. Raises Refused: its state does not allow it, or no such job exists."""
        changed: Json = self._calls.call("POST", f"{DOCUMENTS}/jobs/{_part(job_id)}/{action}")
        return changed

    def listed(self, query: Mapping[str, str], *, count: int) -> list[Json]:
        """Return up to *count* live documents, by book and chapter."""
        return self._calls.listed(DOCUMENTS, "documents", query, count=count, page_max=PAGE_MAX)

    def document(self, book: str, chapter: str) -> Json:
        """Return one document. Raises CommandFailed: no such document."""
        found: Json = self._calls.found(_path(book, chapter), f"document {book}/{chapter}")
        return found

    def chunks(self, book: str, chapter: str, *, count: int | None = None) -> list[Json]:
        """Return the chunks of a document's live version, in the order of the text."""
        try:
            return self._calls.listed(f"{_path(book, chapter)}/chunks", "chunks", {}, count=count, page_max=PAGE_MAX)
        except Refused as refused:
            if refused.code != NOT_FOUND:
                raise
            raise CommandFailed(f"the tenant of this key has no live document {book}/{chapter}") from refused

    def delete(self, book: str, chapter: str | None) -> Json:
        """Delete a document, or a whole book."""
        deleted: Json = self._calls.call("DELETE", _path(book, chapter))
        return deleted

    def search(self, asked: Mapping[str, object]) -> Json:
        """Return the best hits."""
        found: Json = self._calls.call("POST", SEARCH, asked)
        return found

    def collections(self) -> list[Json]:
        """Return every collection."""
        return self._calls.listed(f"{DOCUMENTS}/collections", "collections", {}, count=None, page_max=PAGE_MAX)

    def collection(self, book: str) -> Json:
        """Return one collection. Raises CommandFailed: no such collection."""
        for each in self.collections():
            if each["book_slug"] == book:
                return each
        raise CommandFailed(f"the tenant of this key has no book {book}")

    def reembed(self, book: str, embedder: str, *, skip_failed: bool) -> Json:
        """Embed a collection with another embedder. Raises Refused: it is embedded with it already."""
        path = f"{DOCUMENTS}/collections/{_part(book)}/reembed"
        changed: Json = self._calls.call("POST", path, {"embedder": embedder, "skip_failed": skip_failed})
        return changed

    def metrics(self) -> Json:
        """Return the figures of the tenant's documents."""
        found: Json = self._calls.call("GET", f"{DOCUMENTS}/metrics")
        return found


def _once() -> Mapping[str, str]:
    return {IDEMPOTENCY_KEY: f"cli-{uuid4()}"}


def _path(book: str, chapter: str | None) -> str:
    return f"{DOCUMENTS}/{_part(book)}" + ("" if chapter is None else f"/{_part(chapter)}")


def _part(text: str) -> str:
    return quote(text, safe="")
