"""Composition: the features of the API, and an HTTP server made from them."""

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

from aiohttp import web, web_response

from gateway.documents import routes as documents
from gateway.documents.effects import effect_finders as effects_of_documents
from gateway.documents.facts import FACT_READERS as FACTS_OF_DOCUMENTS
from gateway.documents.pace import DocumentPace
from gateway.documents.parts import document_parts
from gateway.documents.search.legs import SearchStore
from gateway.documents.search.search import Searches, Vectors
from gateway.documents.settings import DocumentSettings
from gateway.documents.store import DocumentStore
from gateway.events import routes as events
from gateway.events.effects import effect_finders as effects_of_user_events
from gateway.events.facts import FACT_READERS as FACTS_OF_USER_EVENTS
from gateway.events.intake import Intake
from gateway.events.memory import AcceptedEvents
from gateway.events.parts import UserEventParts
from gateway.events.store import UserEventStore
from gateway.http.connections import CONNECTIONS_MAX, IDLE_GRACE_S, Connections
from gateway.http.edge import Edge
from gateway.http.feature import Feature, Shared
from gateway.http.openapi import openapi_document
from gateway.http.routes import Chapter, Route
from gateway.http.waiting import Waiting
from gateway.jobs import routes as jobs
from gateway.jobs.effects import effect_finders as effects_of_jobs
from gateway.jobs.facts import FACT_READERS as FACTS_OF_JOBS
from gateway.jobs.parts import job_parts
from gateway.jobs.settings import JobSettings
from gateway.jobs.store import JobStore
from gateway.kafka.identity import LogIdentity
from gateway.limits.throttle import Throttle
from gateway.objects.uploads import Uploads
from gateway.operations import routes as operations
from gateway.operations.handlers import OperationsParts
from gateway.registry import routes as registry
from gateway.runs import routes as runs
from gateway.runs.effects import effect_finders
from gateway.runs.facts import FACT_READERS
from gateway.runs.live import LiveCursors
from gateway.runs.pages import Pages
from gateway.runs.parts import RunParts
from gateway.runs.sequence.sequencer import Sequencer
from gateway.runs.store import RunStore
from gateway.status import routes as status
from gateway.status.effects import Effects
from gateway.status.endpoints import EndpointViews
from gateway.status.monitor import StatusMonitor
from gateway.status.parts import StatusParts
from gateway.status.receipts import Receipts
from schemas.runs.records import EndpointState

CHAPTERS: tuple[Chapter[Any], ...] = (
    runs.CHAPTER,
    events.CHAPTER,
    jobs.CHAPTER,
    documents.CHAPTER,
    status.CHAPTER,
    registry.CHAPTER,
    operations.CHAPTER,
)
ROUTES: tuple[Route[Any], ...] = tuple(route for chapter in CHAPTERS for route in chapter.routes)
"""Every route of the API."""


def features(
    shared: Shared,
    *,
    store: RunStore,
    sequencer: Sequencer,
    pages: Pages,
    live: LiveCursors,
    identity: LogIdentity,
    endpoints: Mapping[str, EndpointState],
    user_events: UserEventStore,
    user_event_throttle: Throttle,
    jobs_store: JobStore,
    job_throttle: Throttle,
    job_settings: JobSettings,
    documents_store: DocumentStore,
    document_throttle: Throttle,
    document_settings: DocumentSettings,
    document_pace: DocumentPace,
    uploads: Uploads,
    search_store: SearchStore,
    query_vectors: Vectors,
) -> tuple[Feature[Any], ...]:
    """Return the features of the API."""
    views = EndpointViews(endpoints)
    waiting = Waiting(
        shared.followers,
        log=shared.log,
        is_seen=views.is_seen,
    )
    facts = {**FACT_READERS, **FACTS_OF_USER_EVENTS, **FACTS_OF_JOBS, **FACTS_OF_DOCUMENTS}
    receipts = Receipts(
        log=shared.log,
        effects=Effects(
            log=shared.log,
            finders={
                **effect_finders(store, views, shared.credentials),
                **effects_of_user_events(user_events),
                **effects_of_jobs(jobs_store),
                **effects_of_documents(documents_store),
            },
            facts=facts,
        ),
        facts=facts,
        endpoints=views,
        followers=shared.followers,
        clock=shared.clock,
    )
    monitor = StatusMonitor(
        log=shared.log,
        followers=shared.followers,
        endpoints=views,
        publisher=shared.publisher,
        admission=shared.throttle.admission,
        clock=shared.clock,
    )
    accepted = AcceptedEvents()
    return (
        Feature(
            routes=runs.ROUTES,
            parts=RunParts(shared=shared, sequencer=sequencer, store=store, pages=pages, live=live, waiting=waiting),
        ),
        Feature(
            routes=events.ROUTES,
            parts=UserEventParts(
                shared=shared,
                intake=Intake(publisher=shared.publisher, throttle=user_event_throttle, accepted=accepted),
                accepted=accepted,
                store=user_events,
                waiting=waiting,
            ),
        ),
        Feature(
            routes=jobs.ROUTES,
            parts=job_parts(shared, store=jobs_store, throttle=job_throttle, waiting=waiting, settings=job_settings),
        ),
        Feature(
            routes=documents.ROUTES,
            parts=document_parts(
                shared,
                store=documents_store,
                throttle=document_throttle,
                uploads=uploads,
                searches=Searches(
                    search_store, query_vectors, shared.telemetry, searches_max=document_settings.searches_max
                ),
                pace=document_pace,
                settings=document_settings,
            ),
        ),
        Feature(routes=status.ROUTES, parts=StatusParts(receipts=receipts, monitor=monitor)),
        Feature(routes=registry.ROUTES, parts=None),
        Feature(routes=operations.ROUTES, parts=_operations(shared, store, identity)),
    )


def management(shared: Shared, *, store: RunStore, identity: LogIdentity) -> tuple[Feature[Any], ...]:
    """Return what is served on the management port."""
    return (Feature(routes=operations.MANAGEMENT, parts=_operations(shared, store, identity)),)


def _operations(shared: Shared, store: RunStore, identity: LogIdentity) -> OperationsParts:
    document = openapi_document(CHAPTERS, version=version("tidegate"))
    return OperationsParts(shared=shared, store=store, identity=identity, openapi=document)


def create_server(
    features: Sequence[Feature[Any]], shared: Shared, *, connections_max: int = CONNECTIONS_MAX
) -> web.Server:
    """Return the server of *features*; whoever runs it decides where it listens."""
    # Answers tell no versions, those that aiohttp gives to malformed requests included.
    web_response.SERVER_SOFTWARE = "tidegate"  # type: ignore[attr-defined]  # it names no other way
    deadlines = shared.deadlines
    return Connections(
        Edge(features, shared),
        deadlines=deadlines,
        connections_max=connections_max,
        telemetry=shared.telemetry,
        access_log=None,
        auto_decompress=False,  # aiohttp would inflate without a bound, on the event loop
        keepalive_timeout=deadlines.idle_s + IDLE_GRACE_S,
        lingering_time=deadlines.linger_s,
    )
