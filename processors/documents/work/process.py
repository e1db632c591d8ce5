"""The documents-embed process: how it is put together."""

import argparse
from collections.abc import Mapping
from contextlib import AsyncExitStack
from time import time

import structlog

from processors.documents.moves import JobError
from processors.documents.parsing.processes import Parsers
from processors.documents.work.config import EmbedSettings
from processors.documents.work.cutting import ChunkWorker
from processors.documents.work.downstream import Downstream
from processors.documents.work.embedding import ChunkEmbedder, Counters
from processors.documents.work.files import Files
from processors.documents.work.handler import Ended, Stages, WorkHandler
from processors.documents.work.journal import Journal
from processors.documents.work.known import KnownEmbedders
from processors.documents.work.limits import cores_allowed
from processors.documents.work.turns import FairTurns
from processors.documents.work.vectors import VectorCache
from processors.postgres.writes import PostgresWrites
from processors.runtime.beside import Loop, running
from processors.runtime.cluster import check_connection
from processors.runtime.dead_letters import LogWriter, NoDeadLetters
from processors.runtime.group import run_group
from processors.runtime.limit import NO_LIMIT, limit_in_force
from processors.runtime.process import Process
from processors.runtime.reading import trusting_reader
from processors.runtime.replaying import add_replay_option, replay_of
from schemas.access.credentials import CredentialsFile, FileCredentials
from schemas.documents.codec import WORK_CODEC
from schemas.documents.embedding.loading import Embedders, open_embedders
from schemas.documents.presets import StageLimits
from schemas.documents.states import Lane, Phase, Stage
from schemas.documents.telemetry import (
    CHUNKS,
    DOCUMENT_FAILURES,
    DOCUMENTS_ENDED,
    EMBEDDERS_AWAY,
    OF_EMBED,
    STAGE_DURATION,
    TURNS_WAITING,
)
from schemas.documents.topics import EMBED
from schemas.documents.validity import check_ours
from schemas.documents.workers import load_worker
from schemas.process import settings
from schemas.process.telemetry import Telemetry

APPLICATION = "tidegate-documents-embed"
CONNECTIONS_MAX = 16
SLICE_RECORDS_MAX = 8
DOWNSTREAM_PAUSE_S = 1.0
EMBEDDERS_PAUSE_S = 15.0
CHUNK_ENTRY_POINTS = "tidegate.chunk"

log = structlog.get_logger()


async def run(environ: Mapping[str, str], options: argparse.Namespace) -> int:
    """Run the group documents.embed, or a replay of it; return the exit code."""
    config, replay = settings.load(EmbedSettings, environ), replay_of(options)
    log.info("starting", processor="documents-embed", replay=replay and replay.id, **settings.effective(config))
    await check_connection(config.kafka)
    group = EMBED if replay is None else EMBED.replaying(replay.id)
    instruments = Telemetry(OF_EMBED)
    credentials = FileCredentials(CredentialsFile(config.credentials.path))
    limits = config.stages.limits()
    async with AsyncExitStack() as stack:
        writers = []
        for part in ("", ".embedded", ".commands"):
            writer = LogWriter(config.kafka, client_id=f"{group.id}{part}")
            stack.push_async_callback(writer.close)
            writers.append(writer)
        letters, embedded, commands = writers
        writes = await stack.enter_async_context(
            PostgresWrites(config.postgres, connections_max=CONNECTIONS_MAX, application=APPLICATION)
        )
        await writes.check_version()
        embedders = await stack.enter_async_context(open_embedders(config.embedding))
        known = KnownEmbedders(writes, embedders.all)
        await known.go_on()
        instruments[EMBEDDERS_AWAY].set_function(lambda: known.away)
        busy = instruments[STAGE_DURATION].labels(Stage.PARSE).observe
        parsers = await stack.enter_async_context(Parsers(limit=limits.chunk_threads(cores_allowed()), busy=busy))
        cutter = None
        if config.chunking.chunk_worker:
            worker = load_worker(
                config.chunking.chunk_worker, group=CHUNK_ENTRY_POINTS, deadline_s=config.workers.deadline_s
            )
            stack.push_async_callback(worker.close)
            cutter = ChunkWorker(worker)
        turns, journal, downstream = FairTurns(_slots(limits, embedders)), Journal(writes), Downstream(writes)
        for lane in Lane:
            waiting = instruments[TURNS_WAITING].labels(lane)
            waiting.set_function(lambda lane=lane: turns.waiting(lane))
        handler = WorkHandler(
            Stages(
                journal=journal,
                files=Files(parsers, journal, writes, commands, credentials),
                chunks=ChunkEmbedder(VectorCache(writes), turns, _counters(instruments), cutter=cutter),
                embedders=embedders,
                downstream=downstream,
                embedded=embedded,
                credentials=credentials,
                ended=_ended(instruments),
            ),
            # One more than there are slots: a lane keeps its share while somebody waits in it whenever a turn ends.
            documents_max=_slots(limits, embedders) + limits.chunk_workers,
        )
        loops = (
            Loop(name="what is embedded and not stored", work=downstream.look, pause_s=DOWNSTREAM_PAUSE_S),
            Loop(name="embedders that are away", work=known.go_on, pause_s=EMBEDDERS_PAUSE_S),
        )
        await stack.enter_async_context(running(loops))
        return await run_group(
            group,
            handler.handle,
            kafka=config.kafka,
            management=config.management,
            read=trusting_reader(check_ours, codec=WORK_CODEC, credentials=credentials),
            dead_letters=letters if replay is None else NoDeadLetters(),
            limit=limit_in_force(config.limits, group) if replay is None else lambda: NO_LIMIT,
            instruments=instruments,
            clock_s=time,
            replay=replay,
            fetch_records_max=SLICE_RECORDS_MAX,
        )


def _slots(limits: StageLimits, embedders: Embedders) -> int:
    """Return how many documents are embedded at once: more than a local model's threads would wait for each other."""
    if any(embedder.is_local for embedder in embedders.all):
        return limits.embed_threads(cores_allowed()) + 1  # one looks into the cache while the others compute
    return limits.embed_workers


def _counters(instruments: Telemetry) -> Counters:
    def busy(stage: Stage, seconds: float) -> None:
        instruments[STAGE_DURATION].labels(stage).observe(seconds)

    return Counters(
        cached=instruments[CHUNKS].labels("cache").inc, computed=instruments[CHUNKS].labels("computed").inc, busy=busy
    )


def _ended(instruments: Telemetry) -> Ended:
    def ended(phase: Phase, error: JobError | None) -> None:
        instruments[DOCUMENTS_ENDED].labels(phase).inc()
        if error is not None:
            instruments[DOCUMENT_FAILURES].labels(error.stage, error.reason).inc()

    return ended


PROCESS = Process(run=run, add_options=add_replay_option)
