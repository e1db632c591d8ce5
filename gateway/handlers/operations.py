"""What operators and tools ask: probes, metrics, the API's description. No key is needed."""

from pathlib import Path

import msgspec
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from gateway.context import Call
from gateway.handlers.answers import answer, answer_text

DOCS = (Path(__file__).parent.parent / "docs.html").read_bytes()
# The page is one file with its script and style; it may load nothing else.
DOCS_POLICY = "default-src 'none'; connect-src 'self'; style-src 'unsafe-inline'; script-src 'unsafe-inline'"


class Alive(msgspec.Struct, frozen=True, kw_only=True):
    """The process turns."""

    alive: bool = True


class Ready(msgspec.Struct, frozen=True, kw_only=True):
    """Whether events are taken now (`ready`, also the status), and what of it is there."""

    ready: bool
    log: bool
    store: bool


async def livez(_call: Call) -> web.Response:
    """Say that the event loop turns."""
    return answer(Alive())


async def readyz(call: Call) -> web.Response:
    """Say whether events are taken; the store's state is told but does not count."""
    log = call.parts.publisher.ready
    ready = log and call.parts.readiness.accepting
    return answer(Ready(ready=ready, log=log, store=call.parts.store.available), status=200 if ready else 503)


async def metrics(call: Call) -> web.Response:
    """Every metric in Prometheus' text format."""
    body = generate_latest(call.parts.telemetry.registry)
    return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})


async def openapi(call: Call) -> web.Response:
    """The API's description, OpenAPI 3.1."""
    return answer_text(call.parts.openapi)


async def docs(_call: Call) -> web.Response:
    """A page that shows the description."""
    return web.Response(
        body=DOCS, headers={"Content-Type": "text/html; charset=utf-8", "Content-Security-Policy": DOCS_POLICY}
    )
