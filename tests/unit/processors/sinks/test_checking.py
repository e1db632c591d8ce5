"""The checks of a sink, run against sinks that hold the contract and against one for each way to break it."""

import asyncio
from collections.abc import Mapping
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from processors.sinks.checking import CHECKS, check
from processors.sinks.contract import Refused, Sink, SinkBatch
from processors.sinks.kinds.jsonl import JsonlWriter
from schemas.sinks.sinks_file import BatchBounds, JsonlSink
from tests.support.sinks import Answer, RecordingSink

SETTINGS = JsonlSink(folder="unused", timeout_s=0.2, batch=BatchBounds(records_max=10))


async def failures(sink: Sink) -> tuple[int, Mapping[str, str]]:
    """Return the exit code and the failed checks with their reasons."""
    with capture_logs() as logs:
        code = await check(sink, SETTINGS)
    results = {each["check"]: each["failure"] for each in logs if each["event"] == "sink checked"}
    assert list(results) == list(CHECKS)
    return code, {name: failure for name, failure in results.items() if failure is not None}


async def test_a_sink_that_takes_all_holds_the_contract() -> None:
    assert await failures(RecordingSink()) == (0, {})


async def test_our_files_hold_the_contract(tmp_path: Path) -> None:
    assert await failures(JsonlWriter(JsonlSink(folder=str(tmp_path)), clock_s=lambda: 1_764_560_000.0)) == (0, {})


async def test_to_refuse_a_record_is_within_the_contract() -> None:
    assert await failures(RecordingSink(lambda _: [Refused(0, "no shelf")])) == (0, {})


class Strict(RecordingSink):
    """Raises where it is given a batch that it has."""

    async def write(self, batch: SinkBatch) -> Answer:
        if any(batch.token == other.token for other in self.asked):
            raise KeyError(batch.token)
        return await super().write(batch)


class OnePartition(RecordingSink):
    """Cannot write two batches at once."""

    is_busy = False

    async def write(self, batch: SinkBatch) -> Answer:
        if self.is_busy:
            raise RuntimeError("busy")
        self.is_busy = True
        await asyncio.sleep(0)
        self.is_busy = False
        return await super().write(batch)


class SingleBytes(RecordingSink):
    """Takes no character beyond ASCII, escaped or not."""

    async def write(self, batch: SinkBatch) -> Answer:
        str([record.event for record in batch.records]).encode("ascii")
        return await super().write(batch)


class Slow(RecordingSink):
    """Answers never."""

    async def write(self, batch: SinkBatch) -> Answer:
        return await asyncio.Event().wait()  # type: ignore[return-value]


class Stubborn(RecordingSink):
    """Stays locked when its write is cancelled."""

    def __init__(self) -> None:
        super().__init__()
        self.is_locked = False

    async def write(self, batch: SinkBatch) -> Answer:
        if self.is_locked:
            raise RuntimeError("locked")
        self.is_locked = True
        await asyncio.sleep(0.02)
        self.is_locked = False
        return await super().write(batch)


@pytest.mark.parametrize(
    ("sink", "name", "text"),
    [
        (Strict(), "the same batch twice", "KeyError"),
        (OnePartition(), "two partitions side by side", "busy"),
        (SingleBytes(), "unusual texts and numbers", "UnicodeEncodeError"),
        (Slow(), "one record", "no answer within 0.2 s"),
        (Stubborn(), "cancelled, and written again", "locked"),
    ],
)
async def test_a_sink_that_breaks_the_contract_is_seen_to(sink: Sink, name: str, text: str) -> None:
    code, failed = await failures(sink)
    assert code == 1
    assert text in failed[name]
