"""Sinks that raise, hang and answer nonsense: each is a failure for now, with its text."""

import asyncio
from typing import Any

import pytest

from processors.sinks.contract import (
    BatchRefused,
    BatchTooLarge,
    Misconfigured,
    Refused,
    SinkBatch,
    Transient,
    TryAgain,
)
from processors.sinks.guarding import GuardedSink
from tests.support.sinks import Answer, RecordingSink, batch


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


def raising(error: BaseException) -> RecordingSink:
    def behave(_batch: SinkBatch) -> Answer:
        raise error

    return RecordingSink(behave)


class Hanging(RecordingSink):
    """Never answers; a stubborn one goes on after it is cancelled, until `ended` is set."""

    def __init__(self, *, is_stubborn: bool) -> None:
        super().__init__()
        self.is_stubborn = is_stubborn
        self.began = asyncio.Event()
        self.ended = asyncio.Event()
        self.cancelled = 0

    async def write(self, batch: SinkBatch) -> Answer:
        self.began.set()
        while not self.ended.is_set():
            try:
                await self.ended.wait()
            except asyncio.CancelledError:
                self.cancelled += 1
                if not self.is_stubborn:
                    raise
        return await super().write(batch)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ValueError("no such shelf"), "ValueError: no such shelf"),
        (SystemExit(3), "SystemExit: 3"),
        (KeyboardInterrupt(), "KeyboardInterrupt: "),
        (asyncio.CancelledError(), "its write cancelled itself"),
        (Unprintable(), "Unprintable: its text cannot be shown: RuntimeError"),
        (ExceptionGroup("two", [OSError("a"), OSError("b")]), "ExceptionGroup: two (2 sub-exceptions)"),
        (RuntimeError("a\nb\x1b[31m\ud800"), "RuntimeError: a\\u000ab\\u001b[31m\\ud800"),
    ],
)
async def test_an_exception_is_a_failure_for_now_with_its_text(error: BaseException, text: str) -> None:
    with pytest.raises(Transient) as failure:
        await GuardedSink(raising(error), timeout_s=5.0).write(batch(0))
    assert str(failure.value) == text


@pytest.mark.parametrize(
    "error", [Transient("later", retry_after_s=3.0), Misconfigured("401"), BatchRefused("a"), BatchTooLarge("b")]
)
async def test_what_the_contract_names_is_handed_on(error: Exception) -> None:
    with pytest.raises(type(error)) as raised:
        await GuardedSink(raising(error), timeout_s=5.0).write(batch(0))
    assert raised.value is error


@pytest.mark.parametrize("answer", [None, [], ()])
async def test_no_answer_takes_all(answer: Answer) -> None:
    assert list(await GuardedSink(RecordingSink(lambda _: answer), timeout_s=5.0).write(batch(0))) == []


async def test_a_reason_is_made_printable() -> None:
    sink = RecordingSink(lambda _: [Refused(1, "bad\r\nX-Header: 1"), TryAgain(0, "a" * 10_000)])
    refused, again = await GuardedSink(sink, timeout_s=5.0).write(batch(0, 1))
    assert refused == Refused(1, "bad\\u000d\\u000aX-Header: 1")
    assert len(again.reason) == 500


NONSENSE: list[Any] = [
    True,
    "refused",
    {0: "bad"},
    [0],
    [None],
    [(0, "bad")],
    [Refused(2, "beyond")],
    [Refused(-1, "before")],
    [Refused(True, "a truth")],
    [Refused("0", "a text")],  # type: ignore[arg-type]
    [Refused(0, "once"), TryAgain(0)],
]


@pytest.mark.parametrize("answer", NONSENSE, ids=repr)
async def test_nonsense_is_a_failure_for_now(answer: Any) -> None:
    class Confused(RecordingSink):
        async def write(self, batch: SinkBatch) -> Any:
            return answer

    with pytest.raises(Transient, match="it answered"):
        await GuardedSink(Confused(), timeout_s=5.0).write(batch(0, 1))


async def test_a_class_whose_write_is_no_coroutine_is_a_failure_for_now() -> None:
    class Blocking(RecordingSink):
        def write(self, batch: SinkBatch) -> Any:  # type: ignore[override]
            return None

    with pytest.raises(Transient, match="TypeError"):
        await GuardedSink(Blocking(), timeout_s=5.0).write(batch(0))


async def test_a_write_that_hangs_is_cancelled_at_its_time_limit() -> None:
    sink = Hanging(is_stubborn=False)
    with pytest.raises(Transient, match=r"no answer within 0.01 s"):
        await GuardedSink(sink, timeout_s=0.01).write(batch(0))
    assert sink.cancelled == 1


async def test_while_a_cancelled_write_goes_on_none_of_its_partition_begins() -> None:
    sink = Hanging(is_stubborn=True)
    guarded = GuardedSink(sink, timeout_s=0.01, grace_s=0.01)
    with pytest.raises(Transient, match="no answer"):
        await guarded.write(batch(0, 1))
    with pytest.raises(Transient, match="still runs"):
        await guarded.write(batch(0, 1))
    sink.ended.set()
    await asyncio.sleep(0)
    assert list(await guarded.write(batch(0, 1))) == []


async def test_who_is_cancelled_cancels_the_write() -> None:
    sink = Hanging(is_stubborn=False)
    task = asyncio.create_task(GuardedSink(sink, timeout_s=60.0).write(batch(0)))
    await sink.began.wait()
    task.cancel()
    await asyncio.wait([task])
    assert (task.cancelled(), sink.cancelled) == (True, 1)


async def test_partitions_write_side_by_side_and_one_after_the_other_within() -> None:
    sink = Hanging(is_stubborn=False)
    guarded = GuardedSink(sink, timeout_s=60.0)
    first = asyncio.create_task(guarded.write(batch(0)))
    second = asyncio.create_task(guarded.write(batch(0, partition=1)))
    third = asyncio.create_task(guarded.write(batch(1)))
    await sink.began.wait()
    sink.ended.set()
    await asyncio.gather(first, second, third)
    assert [(each.partition, each.first) for each in sink.asked] == [(0, 0), (1, 0), (0, 1)]
