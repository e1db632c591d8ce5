"""
A sink whose writes come to an end within their time and answer sense, whatever its class does.

An exception, a write that hangs and an answer that means nothing are failures for now, with their text: nothing that a
sink does ends the process or loses a record.
"""

import asyncio
from collections import defaultdict
from collections.abc import Sequence

from processors.sinks.contract import (
    BatchRefused,
    BatchTooLarge,
    Refused,
    Sink,
    SinkBatch,
    Transient,
    TryAgain,
)
from schemas.texts import printable

GRACE_S = 1.0  # for a write that is cancelled
TEXT_CHARACTERS_MAX = 500

Answered = Sequence[Refused | TryAgain]


class GuardedSink:
    """A sink as the handler uses it: one write a partition at a time, each bounded."""

    def __init__(self, sink: Sink, *, timeout_s: float, grace_s: float = GRACE_S) -> None:
        """Let each write of *sink* take *timeout_s* at most, and *grace_s* after it was cancelled."""
        self._sink = sink
        self._timeout_s = timeout_s
        self._grace_s = grace_s
        self._turns: defaultdict[int, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._overdue: dict[int, asyncio.Task[object]] = {}  # cancelled, and still running

    async def write(self, batch: SinkBatch) -> Answered:
        """
        Write *batch*; return what of it was not taken.

        Raises:
            Transient, BatchRefused, BatchTooLarge: see `Sink.write`.
        """
        async with self._turns[batch.partition]:
            overdue = self._overdue.get(batch.partition)
            if overdue is not None and not overdue.done():
                raise Transient("its write was cancelled and still runs")
            task = asyncio.create_task(self._write(batch), name=f"write {batch.token}")
            try:
                await asyncio.wait({task}, timeout=self._timeout_s)
            except asyncio.CancelledError:
                await self._cancel(task, batch.partition)
                raise
            if not task.done():
                await self._cancel(task, batch.partition)
                raise Transient(f"no answer within {self._timeout_s:g} s")
            return _checked(task.result(), of=len(batch.records))

    async def _write(self, batch: SinkBatch) -> object:
        try:
            return await self._sink.write(batch)
        except (Transient, BatchRefused, BatchTooLarge):
            raise
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            raise Transient("its write cancelled itself") from error
        except (Exception, SystemExit, KeyboardInterrupt) as error:
            raise Transient(text_of(error)) from error

    async def _cancel(self, task: asyncio.Task[object], partition: int) -> None:
        task.cancel()
        await asyncio.wait({task}, timeout=self._grace_s)
        if task.done():
            task.cancelled() or task.exception()  # looked at, so that asyncio does not complain of it
        else:
            self._overdue[partition] = task


def text_of(error: BaseException) -> str:
    """Return the class and the text of a stranger's *error*."""
    try:
        text = str(error)
    except Exception as second:  # noqa: BLE001  whatever a stranger's class does
        text = f"its text cannot be shown: {type(second).__name__}"
    return printable(f"{type(error).__name__}: {text}", characters_max=TEXT_CHARACTERS_MAX)


def _checked(answer: object, *, of: int) -> Answered:
    """
    Return *answer* to a batch of *of* records with its texts made printable.

    Raises:
        Transient: it is not what a sink may answer.
    """
    if answer is None:
        return ()
    if not isinstance(answer, list | tuple):
        raise Transient(f"it answered {_shown(answer)}, which is no list of Refused and TryAgain")
    indexes = set[int]()
    checked = list[Refused | TryAgain]()
    for each in answer:
        if not isinstance(each, Refused | TryAgain):
            raise Transient(f"it answered {_shown(each)}, which is neither Refused nor TryAgain")
        if type(each.index) is not int or not 0 <= each.index < of or each.index in indexes:
            raise Transient(f"it answered index {_shown(each.index)} of {of} records, or the same one twice")
        indexes.add(each.index)
        reason = each.reason if isinstance(each.reason, str) else _shown(each.reason)
        checked.append(type(each)(each.index, printable(reason, characters_max=TEXT_CHARACTERS_MAX)))
    return checked


def _shown(value: object) -> str:
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001  whatever a stranger's class does
        text = f"<{type(value).__name__}>"
    return printable(text, characters_max=100)
