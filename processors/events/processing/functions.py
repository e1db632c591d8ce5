"""The functions that process events: found by name, and called within their limits."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from importlib import import_module
from typing import Any

import msgspec

from schemas.events.records import UserEvent
from schemas.process.settings import SettingsInvalid
from schemas.texts import holds_nul

RESULT_BYTES_MAX = 64 * 1024
ERROR_CHARACTERS_MAX = 4000


@dataclass(frozen=True, slots=True, kw_only=True)
class IncomingEvent:
    """
    An event as a function is given it.

    A function may be called more than once for one event; tenant, source, user_id and event_id tell that it is the
    same. `payload` and `context` are decoded JSON.
    """

    tenant: str
    event_id: str
    source: str
    user_id: str | None
    anonymous_id: str | None
    session_id: str | None
    run_id: str | None
    type: str
    name: str | None
    occurred_at: str | None
    received_at: datetime
    payload: Any
    context: Any
    attempt: int  # from 1


Function = Callable[[IncomingEvent], Awaitable[Mapping[str, Any] | None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class CallFailed(Exception):
    """A call that did not do its work: which error, and what it says."""

    error_class: str
    text: str


def find(functions: Mapping[str, str]) -> Mapping[str, Function]:
    """
    Return the functions by type of event.

    Raises:
        SettingsInvalid: a module cannot be imported, or has no such async function; says which.
    """
    return {name: _find(name, place) for name, place in functions.items()}


def _find(name: str, place: str) -> Function:
    module_name, _, function_name = place.partition(":")
    try:
        found: Any = getattr(import_module(module_name), function_name)
    except Exception as error:  # whatever a user's module does while it is imported
        raise SettingsInvalid(f"the function of type {name}, {place}, cannot be imported: {error!r}") from error
    if not inspect.iscoroutinefunction(found):
        raise SettingsInvalid(f"the function of type {name}, {place}, is not an `async def`")
    return found  # type: ignore[no-any-return]  # an async function, as was just seen


def incoming(event: UserEvent, *, received_at: datetime, attempt: int) -> IncomingEvent:
    """Return *event* as a function is given it."""
    return IncomingEvent(
        tenant=event.tenant,
        event_id=event.event_id,
        source=event.source,
        user_id=event.user_id,
        anonymous_id=event.anonymous_id,
        session_id=event.session_id,
        run_id=event.run_id,
        type=event.type,
        name=event.name,
        occurred_at=event.occurred_at,
        received_at=received_at,
        payload=msgspec.json.decode(event.payload),
        context=None if event.context is None else msgspec.json.decode(event.context),
        attempt=attempt,
    )


async def call(function: Function, event: IncomingEvent, *, soft_limit_s: float, hard_limit_s: float) -> bytes | None:
    """
    Return what *function* returns for *event*, as JSON; None if that is nothing.

    After *soft_limit_s* it is cancelled; one that goes on until *hard_limit_s* is left to itself.

    Raises:
        CallFailed: it raised, was too slow, or returned what cannot be kept.
    """
    task = asyncio.ensure_future(_guarded(function, event))
    try:
        await asyncio.wait({task}, timeout=soft_limit_s)
        if not task.done():
            task.cancel()
            await asyncio.wait({task}, timeout=max(0.0, hard_limit_s - soft_limit_s))
            raise CallFailed(
                error_class="TimeoutError",
                text=f"not done within {soft_limit_s:g} s"
                + ("" if task.done() else ", and it goes on though cancelled"),
            )
    finally:
        task.cancel()  # this call itself was cancelled: the process ends, and the event comes again
    return _result(task)


async def _guarded(function: Function, event: IncomingEvent) -> Mapping[str, Any] | None:
    try:
        return await function(event)
    except SystemExit as ending:  # it would end this process, and every other call with it
        raise RuntimeError(f"the function called sys.exit({ending.code!r})") from ending


def _result(task: "asyncio.Future[Any]") -> bytes | None:
    if task.cancelled():
        raise CallFailed(error_class="CancelledError", text="the function cancelled itself")
    if (error := task.exception()) is not None:
        raise CallFailed(error_class=type(error).__name__, text=_text(error)) from error
    returned = task.result()
    if returned is None:
        return None
    if not isinstance(returned, Mapping):
        raise CallFailed(error_class="TypeError", text=f"returned {type(returned).__name__}, and not a dict or None")
    try:
        encoded = msgspec.json.encode(dict(returned))
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise CallFailed(error_class="TypeError", text=f"returned what is no JSON: {error}") from error
    if len(encoded) > RESULT_BYTES_MAX:
        raise CallFailed(error_class="ValueError", text=f"returned more than {RESULT_BYTES_MAX} bytes of JSON")
    if holds_nul(encoded):
        raise CallFailed(error_class="ValueError", text="returned a text with a NUL character")
    return encoded


def _text(error: BaseException) -> str:
    try:
        text = str(error)
    except Exception as second:  # noqa: BLE001  of a stranger's class
        text = f"its text cannot be shown: {type(second).__name__}"
    return text.replace("\0", "\\0").encode("utf-8", "backslashreplace").decode()[:ERROR_CHARACTERS_MAX]
