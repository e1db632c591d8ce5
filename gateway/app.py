"""Composition: an HTTP server made from what it is given."""

from collections.abc import Mapping, Sequence
from importlib.metadata import version

from aiohttp import web, web_response

from gateway.connections import CONNECTIONS_MAX, DEADLINES, IDLE_GRACE_S, Connections, Deadlines
from gateway.context import Clock, Parts, Readiness
from gateway.edge import Edge
from gateway.judging.judge import Judge
from gateway.live import LiveCursors
from gateway.log.followers import GroupFollower
from gateway.log.identity import LogIdentity
from gateway.log.reader import Log
from gateway.objects.pages import Pages
from gateway.openapi import openapi_document
from gateway.publisher import Publisher
from gateway.queries.runs import RunStore
from gateway.receipts.effects import Effects
from gateway.receipts.endpoints import EndpointViews
from gateway.receipts.receipts import Receipts
from gateway.receipts.survey import Survey
from gateway.room import Room
from gateway.route import Route
from gateway.routes import ROUTES
from gateway.sequence.sequencer import Sequencer
from gateway.throttle import Throttle
from schemas.access.credentials import CurrentCredentials
from schemas.process.telemetry import Telemetry
from schemas.runs.records import EndpointState


def create_app(
    *,
    publisher: Publisher,
    judge: Judge,
    sequencer: Sequencer,
    throttle: Throttle,
    store: RunStore,
    pages: Pages,
    log: Log,
    followers: Mapping[str, GroupFollower],
    endpoints: Mapping[str, EndpointState],
    live: LiveCursors,
    identity: LogIdentity,
    credentials: CurrentCredentials,
    clock: Clock,
    telemetry: Telemetry,
    readiness: Readiness,
    routes: Sequence[Route] = ROUTES,
    connections_max: int = CONNECTIONS_MAX,
    deadlines: Deadlines = DEADLINES,
) -> web.Server:
    """The server of *routes*; whoever runs it decides where it listens."""
    views = EndpointViews(endpoints)
    parts = Parts(
        publisher=publisher,
        judge=judge,
        sequencer=sequencer,
        throttle=throttle,
        store=store,
        pages=pages,
        receipts=Receipts(
            log=log,
            effects=Effects(log=log, store=store, credentials=credentials, endpoints=views),
            endpoints=views,
            followers=followers,
            clock=clock,
        ),
        survey=Survey(
            log=log,
            followers=followers,
            endpoints=views,
            publisher=publisher,
            admission=throttle.admission,
            clock=clock,
        ),
        followers=followers,
        endpoints=views,
        live=live,
        identity=identity,
        log=log,
        credentials=credentials,
        clock=clock,
        telemetry=telemetry,
        readiness=readiness,
        deadlines=deadlines,
        room=Room(),
        openapi=openapi_document(ROUTES, version=version("tidegate")),
    )
    # Answers tell no versions, those that aiohttp gives to malformed requests included.
    web_response.SERVER_SOFTWARE = "tidegate"  # type: ignore[attr-defined]  # it names no other way
    return Connections(
        Edge(routes, parts),
        deadlines=deadlines,
        connections_max=connections_max,
        telemetry=telemetry,
        access_log=None,
        auto_decompress=False,  # aiohttp would inflate without a bound, on the event loop
        keepalive_timeout=deadlines.idle_s + IDLE_GRACE_S,
        lingering_time=deadlines.linger_s,
    )
