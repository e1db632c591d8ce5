"""`python -m gateway`: read the settings, check the requirements, serve until told to stop."""

import asyncio
import dataclasses
import gc
import os
import signal
import sys
from contextlib import AsyncExitStack
from datetime import UTC, datetime

import structlog
import uvloop
from aiohttp import web

from gateway.app import create_server, features, management
from gateway.body_worker import BODY_TASKS
from gateway.config import Settings
from gateway.documents.pace import DocumentPace
from gateway.documents.postgres import PostgresDocumentStore
from gateway.documents.search.postgres import PostgresSearchStore
from gateway.documents.search.query_vectors import QueryVectors
from gateway.events.postgres import PostgresUserEventStore
from gateway.http.child.process import ParserProcess
from gateway.http.connections import DEADLINES, raise_open_file_limit
from gateway.http.feature import Readiness, Shared
from gateway.http.listening import Listener
from gateway.jobs.parsing.types import types_of
from gateway.jobs.postgres import PostgresJobStore
from gateway.kafka.groups import Groups
from gateway.kafka.identity import LogIdentity
from gateway.kafka.lag import LagMonitor
from gateway.kafka.publisher import ConfluentPublisher
from gateway.kafka.reader import LogReader
from gateway.limits.limits import Limits
from gateway.limits.throttle import Throttle
from gateway.objects.measured import MeasuredStorage
from gateway.objects.uploads import Uploads
from gateway.postgres.pool import PostgresReads
from gateway.runs.live import LiveCursors
from gateway.runs.pages import Pages
from gateway.runs.postgres import PostgresRunStore
from gateway.runs.sequence.sequencer import Sequencer
from gateway.runs.sequence.state_reader import RunStateReader
from gateway.runs.sequence.tail_reader import TailReader
from gateway.startup import TOPICS, CannotStart, check_tables, check_topics, open_objects
from gateway.status.endpoint_states import EndpointStates
from gateway.tokens.jwks import HttpFetch
from gateway.tokens.verifier import TokenVerifier
from schemas.access.credentials import Credentials, CredentialsFile, CredentialsInvalid, FileCredentials
from schemas.catalogue import GROUPS, groups_among
from schemas.documents.embedding.loading import open_embedders
from schemas.documents.telemetry import OF_SEARCH
from schemas.documents.topics import INTAKE as DOCUMENTS_INTAKE
from schemas.events.topics import EVENTS
from schemas.jobs.topics import INTAKE
from schemas.pacing.admission import Admission
from schemas.pacing.presets import PRESETS
from schemas.process.logs import log_as_json
from schemas.process.settings import SettingsInvalid, effective, entries_of, load
from schemas.process.telemetry import OF_GATEWAY, Telemetry
from schemas.runs.topics import PERSISTENCE, RUN_EVENTS

EXIT_CONFIGURATION = 78  # EX_CONFIG of sysexits.h
IN_FLIGHT_WAIT_S = 15.0
GC_ALLOCATIONS = 100_000
MANAGEMENT_CONNECTIONS_MAX = 100

log = structlog.get_logger()


def main() -> int:
    """Serve until SIGTERM or SIGINT; return the exit code."""
    log_as_json("INFO")
    try:
        settings = load(Settings, os.environ)
        log_as_json(settings.log.level)
        uvloop.run(serve(settings))
    except (SettingsInvalid, CredentialsInvalid, CannotStart) as error:
        log.critical("not started", error=str(error))
        return EXIT_CONFIGURATION
    return 0


