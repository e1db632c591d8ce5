"""
The life of a child: one task after the other, each told how it ended.

SIGUSR1 says that an `Interrupt` waits on the control socket. It is let through only while a task's function runs, and
obeyed only if it names that very attempt: so no stop ever meets the task that comes next.
"""

import asyncio
import faulthandler
import inspect
import logging
import os
import resource
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from time import monotonic
from typing import Any

import msgspec

from processors.children import linux
from processors.children.frames import Frames
from processors.jobs.children.messages import OF_EXECUTOR, Ended, Interrupt, Progress, Run
from processors.jobs.context import (
    BadInput,
    Completed,
    Ending,
    Fail,
    Interruption,
    Retry,
    Snooze,
    SoftLimitReached,
    TaskCancelled,
    TaskContext,
    TaskInterrupted,
)
from schemas.jobs.rules import RESULT_BYTES_MAX, SUMMARY_BYTES_MAX
from schemas.jobs.states import EndReason
from schemas.texts import holds_nul

STOP = signal.SIGUSR1
PROGRESS_EVERY_S = 0.25
MESSAGE_CHARACTERS_MAX = 500
ERROR_CHARACTERS_MAX = 4096
PAUSE_S_MAX = 366 * 24 * 3600.0
TRACEBACK_CHARACTERS_MAX = 64 * 1024

_RAISED: dict[Ending, type[Interruption]] = {
    "soft_limit": SoftLimitReached,
    "cancelled": TaskCancelled,
    "interrupted": TaskInterrupted,
}


def serve(work: socket.socket, control: socket.socket, *, dsn: str) -> None:
    """Run the tasks that come on *work* until it ends, or a task leaves processes behind; STOP is blocked by now."""
    faulthandler.enable()
    sys.stdout = os.fdopen(1, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(levelname)s %(name)s: %(message)s", force=True)
    control.setblocking(False)
    child = Child(Frames(work, OF_EXECUTOR), Frames(control, OF_EXECUTOR), dsn=dsn)
    signal.signal(STOP, child.stop_asked)
    child.run()


class Child:
    """The loop of a child."""

    def __init__(self, work: Frames, control: Frames, *, dsn: str) -> None:
        """Take tasks from *work* and stops from *control*."""
        self._work = work
        self._control = control
        self._dsn = dsn
        self._functions: dict[str, _Function] = {}
        self._runner = asyncio.Runner()
        self._attempt: _Attempt | None = None
        self._pid = os.getpid()

    def run(self) -> None:
        """Run tasks until the executor closes the connection or this child should be replaced."""
        while isinstance(message := self._work.read(), Run):
            ended = self._ended(message)
            self._flush()
            if os.getpid() != self._pid:  # a copy, which the task forked, and which came back as well
                os._exit(0)
            self._work.write(ended)
            if ended.is_retiring:
                return

    def stop_asked(self, *_: object) -> None:
        """Obey what waits on the control socket, as far as it is meant for the attempt that runs."""
        while isinstance(message := self._control.read(), Interrupt):
            if self._attempt is not None and message.attempt_id == self._attempt.id:
                self._attempt.stop(message.kind)

    def _ended(self, run: Run) -> Ended:
        began_s, usage = monotonic(), resource.getrusage(resource.RUSAGE_SELF)
        attempt = self._attempt = _Attempt(run, self._work, began_s=began_s, dsn=self._dsn)
        try:
            ended = attempt.ended(self._call(run, attempt))
        except BaseException as error:  # noqa: BLE001  whatever a stranger's code raises is the end of its task
            ended = attempt.failed(error)
        finally:
            self._attempt = None
        used = resource.getrusage(resource.RUSAGE_SELF)
        return msgspec.structs.replace(
            ended,
            cpu_s=used.ru_utime + used.ru_stime - usage.ru_utime - usage.ru_stime,
            is_retiring=bool(linux.children_of(os.getpid())),
        )

    def _call(self, run: Run, attempt: "_Attempt") -> object:
        function = self._functions.get(run.function)
        if function is None:
            function = self._functions[run.function] = _Function(run.function)
        parameters = function.parameters(run.parameters)
        if function.is_async:
            return _interruptible(lambda: self._run_async(function.call, attempt, parameters))
        return _interruptible(lambda: function.call(attempt.context, parameters))

    def _run_async(self, function: Callable[..., Any], attempt: "_Attempt", parameters: object) -> object:
        async def main() -> object:
            attempt.task, attempt.loop = asyncio.current_task(), asyncio.get_running_loop()
            if attempt.stopped_by is not None:  # before there was a task to cancel
                raise asyncio.CancelledError
            try:
                return await function(attempt.context, parameters)
            finally:
                attempt.task = None
                others = asyncio.all_tasks() - {asyncio.current_task()}
                for other in others:
                    other.cancel()
                await asyncio.gather(*others, return_exceptions=True)

        attempt.is_async = True
        return self._runner.run(main())

    @staticmethod
    def _flush() -> None:
        for stream in (sys.stdout, sys.stderr):
            with suppress(Exception):  # a task may have closed or replaced it
                stream.flush()


def _interruptible(call: Callable[[], object]) -> object:
    """Return what *call* does; a stop is let through while it runs, and nowhere else."""
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {STOP})
        return call()
    finally:
        _block()


