"""Composition: an HTTP server made from what it is given."""

from collections.abc import Callable, Sequence
from importlib.metadata import version

from aiohttp import web, web_response

from gateway.context import Clock, Parts, Readiness
from gateway.edge import Edge
from gateway.openapi import openapi_document
from gateway.publisher import Publisher
from gateway.queries.runs import RunStore
from gateway.routes import ROUTES, Route
from schemas.credentials import Credentials
from schemas.telemetry import Telemetry

KEEPALIVE_S = 30.0  # aiohttp's default is an hour


def create_app(
    *,
    publisher: Publisher,
    store: RunStore,
    credentials: Callable[[], Credentials],
    clock: Clock,
    telemetry: Telemetry,
    readiness: Readiness,
    routes: Sequence[Route] = ROUTES,
) -> web.Server:
    """The server of *routes*; whoever runs it decides where it listens."""
    parts = Parts(
        publisher=publisher,
        store=store,
        credentials=credentials,
        clock=clock,
        telemetry=telemetry,
        readiness=readiness,
        openapi=openapi_document(ROUTES, version=version("tidegate")),
    )
    # Answers tell no versions, those that aiohttp gives to malformed requests included.
    web_response.SERVER_SOFTWARE = "tidegate"  # type: ignore[attr-defined]  # it names no other way
    return web.Server(
        Edge(routes, parts),
        access_log=None,
        auto_decompress=False,  # aiohttp would inflate without a bound, on the event loop
        keepalive_timeout=KEEPALIVE_S,
    )
