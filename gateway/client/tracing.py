"""
A decorator that reports the calls of a function to the run that is open around it.

Calls and results share a `call_id`; a call inside another names it as `parent_call_id`. Reporting never changes what
the function does: arguments that are not JSON are shown as text, long ones are cut, secrets are hidden, and without an
open run nothing is reported.
"""

import functools
import inspect
import logging
import time
import uuid
from collections.abc import Callable, Coroutine, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar, overload

from gateway.client.current import CURRENT_RUN
from gateway.client.run import Run
from gateway.client.shown import shown

WAIT_MARGIN_S = 1.0  # of another thread's event loop, beyond what `Run.event` waits

Params = ParamSpec("Params")
Returned = TypeVar("Returned")

logger = logging.getLogger(__name__)

_CALL: ContextVar[str | None] = ContextVar("tidegate_call", default=None)


@overload
def traced(function: Callable[Params, Returned], /) -> Callable[Params, Returned]: ...


@overload
def traced(
    *, name: str | None = None, arguments: bool = True, result: bool = True
) -> Callable[[Callable[Params, Returned]], Callable[Params, Returned]]: ...


def traced(
    function: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    arguments: bool = True,
    result: bool = True,
) -> Any:
    """
    Report each call of a function, plain or async, as `tool_call`, and its end as `tool_result` or `error`.

        @traced
        async def tide_table(harbour: str) -> list[float]: ...

        @traced(name="search", result=False)
        def find(text: str) -> bytes: ...

    With *arguments* or *result* False, they are not shown. Exceptions are raised again as they are.
    """
    if function is None:
        return functools.partial(_wrap, name=name, arguments=arguments, result=result)
    return _wrap(function, name=name, arguments=arguments, result=result)


def _wrap(function: Callable[..., Any], *, name: str | None, arguments: bool, result: bool) -> Callable[..., Any]:
    if not callable(function):
        raise TypeError(f"{function!r} cannot be called: put @traced below @classmethod or @property, not above it")
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise TypeError(f"{function!r} is a generator function: trace the function that uses what it yields")
    tool = _Tool(
        name=name or str(getattr(function, "__name__", type(function).__name__)),
        signature=_signature(function),
        shows_arguments=arguments,
        shows_result=result,
    )
    if inspect.iscoroutinefunction(function):
        return _wrap_async(function, tool)
    return _wrap_plain(function, tool)


def _wrap_async(function: Callable[..., Coroutine[Any, Any, Any]], tool: "_Tool") -> Callable[..., Any]:
    @functools.wraps(function)
    async def call(*args: Any, **kwargs: Any) -> Any:
        run = CURRENT_RUN.get()
        if run is None:
            return await function(*args, **kwargs)
        reported = tool.begin(args, kwargs)
        await _report(run, "tool_call", reported.call, "agent")
        token = _CALL.set(reported.call_id)
        try:
            returned = await function(*args, **kwargs)
        except BaseException as error:
            _report_nowait(run, "error", reported.failed(error, run), "tool")  # no wait while this is being cancelled
            raise
        finally:
            _CALL.reset(token)
        await _report(run, "tool_result", reported.returned(returned), "tool")
        return returned

    return call


def _wrap_plain(function: Callable[..., Any], tool: "_Tool") -> Callable[..., Any]:
    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        run = CURRENT_RUN.get()
        if run is None:
            return function(*args, **kwargs)
        reported = tool.begin(args, kwargs)
        _report_blocking(run, "tool_call", reported.call, "agent")
        token = _CALL.set(reported.call_id)
        try:
            returned = function(*args, **kwargs)
        except BaseException as error:
            _report_blocking(run, "error", reported.failed(error, run), "tool")
            raise
        finally:
            _CALL.reset(token)
        _report_blocking(run, "tool_result", reported.returned(returned), "tool")
        return returned

    return call


@dataclass(frozen=True, slots=True, kw_only=True)
class _Tool:
    """A function as it is reported."""

    name: str
    signature: inspect.Signature | None
    shows_arguments: bool
    shows_result: bool

    def begin(self, args: tuple[object, ...], kwargs: Mapping[str, object]) -> "_Call":
        call_id = uuid.uuid4().hex
        call: dict[str, object] = {"call_id": call_id, "tool": self.name}
        if (parent := _CALL.get()) is not None:
            call["parent_call_id"] = parent
        if self.shows_arguments:
            call["arguments"] = shown(self._named(args, kwargs))
        return _Call(tool=self, call_id=call_id, call=call, began_s=time.monotonic())

    def _named(self, args: tuple[object, ...], kwargs: Mapping[str, object]) -> dict[str, object]:
        try:
            if self.signature is not None:
                named = dict(self.signature.bind(*args, **kwargs).arguments)
                return {name: value for name, value in named.items() if name not in ("self", "cls")}
        except TypeError:  # the function will say so itself
            pass
        return {"args": list(args), **kwargs}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Call:
    """One call, and the payloads of its events."""

    tool: _Tool
    call_id: str
    call: Mapping[str, object]
    began_s: float

    def returned(self, value: object) -> Mapping[str, object]:
        return self._end({"result": shown(value)} if self.tool.shows_result else {})

    def failed(self, error: BaseException, run: Run) -> Mapping[str, object]:
        return self._end(run.describe(error))

    def _end(self, more: Mapping[str, object]) -> Mapping[str, object]:
        known = {name: value for name, value in self.call.items() if name != "arguments"}
        return {**known, "duration_s": round(time.monotonic() - self.began_s, 6), **more}


async def _report(run: Run, type: str, payload: object, actor: str) -> None:  # noqa: A002
    try:
        await run.event(type, payload, actor=actor)
    except Exception as error:  # noqa: BLE001  # the traced function goes on whatever becomes of its report
        logger.warning("run %s: %s not reported: %s", run.id, type, error)


def _report_blocking(run: Run, type: str, payload: object, actor: str) -> None:  # noqa: A002
    if run.is_in_loop_thread or run.has_room():
        _report_nowait(run, type, payload, actor)
        return
    try:
        run.hand_over(run.event(type, payload, actor=actor)).result(run.event_timeout_s + WAIT_MARGIN_S)
    except Exception as error:  # noqa: BLE001  # as above
        logger.warning("run %s: %s not reported: %s", run.id, type, error)


def _report_nowait(run: Run, type: str, payload: object, actor: str) -> None:  # noqa: A002
    try:
        run.event_nowait(type, payload, actor=actor)
    except Exception as error:  # noqa: BLE001  # as above
        logger.warning("run %s: %s not reported: %s", run.id, type, error)


def _signature(function: Callable[..., Any]) -> inspect.Signature | None:
    try:
        return inspect.signature(function)
    except (TypeError, ValueError):  # of some built-in functions
        return None
