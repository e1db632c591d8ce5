"""Pages of events with what their references stand for."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec
import structlog

from gateway.errors import ObjectsUnavailable
from gateway.objects.storage import Damaged, ObjectStorage
from gateway.runs.store import PAGE_BYTES_MAX
from schemas.objects.references import PayloadRef, from_json, is_content_of
from schemas.runs.views import EventView

PAGES_MAX = 4  # resolved at once; each holds its payloads
FETCHES_MAX = 4  # at once, for one page
PAGE_TIMEOUT_S = 15.0  # the wait for its turn included

Problem = Literal["missing", "damaged"]

log = structlog.get_logger()


class Pages:
    """A fetcher of payloads, a few at once; it shows none that differs from what was sent."""

    def __init__(
        self, storage: ObjectStorage, *, timeout_s: float = PAGE_TIMEOUT_S, bytes_max: int = PAGE_BYTES_MAX
    ) -> None:
        """Fetch from *storage*."""
        self._storage = storage
        self._timeout_s = timeout_s
        self._bytes_max = bytes_max
        self._turns = asyncio.Semaphore(PAGES_MAX)

    async def resolve(self, events: Sequence[EventView]) -> Sequence[EventView]:
        """
        Return *events* with the payloads that they refer to; fewer of them, where those are large.

        An event whose object is missing or damaged keeps its reference alone, and says so.

        Raises:
            ObjectsUnavailable: the storage is away or slow. Answer 503.
        """
        references = {event.seq: reference for event in events if (reference := _reference(event)) is not None}
        if not references:
            return events
        shown = _within(events, references, self._bytes_max)
        try:
            async with asyncio.timeout(self._timeout_s), self._turns:
                resolved = await self._resolve([event for event in shown if event.seq in references], references)
        except TimeoutError:
            raise ObjectsUnavailable(f"the page's payloads did not come within {self._timeout_s:g} s") from None
        return [resolved.get(event.seq, event) for event in shown]

    async def _resolve(
        self, referring: Sequence[EventView], references: Mapping[int, PayloadRef]
    ) -> Mapping[int, EventView]:
        resolved: dict[int, EventView] = {}
        for start in range(0, len(referring), FETCHES_MAX):
            few = referring[start : start + FETCHES_MAX]
            fetches = (self._with_payload(event, references[event.seq]) for event in few)
            for outcome in await asyncio.gather(*fetches, return_exceptions=True):  # none goes on when one has failed
                if isinstance(outcome, BaseException):
                    raise outcome
                resolved[outcome.seq] = outcome
        return resolved

    async def _with_payload(self, event: EventView, reference: PayloadRef) -> EventView:
        found = await self._fetch(reference)
        if isinstance(found, bytes):
            return msgspec.structs.replace(event, payload=msgspec.Raw(found))
        log.error("payload unavailable", key=reference.key, wal_id=event.wal_id, problem=found)
        return msgspec.structs.replace(event, payload_problem=found)

    async def _fetch(self, reference: PayloadRef) -> bytes | Problem:
        try:
            content = await self._storage.get(reference.key, size_bytes=reference.size_bytes)
        except Damaged:
            return "damaged"
        if content is None:
            return "missing"
        # On a thread: the digest of 10 MiB takes some 10 ms.
        return content if await asyncio.to_thread(is_content_of, reference, content) else "damaged"


def _reference(event: EventView) -> PayloadRef | None:
    text = bytes(event.payload_ref)
    return None if text == b"null" else from_json(text)


def _within(events: Sequence[EventView], references: Mapping[int, PayloadRef], bytes_max: int) -> Sequence[EventView]:
    """Return the first of *events*, up to the one whose payload passes *bytes_max* in all."""
    size_bytes = 0
    for count, event in enumerate(events, 1):
        reference = references.get(event.seq)
        size_bytes += memoryview(event.payload).nbytes if reference is None else reference.size_bytes
        if size_bytes > bytes_max:
            return events[:count]
    return events
