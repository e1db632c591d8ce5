"""A gateway on a free port, with fakes behind it."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from aiohttp import ClientSession, web

from gateway.app import create_server, features
from gateway.documents.pace import DocumentPace
from gateway.documents.settings import DocumentSettings
from gateway.http.bodies import Body
from gateway.http.child.parsing import BodyParser, ThreadParser, parse_body
from gateway.http.connections import CONNECTIONS_MAX, DEADLINES, Deadlines
from gateway.http.feature import Readiness, Shared
from gateway.jobs.settings import JobSettings
from gateway.kafka.followers import GroupFollower
from gateway.kafka.identity import LogIdentity
from gateway.kafka.reader import Edges
from gateway.limits.throttle import LimitSettings, Throttle
from gateway.objects.measured import MeasuredStorage
from gateway.objects.uploads import Uploads
from gateway.runs.live import LiveCursors
from gateway.runs.pages import Pages
from gateway.runs.sequence.sequencer import Sequencer
from gateway.runs.sequence.state_reader import RunStateReader
from gateway.tokens.verifier import TokenVerifier
from schemas.access.credentials import ApiKey, Credentials, Right, Tenant, new_key
from schemas.documents.telemetry import OF_SEARCH
from schemas.documents.topics import DOCUMENT_COMMANDS
from schemas.documents.topics import INTAKE as DOCUMENTS_INTAKE
from schemas.jobs.topics import INTAKE, JOB_COMMANDS
from schemas.pacing.admission import Admission
from schemas.pacing.presets import PRESETS
from schemas.process.telemetry import OF_GATEWAY, Telemetry
from schemas.runs.topics import PERSISTENCE
from schemas.runs.views import EventView, RunView
from tests.support import builders
from tests.support.document_fakes import MemoryDocumentStore, MemorySearchStore, MemoryVectors
from tests.support.fakes import (
    InForce,
    MemoryCommitted,
    MemoryJobStore,
    MemoryJwks,
    MemoryLog,
    MemoryObjects,
    MemoryRunStore,
    MemoryTails,
    MemoryUserEventStore,
    RecordingPublisher,
)

NOW = datetime(2025, 12, 5, 10, 0, 0, 123000, UTC)


@dataclass(slots=True)
class Clock:
    """A clock that the test turns."""

    now_s: float = 0.0

    def __call__(self) -> float:
        return self.now_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """The gateway under test, what stands behind it, and the keys to it."""

    client: ClientSession
    port: int
    publisher: RecordingPublisher
    store: MemoryRunStore
    objects: MemoryObjects
    log: MemoryLog
    tails: MemoryTails
    throttle: Throttle
    credentials: InForce
    committed: MemoryCommitted
    identity: LogIdentity
    telemetry: Telemetry
    readiness: Readiness
    keys: dict[str, str]
    user_events: MemoryUserEventStore
    jobs: MemoryJobStore
    stored_commands: MemoryCommitted  # by jobs.intake
    job_throttle: Throttle
    jwks: MemoryJwks
    documents: MemoryDocumentStore
    document_commands: MemoryCommitted  # by documents.intake
    document_throttle: Throttle
    document_pace: DocumentPace
    document_clock: Clock
    searched: MemorySearchStore
    vectors: MemoryVectors

    def headers(self, key: str = "all", **more: str) -> dict[str, str]:
        """Headers that show the key called *key*."""
        return {"X-API-Key": self.keys[key], **more}


def _keys() -> tuple[dict[str, str], dict[str, ApiKey]]:
    shown, kept = {}, {}
    for name, tenant, rights, agents in (
        ("all", builders.TENANT, list(Right), None),
        ("writer", builders.TENANT, [Right.INGEST], None),
        ("reader", builders.TENANT, [Right.READ], None),
        ("worker", builders.TENANT, [Right.INGEST, Right.READ], None),
        ("documents", builders.TENANT, [Right.DOCUMENTS_READ], None),
        ("embedding", builders.TENANT, [Right.DOCUMENTS_WRITE], None),
        ("plain-only", builders.TENANT, list(Right), ["plain-agent"]),
        ("stranger", "other", list(Right), None),
    ):
        key_id, shown[name], kept_key = new_key(tenant=tenant, rights=rights, agents=agents, now=NOW)
        kept[key_id] = kept_key
    return shown, kept


@asynccontextmanager
async def connected(served: Served) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Yield a connection of the test's own."""
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
    try:
        yield reader, writer
    finally:
        writer.close()


@dataclass(frozen=True, slots=True)
class Applied:
    """A task of a test's own: the result is what *call* makes of the text."""

    body: Body
    call: Callable[[bytes], Any]

    def result(self, text: bytes, _credentials: Credentials) -> Any:
        return self.call(text)


async def made_of(body: Body, call: Callable[[bytes], Any], *, parser: BodyParser | None = None) -> Any:
    """Return what *call* makes of *body*, where the gateway would parse it."""
    return await parse_body(Applied(body, call), builders.credentials(), parser=parser or ThreadParser())


def event_view(seq: int, *, payload: str = "null", payload_ref: str = "null", meta: str = "{}") -> EventView:
    """Return a stored event."""
    return EventView(
        seq=seq,
        t="2025-12-05T10:00:00Z",
        actor="agent",
        type="reasoning",
        agent_id="plain-agent",
        payload=msgspec.Raw(payload),
        payload_ref=msgspec.Raw(payload_ref),
        meta=msgspec.Raw(meta),
        event_sha256="00",
        wal_id=f"run.events/0/{seq}",
        received_at=NOW,
        stored_at=NOW,
    )


