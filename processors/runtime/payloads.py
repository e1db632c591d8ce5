"""Payloads that records refer to, fetched from object storage for those who are to be sent them."""

import asyncio
from typing import Protocol

from processors.runtime.errors import Transient
from schemas.objects.references import Kept, PayloadProblem, PayloadRef, is_content_of
from schemas.objects.stores import ERRORS, is_away, is_no_object, open_store

FETCH_S = 5.0
RETRIES_MAX = 2


class Payloads(Protocol):
    """The port to what is kept."""

    async def fetch(self, reference: PayloadRef) -> Kept:
        """
        Return the payload that *reference* stands for, or why there is none to be shown; within a bounded time.

        Raises:
            Transient: the storage is away or slow.
        """


class ObstorePayloads:
    """`Payloads` from a folder, or from a bucket that speaks S3."""

    def __init__(self, location: str) -> None:
        """
        Prepare.

        Raises:
            SettingsInvalid: see `open_store`.
        """
        self._store = open_store(location, retries_max=RETRIES_MAX, retry_s=FETCH_S)

    async def fetch(self, reference: PayloadRef) -> Kept:
        """See `Payloads.fetch`."""
        found = await self._fetch(reference)
        # A folder may have come back between the read that failed and the look at it: the second read is sure.
        return await self._fetch(reference) if found is PayloadProblem.MISSING else found

    async def _fetch(self, reference: PayloadRef) -> Kept:
        try:
            async with asyncio.timeout(FETCH_S):
                found = await self._store.get_async(reference.key)
                if found.meta["size"] != reference.size_bytes:
                    return PayloadProblem.DAMAGED
                content = bytes(await found.bytes_async())
        except FileNotFoundError as error:
            if is_no_object(error) and not await asyncio.to_thread(is_away, self._store):
                return PayloadProblem.MISSING
            raise Transient(f"object storage is away: {error}") from error
        except TimeoutError as error:
            raise Transient(f"object storage does not answer within {FETCH_S:g} s") from error
        except ERRORS as error:
            raise Transient(f"object storage is away: {str(error)[:500]}") from error
        # On a thread: the digest of 10 MiB takes some 10 ms.
        return content if await asyncio.to_thread(is_content_of, reference, content) else PayloadProblem.DAMAGED
