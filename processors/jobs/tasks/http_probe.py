"""The task `http_probe`: one request to an address that the executor's settings name, measured."""

import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from time import monotonic
from types import SimpleNamespace
from typing import Any

import aiohttp
from yarl import URL

from processors.jobs.context import BadInput, TaskContext
from schemas.jobs.builtin import ProbeParameters
from schemas.process.settings import entries_of, load, setting

BODY_BYTES_MAX = 1024 * 1024  # more of an answer is not read
CHUNK_BYTES = 64 * 1024
OK_FIRST, OK_LAST = 200, 399


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeSettings:
    """The addresses that may be asked."""

    targets: str | None = setting(
        "TIDEGATE_PROBE_TARGETS", None, help="Addresses that http_probe may ask: name=url, comma separated"
    )


class ProbeFailed(Exception):
    """There was no answer, or not the one that was expected; the next attempt may meet another."""


class _Answer(aiohttp.ClientResponse):
    """An answer that knows its server's certificate: the connection may be given back before anybody can ask it."""

    certificate: Mapping[str, Any] | None = None

    async def start(self, connection: Any) -> aiohttp.ClientResponse:
        """Keep the certificate of *connection*, and read the head of the answer."""
        secured: ssl.SSLObject | None = connection.transport.get_extra_info("ssl_object")
        self.certificate = None if secured is None else secured.getpeercert()
        return await super().start(connection)


@dataclass(slots=True)
class _Times:
    """Moments of a request, by `time.monotonic`."""

    began_s: float = field(default_factory=monotonic)
    connecting_s: float | None = None
    connected_s: float | None = None


async def run(context: TaskContext, parameters: ProbeParameters) -> dict[str, Any]:
    """Ask the target; return the status, times in milliseconds, bytes read, and when its certificate ends."""
    target = _target(load(ProbeSettings, os.environ), parameters.target)
    context.progress(None, f"asking {parameters.target}")
    try:
        found = await _ask(target, timeout_s=parameters.timeout_s)
    except TimeoutError as error:
        raise ProbeFailed(f"{parameters.target}: no whole answer within {parameters.timeout_s:g} s") from error
    except (aiohttp.ClientError, OSError) as error:
        raise ProbeFailed(f"{parameters.target}: {type(error).__name__}: {error}") from error
    if parameters.expect_status is None:
        is_ok = OK_FIRST <= found["status"] <= OK_LAST
    elif found["status"] == parameters.expect_status:
        is_ok = True
    else:
        raise ProbeFailed(f"{parameters.target}: status {found['status']}, expected {parameters.expect_status}")
    return {"target": parameters.target, "ok": is_ok, **found}


def _target(settings: ProbeSettings, name: str) -> URL:
    targets = _targets(settings)
    if name not in targets:
        known = ", ".join(sorted(targets)) or "none"
        raise BadInput(f"no target is called {name!r}; TIDEGATE_PROBE_TARGETS of this executor has: {known}")
    url = URL(targets[name])
    if url.scheme not in ("http", "https") or not url.host:
        raise ProbeFailed(f"TIDEGATE_PROBE_TARGETS: the address of {name} must be an http or https URL")
    return url


def _targets(settings: ProbeSettings) -> Mapping[str, str]:
    pairs = (entry.partition("=") for entry in entries_of(settings.targets))
    return {name.strip(): url.strip() for name, _, url in pairs}


async def _ask(url: URL, *, timeout_s: float) -> dict[str, Any]:
    times = _Times()
    # `total` bounds everything from name resolution to the last byte, however slowly bytes come.
    async with (
        aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=timeout_s),
            trace_configs=[_connection_trace(times)],
            response_class=_Answer,
            auto_decompress=False,
        ) as session,
        session.get(url, allow_redirects=False, ssl=_trust(url)) as answer,
    ):
        count, is_whole = await _read(answer)
        ended_s = monotonic()
        return {
            "status": answer.status,
            "duration_ms": _ms(ended_s - times.began_s),
            "connect_ms": _connect_ms(times),
            "bytes": count,
            "is_whole": is_whole,
            "certificate_expires_at": _expires_at(answer),
        }


def _trust(url: URL) -> ssl.SSLContext | bool:
    """Return the authorities of this machine, as they are now."""
    return ssl.create_default_context() if url.scheme == "https" else True


def _connection_trace(times: _Times) -> aiohttp.TraceConfig:
    async def connecting(_session: aiohttp.ClientSession, _context: SimpleNamespace, _of: object) -> None:
        times.connecting_s = monotonic()

    async def connected(_session: aiohttp.ClientSession, _context: SimpleNamespace, _of: object) -> None:
        times.connected_s = monotonic()

    trace = aiohttp.TraceConfig()
    trace.on_connection_create_start.append(connecting)
    trace.on_connection_create_end.append(connected)
    return trace


async def _read(answer: aiohttp.ClientResponse) -> tuple[int, bool]:
    """Return how many bytes of the body were read, and True if those are all."""
    count = 0
    async for chunk in answer.content.iter_chunked(CHUNK_BYTES):
        count += len(chunk)
        if count > BODY_BYTES_MAX:
            return BODY_BYTES_MAX, False
    return count, True


def _connect_ms(times: _Times) -> float | None:
    if times.connecting_s is None or times.connected_s is None:
        return None
    return _ms(times.connected_s - times.connecting_s)


def _expires_at(answer: aiohttp.ClientResponse) -> datetime | None:
    """Return when the certificate of an https server ends; None for http."""
    if not isinstance(answer, _Answer) or not answer.certificate:
        return None
    return datetime.fromtimestamp(ssl.cert_time_to_seconds(str(answer.certificate["notAfter"])), UTC)


def _ms(duration_s: float) -> float:
    return round(duration_s * 1000, 3)