def run_view(run_id: str = builders.RUN, *, started_at: datetime = NOW) -> RunView:
    """Return a stored run of one event."""
    return RunView(
        run_id=run_id,
        agent_id="plain-agent",
        status="open",
        event_count=1,
        last_seq=1,
        declared_event_count=None,
        started_at=started_at,
        updated_at=NOW,
        finalized_at=None,
    )


@pytest.fixture
def deadlines() -> Deadlines:
    """Return how long clients may take; a test module may have its own."""
    return DEADLINES


@pytest.fixture
def connections_max() -> int:
    """Return how many connections may be open; a test may have its own."""
    return CONNECTIONS_MAX


@pytest.fixture
def origins() -> Sequence[str]:
    """Return the origins whose web pages may call; a test may have its own."""
    return ()


@pytest.fixture
def job_settings() -> JobSettings:
    """Return the settings of jobs; a test may have its own."""
    return JobSettings()


@pytest.fixture
def document_settings() -> DocumentSettings:
    """Return the settings of documents; a test may have its own."""
    return DocumentSettings()


@pytest.fixture
async def served(
    deadlines: Deadlines,
    connections_max: int,
    origins: Sequence[str],
    job_settings: JobSettings,
    document_settings: DocumentSettings,
) -> AsyncIterator[Served]:
    """Yield a gateway that answers on a free port."""
    shown, kept = _keys()
    base = builders.credentials()
    credentials = InForce(msgspec.structs.replace(base, keys=kept, tenants={**base.tenants, "other": Tenant()}))
    publisher, store, telemetry = (
        RecordingPublisher(),
        MemoryRunStore(builders.TENANT),
        Telemetry((*OF_GATEWAY, *OF_SEARCH)),
    )
    user_events, fetch = MemoryUserEventStore(builders.TENANT), MemoryJwks()
    readiness, log, committed = Readiness(), MemoryLog(), MemoryCommitted({0: 0})
    follower = GroupFollower(PERSISTENCE, committed, clock=lambda: NOW)
    jobs, stored_commands = MemoryJobStore(), MemoryCommitted({0: 0}, topic=JOB_COMMANDS.name)
    intake = GroupFollower(INTAKE, stored_commands, clock=lambda: NOW)
    job_throttle = Throttle(LimitSettings(), admission=Admission())
    documents, document_commands = MemoryDocumentStore(), MemoryCommitted({0: 0}, topic=DOCUMENT_COMMANDS.name)
    documents_intake = GroupFollower(DOCUMENTS_INTAKE, document_commands, clock=lambda: NOW)
    document_throttle = Throttle(LimitSettings(), admission=Admission())
    document_clock = Clock()
    document_pace = DocumentPace(
        documents.work, PRESETS[document_settings.pace], telemetry=telemetry, clock_s=document_clock
    )
    searched, vectors = MemorySearchStore(), MemoryVectors()
    tails, objects = MemoryTails(publisher.log), MemoryObjects()
    storage = MeasuredStorage(objects, telemetry)
    states = RunStateReader(tails=tails, store=store, follower=follower, credentials=credentials)
    throttle = Throttle(LimitSettings(), admission=Admission())
    live = LiveCursors(log=MemoryLog(edges_of=Edges(first=0, end=9)), persistence=follower)
    identity = LogIdentity(["run.events"], log, store)
    shared = Shared(
        publisher=publisher,
        parser=ThreadParser(),
        throttle=throttle,
        log=log,
        followers={"persistence": follower, INTAKE.name: intake, DOCUMENTS_INTAKE.name: documents_intake},
        credentials=credentials,
        tokens=TokenVerifier(fetch, telemetry),
        clock=lambda: NOW,
        telemetry=telemetry,
        readiness=readiness,
        deadlines=deadlines,
        origins=origins,
    )
    api = features(
        shared,
        store=store,
        sequencer=Sequencer(publisher=publisher, states=states, uploads=Uploads(storage)),
        pages=Pages(storage),
        live=live,
        identity=identity,
        endpoints={},
        user_events=user_events,
        user_event_throttle=Throttle(LimitSettings(), admission=Admission()),
        jobs_store=jobs,
        job_throttle=job_throttle,
        job_settings=job_settings,
        documents_store=documents,
        document_throttle=document_throttle,
        document_settings=document_settings,
        document_pace=document_pace,
        uploads=Uploads(storage),
        search_store=searched,
        query_vectors=vectors,
    )
    server = create_server(api, shared, connections_max=connections_max)
    runner = web.ServerRunner(server, shutdown_timeout=1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    session = ClientSession(f"http://127.0.0.1:{port}")
    async with follower, intake, documents_intake, live, shared.tokens, session as client:
        yield Served(
            client=client,
            port=port,
            publisher=publisher,
            store=store,
            objects=objects,
            log=log,
            tails=tails,
            throttle=throttle,
            credentials=credentials,
            committed=committed,
            identity=identity,
            telemetry=telemetry,
            readiness=readiness,
            keys=shown,
            user_events=user_events,
            jobs=jobs,
            stored_commands=stored_commands,
            job_throttle=job_throttle,
            jwks=fetch,
            documents=documents,
            document_commands=document_commands,
            document_throttle=document_throttle,
            document_pace=document_pace,
            document_clock=document_clock,
            searched=searched,
            vectors=vectors,
        )
    await runner.cleanup()
