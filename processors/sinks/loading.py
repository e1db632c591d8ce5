"""The sink that a deployment has asked for: one of ours, or a class of its own."""

import asyncio
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from importlib import import_module
from time import time
from typing import Any

import structlog

from processors.outbound.sending import Poster
from processors.sinks.contract import Sink
from processors.sinks.guarding import text_of
from processors.sinks.kinds.http import HttpWriter
from processors.sinks.kinds.jsonl import JsonlWriter
from processors.sinks.kinds.postgres import PostgresWriter
from schemas.outbound.addresses import url_fault
from schemas.outbound.connector import connector
from schemas.process.settings import SettingsInvalid
from schemas.sinks.sinks_file import AnySink, ClassSink, HttpSink, JsonlSink, PostgresSink

OPEN_S = 30.0
CLOSE_S = 3.0
_METHODS = ("open", "write", "close")

log = structlog.get_logger()


async def opened(name: str, in_force: Callable[[], AnySink], *, internal_allowed: bool) -> Sink:
    """
    Return the sink *name*, opened.

    Raises:
        SettingsInvalid: it cannot be opened; says why.
    """
    settings = in_force()
    try:
        sink = _sink(settings, in_force, internal_allowed=internal_allowed)
        async with asyncio.timeout(OPEN_S):
            await sink.open(settings.settings if isinstance(settings, ClassSink) else {})
    except SettingsInvalid as error:
        raise SettingsInvalid(f"sink {name}: {error}") from error
    except (Exception, SystemExit) as error:  # whatever a stranger's class does
        raise SettingsInvalid(f"sink {name} cannot be opened: {text_of(error)}") from error
    return sink


async def close(sink: Sink) -> None:
    """Close *sink*; what goes wrong is logged, and nothing is lost by it."""
    try:
        async with asyncio.timeout(CLOSE_S):
            await sink.close()
    except (Exception, SystemExit) as error:  # noqa: BLE001  whatever a stranger's class does
        log.warning("sink not closed", error=text_of(error))


def _sink(settings: AnySink, in_force: Callable[[], AnySink], *, internal_allowed: bool) -> Sink:
    match settings:
        case HttpSink():
            return _http(settings, in_force, internal_allowed=internal_allowed)
        case JsonlSink():
            return JsonlWriter(settings, clock_s=time)
        case PostgresSink():
            return PostgresWriter(settings)
        case ClassSink():
            return _of_class(settings.name)


def _http(first: HttpSink, in_force: Callable[[], AnySink], *, internal_allowed: bool) -> HttpWriter:
    if fault := url_fault(first.url, internal_allowed=internal_allowed):
        raise SettingsInvalid(f"its URL cannot be sent to: {fault}")
    last = first

    def newest() -> HttpSink:
        nonlocal last
        found = in_force()
        last = found if isinstance(found, HttpSink) else last  # of another kind only after a restart
        return last

    return HttpWriter(
        newest,
        poster=Poster(
            connector(internal_allowed=internal_allowed),
            internal_allowed=internal_allowed,
            clock=lambda: datetime.now(UTC),
        ),
        clock=lambda: datetime.now(UTC),
    )


def _of_class(name: str) -> Sink:
    module, _, attribute = name.partition(":")
    found: Any = getattr(import_module(module), attribute, None)
    if found is None:
        raise SettingsInvalid(f"module {module} has no {attribute}")
    made = found()
    if missing := [method for method in _METHODS if not callable(getattr(made, method, None))]:
        raise SettingsInvalid(f"class {name} has no method {', '.join(missing)}")
    sink: Sink = made
    return sink


def in_force_of(name: str, sinks: Callable[[], Mapping[str, AnySink]]) -> Callable[[], AnySink]:
    """
    Return the settings of the sink *name* as its file has them now; one that is taken out stays as it was last.

    Raises:
        SettingsInvalid: there is no such sink.
    """
    first = sinks().get(name)
    if first is None:
        raise SettingsInvalid(f"there is no sink {name}; see TIDEGATE_SINKS")
    last = first

    def in_force() -> AnySink:
        nonlocal last
        last = sinks().get(name) or last
        return last

    return in_force