def _block() -> None:
    try:
        signal.pthread_sigmask(signal.SIG_BLOCK, {STOP})
    except Interruption:  # one came in this very moment; it has no effect any more, and the next is blocked
        signal.pthread_sigmask(signal.SIG_BLOCK, {STOP})
        raise


class _BadParameters(BadInput):
    """The parameters do not fit the function: they were stored for another version of it."""


class _Function:
    """The function of a task type, and the type of its parameters."""

    def __init__(self, place: str) -> None:
        module_name, _, name = place.partition(":")
        self.call: Callable[..., Any] = getattr(import_module(module_name), name)
        self.is_async = inspect.iscoroutinefunction(self.call)
        self._decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(_parameters_type(self.call))

    def parameters(self, text: bytes) -> object:
        """Return the parameters of a job. Raises _BadParameters."""
        try:
            return self._decoder.decode(text)
        except msgspec.ValidationError as error:
            raise _BadParameters(str(error)) from error


def _parameters_type(function: Callable[..., Any]) -> Any:
    """Return what the second argument is annotated with; Any, which is decoded JSON, where that cannot be told."""
    try:
        signature = inspect.signature(function, eval_str=True)
    except (NameError, TypeError, ValueError):
        return Any
    annotations = [parameter.annotation for parameter in signature.parameters.values()]
    return annotations[1] if len(annotations) > 1 and annotations[1] is not inspect.Parameter.empty else Any


