"""The documents-intake process: how it is put together."""

import argparse
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from time import time

import structlog

from processors.documents.intake.config import DocumentsIntakeSettings
from processors.documents.intake.housekeeping import DocumentHousekeeping
from processors.documents.intake.measures import DocumentMeasures
from processors.documents.intake.objects import OldObjects
from processors.documents.intake.outbox import TAKE_CHANGES, change_record
from processors.documents.intake.pruning import Pruning
from processors.documents.intake.reembedding import Reembedding
from processors.documents.intake.store import DocumentCommandStore
from processors.documents.intake.texts import given_texts
from processors.documents.lanes import WorkWriter
from processors.postgres.relay import Relay
from processors.postgres.writes import PostgresWrites
from processors.runtime.beside import Loop, running
from processors.runtime.cluster import PartitionCount, check_connection, topic_id
from processors.runtime.contract import Arrival, Settled
from processors.runtime.dead_letters import LogWriter, NoDeadLetters
from processors.runtime.failpoints import Failpoint, reach
from processors.runtime.group import run_group
from processors.runtime.limit import NO_LIMIT, limit_in_force
from processors.runtime.payloads import ObstorePayloads
from processors.runtime.placement import Placement
from processors.runtime.process import Process
from processors.runtime.reading import trusting_reader
from processors.runtime.replaying import add_replay_option, replay_of
from schemas.access.credentials import CredentialsFile, FileCredentials
from schemas.documents.codec import COMMAND_CODEC
from schemas.documents.records import Command
from schemas.documents.telemetry import DOCUMENT_CHANGES_PUBLISHED, DOCUMENT_FAILURES, DOCUMENTS_ENDED, OF_INTAKE
from schemas.documents.topics import DOCUMENT_EVENTS, INTAKE
from schemas.documents.validity import check_direct
from schemas.process import settings, telemetry

APPLICATION = "tidegate-documents-intake"
CONNECTIONS_MAX = 8
SLICE_RECORDS_MAX = 8  # a file that is fetched may have 32 MiB
CHANGES_PAUSE_S = 0.5
REEMBEDDING_PAUSE_S = 2.0
MEASURES_PAUSE_S = 5.0
HOUSEKEEPING_PAUSE_S = 60.0

log = structlog.get_logger()


async def run(environ: Mapping[str, str], options: argparse.Namespace) -> int:
    """Run the group documents.intake with what stands beside it, or a replay of the group; return the exit code."""
    config, replay = settings.load(DocumentsIntakeSettings, environ), replay_of(options)
    log.info("starting", processor="documents-intake", replay=replay and replay.id, **settings.effective(config))
    await check_connection(config.kafka)
    group = INTAKE if replay is None else INTAKE.replaying(replay.id)
    # A writer of their own: a flush waits for all that its producer has in flight.
    letters, changes, lanes = (
        LogWriter(config.kafka, client_id=f"{group.id}{part}") for part in ("", ".events", ".lanes")
    )
    instruments = telemetry.Telemetry(OF_INTAKE)
    credentials = FileCredentials(CredentialsFile(config.credentials.path))
    payloads = ObstorePayloads(config.objects.location)
    work = WorkWriter(lanes, credentials)
    placement = Placement(
        PartitionCount(config.kafka, group.source.name),
        instruments[telemetry.WRONG_PARTITION].labels(group.source.name, group.name),
    )
    async with PostgresWrites(config.postgres, connections_max=CONNECTIONS_MAX, application=APPLICATION) as writes:
        store = DocumentCommandStore(
            writes,
            embedder_name=config.embedders.default,
            chunker=config.chunking.chunker,
            replays=replay is not None,
        )

        async def apply(arrivals: Sequence[Arrival[Command]]) -> Settled[Command]:
            await placement.check(arrivals)
            applied = await store.apply(arrivals, await given_texts(arrivals, payloads))
            reach(Failpoint.AFTER_ROWS)
            await work.write(applied.work)
            for phase, count in applied.ended.items():
                instruments[DOCUMENTS_ENDED].labels(phase).inc(count)
            for error in applied.errors:
                instruments[DOCUMENT_FAILURES].labels(error.stage, error.reason).inc()
            return Settled(applied.tally)

        await writes.check_version()
        await writes.check_log(group.source.name, await topic_id(config.kafka, group.source.name))
        relay = Relay(
            writes,
            changes,
            topic=DOCUMENT_EVENTS,
            take=TAKE_CHANGES,
            record_of=partial(change_record, credentials=credentials),
            published=instruments[DOCUMENT_CHANGES_PUBLISHED].inc,
        )
        housekeeping = DocumentHousekeeping(writes, texts_days=config.texts_days, vectors_days=config.vectors_days)
        pruning = Pruning(writes, jobs_days=config.jobs_days)
        old_objects = OldObjects(config.objects.location, clock=lambda: datetime.now(UTC))
        measures = DocumentMeasures(writes, instruments, every_s=MEASURES_PAUSE_S)
        loops = (
            Loop(name="changes to document.events", work=relay.go_on, pause_s=CHANGES_PAUSE_S),
            Loop(name="re-embedding", work=Reembedding(writes, work).go_on, pause_s=REEMBEDDING_PAUSE_S),
            Loop(name="housekeeping", work=housekeeping.go_on, pause_s=HOUSEKEEPING_PAUSE_S),
            Loop(name="pruning", work=pruning.go_on, pause_s=HOUSEKEEPING_PAUSE_S),
            Loop(name="old objects", work=old_objects.go_on, pause_s=HOUSEKEEPING_PAUSE_S),
            Loop(name="measures", work=measures.measure, pause_s=MEASURES_PAUSE_S),
        )
        async with running(loops if replay is None else ()):
            code = await run_group(
                group,
                apply,
                kafka=config.kafka,
                management=config.management,
                read=trusting_reader(check_direct, codec=COMMAND_CODEC, credentials=credentials),
                dead_letters=letters if replay is None else NoDeadLetters(),
                limit=limit_in_force(config.limits, group) if replay is None else lambda: NO_LIMIT,
                instruments=instruments,
                clock_s=time,
                replay=replay,
                fetch_records_max=SLICE_RECORDS_MAX,
            )
    for each in (letters, changes, lanes):
        await each.close()
    return code


PROCESS = Process(run=run, add_options=add_replay_option)
