"""The client for documents: submit texts and files, wait until they are stored, and search them."""

import asyncio
import json
import mimetypes
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, Literal, Self
from urllib.parse import quote, urlencode

from gateway.client.answers import Answer
from gateway.client.bounds import Bounds
from gateway.client.delivery import Delivery, Request
from gateway.client.document_views import (
    CollectionDeleted,
    Document,
    DocumentJob,
    Found,
    Submitted,
    read_as,
)
from gateway.client.errors import Refused, SendAgainLater
from schemas.documents.states import Phase

DOCUMENTS = "/api/documents"
SEARCH = "/api/search"
IN_FLIGHT_MAX = 16
POLL_FIRST_S = 0.1
POLL_MAX_S = 2.0
WAIT_S = 300.0
REQUEST_TIMEOUT_S = 60.0  # an upload has up to 32 MiB
OCTETS = "application/octet-stream"
# Those that Python knows differ by system.
MEDIA_TYPES = {
    ".epub": "application/epub+zip",
    ".docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    ".html": "text/html",
    ".htm": "text/html",
    ".md": "text/markdown",
    ".pdf": "application/pdf",
    ".txt": "text/plain",
}

Mode = Literal["hybrid", "vector", "text"]


@dataclass(frozen=True, slots=True, kw_only=True)
class NewDocument:
    """
    A text to submit, for `submit_many`.

    Example: `NewDocument(book_slug="emma", chapter_index=1, text="Emma Woodhouse, handsome, clever, and rich")`
    """

    book_slug: str
    chapter_index: int | str
    text: str
    priority: int = 5
    max_retries: int = 3
    metadata: Mapping[str, object] | None = None
    markdown: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmitResult:
    """The outcome of one document of `submit_many`: the id of its job, or the error that says what to do next."""

    index: int  # of the document, from 0
    job_id: str | None = None
    error: Refused | SendAgainLater | None = None