class _Attempt:
    """One run of a task in this process."""

    def __init__(self, run: Run, work: Frames, *, began_s: float, dsn: str) -> None:
        self.id = run.attempt_id
        self.stopped_by: Ending | None = None
        self.task: asyncio.Task[Any] | None = None
        self.loop: asyncio.AbstractEventLoop | None = None
        self.is_async = False
        self._work = work
        self._reported_s = float("-inf")
        self._reporting = threading.Lock()  # a task may report from threads of its own
        self.context = TaskContext(
            job_id=run.job_id,
            attempt_id=run.attempt_id,
            attempt=run.number,
            failed_attempts=run.failed_attempts,
            type=run.type,
            tenant=run.tenant,
            user_id=run.user_id,
            folder=Path(run.folder),
            deadline_s=began_s + run.soft_limit_s,
            dsn=dsn,
            report=self._report,
            check=self._check,
        )

    def stop(self, kind: Ending) -> None:
        """Stop the task: cancel it where it is `async`, else raise in the middle of it."""
        self.stopped_by = kind
        if self.is_async:
            if self.loop is not None and self.task is not None:
                self.loop.call_soon_threadsafe(self.task.cancel)
            return
        raise _RAISED[kind]

    def _check(self) -> None:
        if self.stopped_by is not None:
            raise _RAISED[self.stopped_by]

    def _report(self, fraction: float | None, message: str | None) -> None:
        shown = None if fraction is None else min(1.0, max(0.0, float(fraction)))
        text = None if message is None else _text(message, MESSAGE_CHARACTERS_MAX)
        # A stop in the middle of a frame would leave half of it on the socket.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {STOP})
        try:
            with self._reporting:
                now_s = monotonic()
                if now_s - self._reported_s < PROGRESS_EVERY_S and shown != 1.0:
                    return
                self._reported_s = now_s
                self._work.write(Progress(attempt_id=self.id, fraction=shown, message=text))
        finally:
            if threading.current_thread() is threading.main_thread():
                signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def ended(self, returned: object) -> Ended:
        """Return the end of a task whose function returned."""
        match returned:
            case Retry():
                return self._failure("Retry", returned.why, after_s=_pause_s(returned.after_s))
            case Snooze():
                return Ended(attempt_id=self.id, ending="snoozed", after_s=_pause_s(returned.after_s))
            case Fail():
                return self._failure("Fail", returned.why, is_final=True)
            case Completed():
                return self._completed(returned)
            case _:
                return self._completed(Completed(result=returned))

    def _completed(self, completed: Completed) -> Ended:
        result, summary = (_encoded(each) for each in (completed.result, completed.summary))
        if len(result) > RESULT_BYTES_MAX or len(summary) > SUMMARY_BYTES_MAX:
            what, size, most = ("result", len(result), RESULT_BYTES_MAX)
            if len(result) <= RESULT_BYTES_MAX:
                what, size, most = "summary", len(summary), SUMMARY_BYTES_MAX
            text = f"a {what} of {size} bytes of JSON; at most {most} are kept"
            return self._failure("ResultTooLarge", text, reason=EndReason.RESULT_TOO_LARGE, is_final=True)
        return Ended(
            attempt_id=self.id,
            ending="completed",
            result=result,
            summary=None if completed.summary is None else summary,
            is_partial=self.stopped_by == "soft_limit",
        )

    def failed(self, error: BaseException) -> Ended:
        """Return the end of a task whose function raised."""
        if isinstance(error, (Interruption, asyncio.CancelledError)) and self.stopped_by is not None:
            return Ended(attempt_id=self.id, ending=self.stopped_by, traceback=_traceback(error))
        kind = EndReason.BAD_PARAMETERS if isinstance(error, _BadParameters) else None
        return self._failure(
            type(error).__name__,
            _text_of(error),
            traceback=_traceback(error),
            reason=kind,
            is_final=isinstance(error, BadInput),
        )

    def _failure(self, error_type: str, text: str, **more: Any) -> Ended:
        return Ended(
            attempt_id=self.id,
            ending="failed",
            error_type=_text(error_type, MESSAGE_CHARACTERS_MAX),
            error=_text(text, ERROR_CHARACTERS_MAX),
            **more,
        )


def _pause_s(asked_s: float) -> float:
    """Return the seconds until the next attempt, within bounds; Postgres keeps no infinite ones."""
    return min(PAUSE_S_MAX, max(0.0, asked_s)) if asked_s == asked_s else 0.0  # noqa: PLR0124  NaN equals nothing


def _encoded(value: object) -> bytes:
    """Return *value* as JSON. Raises TypeError, which fails the task: it is no JSON."""
    try:
        encoded = msgspec.json.encode(value)
    except Exception as error:  # whatever a stranger's object does while it is encoded
        raise TypeError(f"the task returned what is no JSON: {_text_of(error)}") from error
    if holds_nul(encoded):
        raise TypeError("the task returned a text with a NUL character")
    return encoded


def _text(value: object, characters_max: int) -> str:
    text = value if isinstance(value, str) else repr(value)
    return text.replace("\0", "\\0").encode("utf-8", "backslashreplace").decode()[:characters_max]


def _text_of(error: BaseException) -> str:
    try:
        return _text(str(error), ERROR_CHARACTERS_MAX)
    except Exception as second:  # noqa: BLE001  of a stranger's class
        return f"its text cannot be shown: {type(second).__name__}"


def _traceback(error: BaseException) -> str:
    try:
        text = "".join(traceback.format_exception(error))
    except Exception as second:  # noqa: BLE001  of a stranger's class
        return f"no traceback: {type(second).__name__}"
    cut = text if len(text) <= TRACEBACK_CHARACTERS_MAX else "...\n" + text[-TRACEBACK_CHARACTERS_MAX:]
    return _text(cut, TRACEBACK_CHARACTERS_MAX + 4)
