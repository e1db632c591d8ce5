"""
Large payloads on their way to object storage.

An event is judged, its payload is kept, then it is judged again and its record produced: no record without its object.

Why no place is reserved for it meanwhile: the events after it would have to wait, or be in the log before it. So
another one may take its place, or the run be finalized; the object of what is then refused has no record. It harms
nobody, and whoever collects such objects must leave alone what is young.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial

import msgspec

from gateway.errors import HttpError, NotFound, ObjectsUnavailable, QueueFull
from gateway.objects.storage import Damaged, ObjectStorage
from schemas.objects.references import PayloadRef, is_content_of

UPLOAD_TIMEOUT_S = 10.0  # the wait for a slot included
UPLOADS_MAX = 8  # at once
WAITING_BYTES_MAX = 64 * 1024 * 1024  # of all payloads that are not kept yet


class Upload(msgspec.Struct, frozen=True, kw_only=True):
    """A payload that is to be kept before the record that refers to it."""

    key: str
    content: bytes


class Copy(msgspec.Struct, frozen=True, kw_only=True):
    """An object that is to be kept under another key, or once more under its own, before a record refers to it."""

    source: PayloadRef
    key: str


class Uploads:
    """A bounded uploader: few payloads at once, and no more bytes than it may hold."""

    def __init__(
        self,
        storage: ObjectStorage,
        *,
        timeout_s: float = UPLOAD_TIMEOUT_S,
        waiting_bytes_max: int = WAITING_BYTES_MAX,
    ) -> None:
        """Keep payloads in *storage*."""
        self._storage = storage
        self._timeout_s = timeout_s
        self._slots = asyncio.Semaphore(UPLOADS_MAX)
        self._waiting_bytes = 0
        self._waiting_bytes_max = waiting_bytes_max

    async def keep(self, uploads: Sequence[Upload]) -> Mapping[str, HttpError | None]:
        """
        Keep *uploads*; say for each key why its payload is not there, or None: it is.

        What is not there is refused with QueueFull (answer 429) or ObjectsUnavailable (answer 503).
        """
        by_key = {upload.key: upload for upload in uploads}
        refusals = await asyncio.gather(*(self._keep(upload) for upload in by_key.values()))
        return dict(zip(by_key, refusals, strict=True))

    async def copy(self, copies: Sequence[Copy]) -> Mapping[str, HttpError | None]:
        """
        Keep what is there already; say for each key why it is not there, or None: it is.

        Refusals are those of `keep`, and NotFound (answer 404): there is no such object, or another content.
        """
        by_key = {copy.key: copy for copy in copies}
        refusals = await asyncio.gather(
            *(self._bounded(partial(self._copy, each), size_bytes=each.source.size_bytes) for each in by_key.values())
        )
        return dict(zip(by_key, refusals, strict=True))

    async def _keep(self, upload: Upload) -> HttpError | None:
        put = partial(self._storage.put, upload.key, upload.content)
        return await self._bounded(put, size_bytes=len(upload.content))

    async def _copy(self, copy: Copy) -> None:
        try:
            content = await self._storage.get(copy.source.key, size_bytes=copy.source.size_bytes)
        except Damaged:
            content = None
        if content is None or not is_content_of(copy.source, content):
            raise NotFound(f"no such object is kept: {copy.source.key}")
        await self._storage.put(copy.key, content)

    async def _bounded(self, work: Callable[[], Awaitable[None]], *, size_bytes: int) -> HttpError | None:
        if self._waiting_bytes + size_bytes > self._waiting_bytes_max:
            return QueueFull("too many large payloads wait for object storage; nothing was written")
        self._waiting_bytes += size_bytes
        try:
            async with asyncio.timeout(self._timeout_s), self._slots:
                await work()
        except TimeoutError:
            return ObjectsUnavailable(f"the payload was not kept within {self._timeout_s:g} s; nothing was written")
        except (ObjectsUnavailable, NotFound) as refusal:
            return refusal
        finally:
            self._waiting_bytes -= size_bytes
        return None
