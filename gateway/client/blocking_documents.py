"""The client for documents without `await`, for programs without an event loop: a thread of its own runs it."""

from collections.abc import Coroutine, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

from gateway.client.bounds import Bounds
from gateway.client.document_views import DocumentJob, Found
from gateway.client.documents import IN_FLIGHT_MAX, WAIT_S, Mode, NewDocument, SubmitResult, TidegateDocuments
from gateway.client.loop_thread import MARGIN_S, LoopThread
from schemas.documents.states import Phase

START_TIMEOUT_S = 10.0

Result = TypeVar("Result")


class SyncDocuments:
    """
    `TidegateDocuments` without `await`; see there for what each method does and raises.

        with SyncDocuments(url, api_key="tg_...") as documents:
            documents.submit_job("harbour", 1, "The ice closed the harbour on 4 January.")
            documents.wait_for_completion()
            found = documents.search("When did the harbour freeze?")
    """

    def __init__(
        self,
        url: str,
        *,
        api_key: str,
        in_flight_max: int = IN_FLIGHT_MAX,
        bounds: Bounds | None = None,
        trust_env: bool = False,
    ) -> None:
        """Take the parameters of `TidegateDocuments`; nothing is opened before entry."""
        self._make = partial(
            TidegateDocuments,
            url,
            api_key=api_key,
            in_flight_max=in_flight_max,
            bounds=bounds,
            trust_env=trust_env,
        )
        self._client = self._make()  # a wrong parameter is reported here
        self._thread: LoopThread | None = None

    def __enter__(self) -> Self:
        """Start the thread and connect."""
        self._thread = LoopThread()
        self._client = self._make()
        self._thread.wait(self._client.__aenter__(), START_TIMEOUT_S)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Disconnect, and stop the thread."""
        thread, self._thread = self._thread, None
        if thread is not None and thread.is_of_this_process:
            thread.wait(self._client.__aexit__(kind, error, trace), MARGIN_S)
            thread.stop()

    @property
    def unfinished(self) -> Sequence[str]:
        """See `TidegateDocuments.unfinished`."""
        return self._client.unfinished

    @property
    def outcomes(self) -> Mapping[str, Phase]:
        """See `TidegateDocuments.outcomes`."""
        return self._client.outcomes

    def submit_job(  # noqa: PLR0917  # the order that callers know
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
        """See `TidegateDocuments.submit_job`."""
        return self._run(
            self._client.submit_job(
                book_slug,
                chapter_index,
                text,
                priority,
                max_retries,
                metadata,
                markdown=markdown,
                idempotency_key=idempotency_key,
            )
        )

    def submit_many(self, documents: Iterable[NewDocument]) -> Sequence[SubmitResult]:
        """See `TidegateDocuments.submit_many`; *documents* is read in the client's thread."""
        return self._run(self._client.submit_many(documents))

    def upload(
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
        """See `TidegateDocuments.upload`."""
        return self._run(
            self._client.upload(
                path,
                book_slug=book_slug,
                chapter_index=chapter_index,
                content_type=content_type,
                priority=priority,
                metadata=metadata,
                idempotency_key=idempotency_key,
            )
        )

    def get_job_status(self, job_id: str) -> DocumentJob:
        """See `TidegateDocuments.get_job_status`."""
        return self._run(self._client.get_job_status(job_id))

    def wait_for_completion(self, timeout: float = WAIT_S, jobs: Iterable[str] | None = None) -> bool:
        """See `TidegateDocuments.wait_for_completion`."""
        return self._run(self._client.wait_for_completion(timeout, jobs))

    def search(
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
        """See `TidegateDocuments.search`."""
        return self._run(
            self._client.search(
                query,
                k,
                collections=collections,
                filters=filters,
                mode=mode,
                group_by=group_by,
                min_revision=min_revision,
            )
        )

    def delete(self, book_slug: str, chapter_index: int | str | None = None) -> str:
        """See `TidegateDocuments.delete`."""
        return self._run(self._client.delete(book_slug, chapter_index))

    def metrics(self) -> Mapping[str, Any]:
        """See `TidegateDocuments.metrics`."""
        return self._run(self._client.metrics())

    get_orchestrator_metrics = metrics

    def _run(self, asking: Coroutine[Any, Any, Result]) -> Result:
        if self._thread is None:
            asking.close()
            raise RuntimeError("the client is not open: use `with SyncDocuments(...) as documents`")
        return self._thread.wait(asking, None)  # each request in it is bounded
