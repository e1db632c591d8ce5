"""Object storage as it is counted, and what is said when it goes away and comes back."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter

import structlog

from gateway.errors import ObjectsUnavailable
from gateway.objects.storage import ObjectStorage
from schemas.process.telemetry import OBJECT_DURATION, Telemetry

WHY_CHARACTERS_MAX = 500  # the library's errors go on with all that they know

log = structlog.get_logger()


class MeasuredStorage:
    """An `ObjectStorage` in front of another one."""

    def __init__(self, storage: ObjectStorage, telemetry: Telemetry) -> None:
        """Measure *storage*."""
        self._storage = storage
        self._duration = telemetry[OBJECT_DURATION]
        self._away = False

    async def put(self, key: str, content: bytes) -> None:
        """Keep *content* under *key*; see `ObjectStorage.put`."""
        with self._measured("put"):
            await self._storage.put(key, content)

    async def get(self, key: str, *, size_bytes: int) -> bytes | None:
        """Return what is kept under *key*; see `ObjectStorage.get`."""
        with self._measured("get"):
            return await self._storage.get(key, size_bytes=size_bytes)

    @contextmanager
    def _measured(self, operation: str) -> Iterator[None]:
        started_s, outcome = perf_counter(), "failed"
        try:
            yield
            outcome = "done"
        except ObjectsUnavailable as error:
            self._failed(str(error.__cause__ or error))
            raise
        except asyncio.CancelledError:
            self._failed("no answer in time")
            raise
        finally:
            self._duration.labels(operation, outcome).observe(perf_counter() - started_s)
        if self._away:
            log.info("object storage available")
        self._away = False

    def _failed(self, why: str) -> None:
        if not self._away:
            log.warning("object storage unavailable", error=why[:WHY_CHARACTERS_MAX])
        self._away = True
