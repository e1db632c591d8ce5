"""Handlers for operators and tools: probes, metrics, the API's description. They need no key."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import msgspec
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Metric, generate_latest

from gateway.http.answers import answer, answer_text
from gateway.http.call import Call
from gateway.http.feature import Shared
from gateway.kafka.identity import LogIdentity
from schemas.process import watched
from schemas.process.telemetry import OF_GROUPS

DOCS = (Path(__file__).parent.parent / "docs.html").read_bytes()
# The page is one file with its script and style; it may load nothing else.
DOCS_POLICY = "default-src 'none'; connect-src 'self'; style-src 'unsafe-inline'; script-src 'unsafe-inline'"


class StoreProbe(Protocol):
    """The port to whether the store answers."""

    async def answers(self) -> bool:
        """Return True if the store answers now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationsParts:
    """The dependencies of the handlers of operations."""

    shared: Shared
    store: StoreProbe
    identity: LogIdentity
    openapi: bytes


class Alive(msgspec.Struct, frozen=True, kw_only=True):
    """The process is alive."""

    alive: bool = True


class Ready(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Readiness: `ready` decides the status code; the other fields show each dependency."""

    ready: bool
    log: bool
    store: bool
    reason: str | None = None  # why the log is not the one that it was
    files: Mapping[str, str] = {}  # settings files that are not in force as they are, and why


async def livez(_parts: OperationsParts, _call: Call) -> web.Response:
    """Report that the event loop responds."""
    return answer(Alive())


async def readyz(parts: OperationsParts, _call: Call) -> web.Response:
    """Report whether events are accepted; the store's state is shown but does not count."""
    log, problem = parts.shared.publisher.ready, parts.identity.problem
    ready = log and problem is None and parts.shared.readiness.accepting
    store = await parts.store.answers()
    body = Ready(ready=ready, log=log, store=store, reason=problem, files=watched.problems())
    return answer(body, status=200 if ready else 503)


async def metrics(parts: OperationsParts, _call: Call) -> web.Response:
    """Return every metric in Prometheus' text format, for operators."""
    return _exposed(parts.shared.telemetry.registry)


async def public_metrics(parts: OperationsParts, _call: Call) -> web.Response:
    """Return the metrics, except those of groups, which name the endpoints of all tenants."""
    return _exposed(_WithoutGroups(parts.shared.telemetry.registry))


async def openapi(parts: OperationsParts, _call: Call) -> web.Response:
    """Return the API's description, OpenAPI 3.1."""
    return answer_text(parts.openapi)


async def docs(_parts: OperationsParts, _call: Call) -> web.Response:
    """Show the description as a page."""
    return web.Response(
        body=DOCS, headers={"Content-Type": "text/html; charset=utf-8", "Content-Security-Policy": DOCS_POLICY}
    )


class _WithoutGroups:
    """A registry as the public may see it."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def collect(self) -> Iterable[Metric]:
        names = {metric.name for metric in OF_GROUPS}
        return (family for family in self._registry.collect() if family.name not in names)


def _exposed(registry: CollectorRegistry | _WithoutGroups) -> web.Response:
    return web.Response(body=generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST})