class TidegateDocuments:
    """
    A client that submits documents to one gateway and searches them.

        async with TidegateDocuments(url, api_key="tg_...") as documents:
            await documents.submit_job("harbour", 1, "The ice closed the harbour on 4 January.")
            await documents.wait_for_completion()
            found = await documents.search("When did the harbour freeze?")

    A gateway that is busy or away (429, 503, no answer) is asked again after its Retry-After and some jitter, for
    `Bounds.give_up_after_s` in total. Each submission has an idempotency key, which every attempt carries: a repeated
    one doubles nothing.
    """

    def __init__(
        self,
        url: str,
        *,
        api_key: str,
        in_flight_max: int = IN_FLIGHT_MAX,
        bounds: Bounds | None = None,
        trust_env: bool = False,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take the gateway's address, such as http://127.0.0.1:8080; nothing is opened before entry."""
        if in_flight_max < 1:
            raise ValueError(f"in_flight_max={in_flight_max} must be 1 or more")
        given = bounds or Bounds(request_timeout_s=REQUEST_TIMEOUT_S)
        self._delivery = Delivery(url, api_key=api_key, bounds=given, trust_env=trust_env)
        self._in_flight_max = in_flight_max
        self._clock_s = clock_s
        self._unfinished: dict[str, None] = {}  # jobs of this client, the oldest first
        self._outcomes: dict[str, Phase] = {}

    @property
    def unfinished(self) -> Sequence[str]:
        """Return the jobs of this client whose end it has not seen, the oldest first."""
        return tuple(self._unfinished)

    @property
    def outcomes(self) -> Mapping[str, Phase]:
        """Return the phase in which each job ended, of those that `wait_for_completion` saw end."""
        return MappingProxyType(self._outcomes)

    async def __aenter__(self) -> Self:
        """Open the connection."""
        await self._delivery.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connection; what was submitted goes on."""
        await self._delivery.__aexit__(kind, error, trace)

    async def submit_job(  # noqa: PLR0917  # the order that callers know
        self,
        book_slug: str,
        chapter_index: int | str,
        text: str,
        priority: int = 5,
        max_retries: int = 3,
        metadata: Mapping[str, object] | None = None,
        *,
        markdown: bool = False,
        idempotency_key: str | None = None,
    ) -> str:
        """
        Submit a text as the newest version of a document; return the id of its job. In *markdown* headings are known.

        Raises:
            Refused: the gateway does not take it as it is.
            SendAgainLater: patience is over. Submit it again with the same *idempotency_key*.
        """
        body = {
            "book_slug": book_slug,
            "chapter_index": chapter_index,
            "text": text,
            "priority": priority,
            "max_retries": max_retries,
            **({"format": "markdown"} if markdown else {}),
            **({} if metadata is None else {"metadata": metadata}),
        }
        request = Request(
            method="POST",
            path=DOCUMENTS,
            body=json.dumps(body, ensure_ascii=False).encode("utf-8", "surrogatepass"),
            headers={"Idempotency-Key": idempotency_key or uuid.uuid4().hex},
        )
        return await self._submit(request)

    async def submit_many(self, documents: Iterable[NewDocument]) -> Sequence[SubmitResult]:
        """
        Submit each of *documents*, `in_flight_max` at a time; return their outcomes in order.

        *documents* is read as they are sent, so that it may be a generator over more than fits in memory. One that is
        refused does not keep the others from being submitted.
        """
        numbered = enumerate(documents)  # shared: whichever worker is free takes the next one
        results: list[SubmitResult] = []
        async with asyncio.TaskGroup() as workers:
            for _ in range(self._in_flight_max):
                workers.create_task(self._submit_each(numbered, results))
        return sorted(results, key=lambda result: result.index)

    async def upload(
        self,
        path: str | Path,
        *,
        book_slug: str | None = None,
        chapter_index: int | str | None = None,
        content_type: str | None = None,
        priority: int = 5,
        metadata: Mapping[str, object] | None = None,
        idempotency_key: str | None = None,
    ) -> str:
        """
        Submit a file (txt, md, html, epub, docx, pdf) of up to 32 MiB; return the id of its job.

        The book is by default named after the file, and so is the chapter. A large file becomes several documents, each
        with a job of its own.

        Raises:
            OSError: it cannot be read.
            Refused, SendAgainLater: see `submit_job`.
        """
        file = Path(path)
        content = await asyncio.to_thread(file.read_bytes)
        query = {
            "book_slug": slug_of(file) if book_slug is None else book_slug,
            "chapter_index": file.stem if chapter_index is None else chapter_index,
            "filename": file.name,
            "priority": priority,
            **({} if metadata is None else {"metadata": json.dumps(metadata)}),
        }
        request = Request(
            method="POST",
            path=f"{DOCUMENTS}/uploads?{urlencode(query)}",
            body=content,
            headers={
                "Content-Type": content_type or media_type_of(file),
                "Idempotency-Key": idempotency_key or uuid.uuid4().hex,
            },
        )
        return await self._submit(request)

    async def get_job_status(self, job_id: str) -> DocumentJob:
        """Return how far a job is. Raises Refused: no such job; SendAgainLater: no answer."""
        return await self._get(DocumentJob, f"{DOCUMENTS}/jobs/{_part(job_id)}")

    async def wait_for_completion(self, timeout: float = WAIT_S, jobs: Iterable[str] | None = None) -> bool:  # noqa: ASYNC109  # the name that callers know
        """
        Wait until every one of *jobs* has ended, by default of all that this client submitted; True if they have.

        After *timeout* seconds the answer is False, and the jobs go on. An end may be a failure: see `outcomes`.

        Raises:
            Refused: one of *jobs* is not known to the gateway.
            SendAgainLater: it does not answer.
        """
        deadline_s = self._clock_s() + timeout
        waited = list(self._unfinished if jobs is None else dict.fromkeys(jobs))
        pause_s = POLL_FIRST_S
        while waited:
            # The oldest end first: looking at those suffices until they have.
            looked = waited[: self._in_flight_max]
            found = await asyncio.gather(*(self.get_job_status(job_id) for job_id in looked))
            ended = {job.job_id for job in found if job.has_ended}
            for job in found:
                if job.has_ended:
                    self._outcomes[job.job_id] = job.phase
                    self._unfinished.pop(job.job_id, None)
            waited = [job_id for job_id in waited if job_id not in ended]
            left_s = deadline_s - self._clock_s()
            if not waited:
                break
            if left_s <= 0:
                return False
            if ended:
                pause_s = POLL_FIRST_S
            else:
                await asyncio.sleep(min(pause_s, left_s))
                pause_s = min(2 * pause_s, POLL_MAX_S)
        return True

    async def search(
        self,
        query: str,
        k: int = 10,
        *,
        collections: Sequence[str] | None = None,
        filters: Mapping[str, object] | None = None,
        mode: Mode = "hybrid",
        group_by: Literal["document"] | None = None,
        min_revision: Mapping[str, object] | None = None,
    ) -> Found:
        """
        Return the *k* best passages of the live versions.

        *filters* compares metadata, as {"type": "eq", "key": "author", "value": "Austen"}; *min_revision* names a
        version that must be seen, by book_slug, chapter_index and revision. Raises as `submit_job`.
        """
        asked: dict[str, object] = {"query": query, "k": k, "mode": mode}
        more = {
            "collections": None if collections is None else list(collections),
            "filters": filters,
            "group_by": group_by,
            "min_revision": min_revision,
        }
        asked |= {name: value for name, value in more.items() if value is not None}
        request = Request(method="POST", path=SEARCH, body=json.dumps(asked, ensure_ascii=False).encode())
        return await self._ask(Found, request)

    async def delete(self, book_slug: str, chapter_index: int | str | None = None) -> str:
        """
        Delete a document, or without *chapter_index* a whole book; return the id of the job, or of the command.

        What was found before is not found any more once the command is applied. Raises as `submit_job`.
        """
        path = f"{DOCUMENTS}/{_part(book_slug)}"
        if chapter_index is None:
            deleted = await self._ask(CollectionDeleted, Request(method="DELETE", path=path))
            return deleted.command_id
        return await self._submit(Request(method="DELETE", path=f"{path}/{_part(str(chapter_index))}"))

    async def metrics(self) -> Mapping[str, Any]:
        """Return the figures of the tenant's documents by their names. Raises as `submit_job`."""
        return await self._get(dict[str, Any], f"{DOCUMENTS}/metrics")

    get_orchestrator_metrics = metrics

    async def _submit_each(self, numbered: "Iterable[tuple[int, NewDocument]]", results: list[SubmitResult]) -> None:
        for index, document in numbered:
            try:
                job_id = await self.submit_job(
                    document.book_slug,
                    document.chapter_index,
                    document.text,
                    document.priority,
                    document.max_retries,
                    document.metadata,
                    markdown=document.markdown,
                )
            except (Refused, SendAgainLater) as error:
                results.append(SubmitResult(index=index, error=error))
            else:
                results.append(SubmitResult(index=index, job_id=job_id))

    async def _submit(self, request: Request) -> str:
        submitted = await self._ask(Submitted, request)
        self._unfinished[submitted.job_id] = None
        return submitted.job_id

    async def _get(self, kind: type[Document], path: str) -> Document:
        return await self._ask(kind, Request(method="GET", path=path))

    async def _ask(self, kind: type[Document], request: Request) -> Document:
        read: Callable[[Answer], Document] = partial(read_as, kind)
        return await self._delivery.ask(request, read)


def slug_of(path: Path) -> str:
    """Return a file's name as the slug of a book: what no slug may have becomes a hyphen."""
    kept = "".join(one if one.isascii() and (one.isalnum() or one in "._:-") else "-" for one in path.stem)
    return kept.strip("-")[:128] or "book"


def media_type_of(path: Path) -> str:
    """Return the media type of a file, by its name."""
    suffix = path.suffix.lower()
    return MEDIA_TYPES.get(suffix) or mimetypes.guess_type(path.name)[0] or OCTETS


def _part(text: str) -> str:
    return quote(text, safe="")
