"""
Old objects of documents: texts and files too large for the log, which nobody needs once their records have expired.

Intake keeps the text in Postgres, so that an object is read only while its record may come again: from the log, or as a
dead letter that is sent back.
"""

import re
from collections.abc import Callable
from datetime import datetime, timedelta
from time import monotonic

from processors.runtime.errors import Transient
from schemas.objects.stores import ERRORS, open_store

LISTED_AT_ONCE = 1000
RETRIES_MAX = 2
RETRY_S = 30.0
EVERY_S = 3600.0
KEPT = timedelta(days=32)  # dead letters are kept for 30

_KEY = re.compile(r"[^/]+/documents/[^/]+/[0-9a-f]{64}\Z")


class OldObjects:
    """The collector of objects that no record refers to any more."""

    def __init__(self, location: str, *, clock: Callable[[], datetime], kept: timedelta = KEPT) -> None:
        """
        Prepare; objects that were written less than *kept* ago, by *clock*, stay.

        Raises:
            SettingsInvalid: see `open_store`.
        """
        self._store = open_store(location, retries_max=RETRIES_MAX, retry_s=RETRY_S, keeps_empty_folders=False)
        self._clock = clock
        self._kept = kept
        self._next_s = 0.0

    async def go_on(self) -> bool:
        """
        Delete what is old, once an hour; return False, as there is no more to do.

        Raises:
            Transient: the storage is away.
        """
        if monotonic() < self._next_s:
            return False
        before = self._clock() - self._kept
        try:
            async for page in self._store.list(chunk_size=LISTED_AT_ONCE):
                for each in page:
                    if _KEY.match(each["path"]) and each["last_modified"] < before:
                        await self._store.delete_async(each["path"])
        except ERRORS as error:
            raise Transient(f"object storage is away: {str(error)[:500]}") from error
        self._next_s = monotonic() + EVERY_S
        return False
