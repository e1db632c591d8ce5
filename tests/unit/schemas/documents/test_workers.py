"""Workers of one's own, on their thread."""

import asyncio
from typing import Any

import pytest

from schemas.documents.workers import WorkerFailed, WorkerThread

DEADLINE_S = 5.0


async def cancels_itself(_item: dict[str, Any]) -> dict[str, Any]:
    raise asyncio.CancelledError


async def hangs(_item: dict[str, Any]) -> dict[str, Any]:
    return await asyncio.get_running_loop().create_future()  # type: ignore[no-any-return]


async def test_a_worker_that_cancels_itself_has_failed() -> None:
    """Its caller goes on: nobody has cancelled that."""
    worker = WorkerThread("own", cancels_itself, deadline_s=DEADLINE_S)
    with pytest.raises(WorkerFailed, match="cancelled itself"):
        await worker.call({})
    await worker.close()


async def test_a_caller_that_is_cancelled_stays_so() -> None:
    worker = WorkerThread("own", hangs, deadline_s=DEADLINE_S)
    call = asyncio.create_task(worker.call({}))
    await asyncio.sleep(0)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await worker.close()