async def serve(settings: Settings) -> None:
    """
    Serve until told to stop; then end readiness, finish what is in flight, and flush.

    Raises:
        SettingsInvalid, CredentialsInvalid, CannotStart: the text says what to do.
    """
    log.info("starting", **effective(settings))
    told_to_stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, told_to_stop.set)
    connections_max = raise_open_file_limit(settings.api.connections_max)
    if connections_max < settings.api.connections_max:
        log.warning(
            "fewer connections: the limit on open files is too low (ulimit -Hn)", connections_max=connections_max
        )
    credentials = FileCredentials(CredentialsFile(settings.credentials.path))
    telemetry, readiness = Telemetry((*OF_GATEWAY, *OF_SEARCH)), Readiness()
    publisher = ConfluentPublisher(settings.kafka, topic=RUN_EVENTS.name, telemetry=telemetry)
    reads = PostgresReads(settings.postgres)
    store = PostgresRunStore(reads)
    objects = MeasuredStorage(open_objects(settings.objects.location), telemetry)
    types_of(settings.jobs.types.declared)  # imports modules of users: what is wrong with them stops the start
    # Blocks, so on a thread.
    await asyncio.to_thread(check_topics, settings.kafka)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(reads)
        await check_tables(reads)
        await stack.enter_async_context(publisher)
        parser = await stack.enter_async_context(ParserProcess(BODY_TASKS, telemetry))
        log_reader = await stack.enter_async_context(LogReader(settings.kafka))
        groups = Groups(settings.kafka, declared=GROUPS, among=groups_among, clock=_now)
        followers = (await stack.enter_async_context(groups)).followers
        endpoints = (await stack.enter_async_context(EndpointStates(settings.kafka))).states
        live = await stack.enter_async_context(LiveCursors(log=log_reader, persistence=followers[PERSISTENCE.name]))
        identity = await stack.enter_async_context(LogIdentity(TOPICS, log_reader, store))
        tails = await stack.enter_async_context(TailReader(settings.kafka))
        states = await stack.enter_async_context(
            RunStateReader(tails=tails, store=store, follower=followers[PERSISTENCE.name], credentials=credentials)
        )
        uploads = Uploads(objects)
        sequencer = Sequencer(publisher=publisher, states=states, uploads=uploads)
        limits = Limits()
        throttle, user_event_throttle, job_throttle, document_throttle = (
            Throttle(settings.limits, admission=Admission(settings.limits.admission_lag_max), limits=limits)
            for _ in range(4)
        )
        await stack.enter_async_context(
            LagMonitor(
                log=log_reader,
                followers=followers,
                paced={
                    PERSISTENCE: throttle.admission,
                    EVENTS: user_event_throttle.admission,
                    INTAKE: job_throttle.admission,
                    DOCUMENTS_INTAKE: document_throttle.admission,
                },
                telemetry=telemetry,
            )
        )
        tokens = await stack.enter_async_context(
            TokenVerifier(HttpFetch(internal_allowed=settings.tokens.internal_allowed), telemetry)
        )
        tokens.use(credentials())
        documents_store = PostgresDocumentStore(reads)
        document_pace = await stack.enter_async_context(
            DocumentPace(documents_store.work, PRESETS[settings.documents.pace], telemetry=telemetry)
        )
        query_vectors = await stack.enter_async_context(QueryVectors(lambda: open_embedders(settings.embedding)))
        shared = Shared(
            publisher=publisher,
            parser=parser,
            throttle=throttle,
            log=log_reader,
            followers=followers,
            credentials=credentials,
            tokens=tokens,
            clock=_now,
            telemetry=telemetry,
            readiness=readiness,
            deadlines=dataclasses.replace(DEADLINES, idle_s=settings.api.keep_alive_s),
            origins=entries_of(settings.pages.origins),
            tenant_of_anyone=_tenant_of_anyone(settings, credentials()),
        )
        api = features(
            shared,
            store=store,
            sequencer=sequencer,
            pages=Pages(objects),
            live=live,
            identity=identity,
            endpoints=endpoints,
            user_events=PostgresUserEventStore(reads),
            user_event_throttle=user_event_throttle,
            jobs_store=PostgresJobStore(reads),
            job_throttle=job_throttle,
            job_settings=settings.jobs,
            documents_store=documents_store,
            document_throttle=document_throttle,
            document_settings=settings.documents,
            document_pace=document_pace,
            uploads=uploads,
            search_store=PostgresSearchStore(reads),
            query_vectors=query_vectors,
        )
        for served, place, bound in (
            (management(shared, store=store, identity=identity), settings.management, MANAGEMENT_CONNECTIONS_MAX),
            (api, settings.api, connections_max),
        ):
            server = create_server(served, shared, connections_max=bound)
            await _listen(stack, server, place.host, place.port)
        # A request leaves no cycles behind: collect rarely, and never look at what was there before the first one.
        gc.freeze()
        gc.set_threshold(GC_ALLOCATIONS)
        log.info("serving", api=f"http://{settings.api.host}:{settings.api.port}")
        await told_to_stop.wait()
        readiness.accepting = False
        log.info("stopping")
    log.info("stopped")


def _tenant_of_anyone(settings: Settings, credentials: Credentials) -> str | None:
    """Return the tenant of events that come without a key. Raises CannotStart: there is no such tenant."""
    tenant = settings.plain_door.tenant
    if tenant and tenant not in credentials.tenants:
        raise CannotStart(f"TIDEGATE_PLAIN_DOOR_TENANT names {tenant!r}: `tidegate tenants add` makes a tenant")
    return tenant or None


def _now() -> datetime:
    return datetime.now(UTC)


async def _listen(stack: AsyncExitStack, server: web.Server, host: str, port: int) -> None:
    runner = web.ServerRunner(server, shutdown_timeout=IN_FLIGHT_WAIT_S)
    stack.push_async_callback(runner.cleanup)
    await runner.setup()
    try:
        await stack.enter_async_context(Listener(server, host=host, port=port))
    except OSError as error:
        raise CannotStart(f"cannot listen on {host}:{port}: {error.strerror}") from error


if __name__ == "__main__":
    sys.exit(main())
