"""The documents-store process: how it is put together."""

import argparse
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from time import monotonic, time

import structlog

from processors.documents.lanes import WorkWriter
from processors.documents.store.config import StoreSettings
from processors.documents.store.handing_on import HandingOn
from processors.documents.store.versions import StoredVersion, VersionStore
from processors.postgres.writes import PostgresWrites
from processors.runtime.cluster import check_connection
from processors.runtime.contract import Arrival, FailedRecord, Outcome, Settled, Tally
from processors.runtime.dead_letters import LogWriter, NoDeadLetters
from processors.runtime.failpoints import Failpoint, reach
from processors.runtime.group import run_group
from processors.runtime.limit import NO_LIMIT, limit_in_force
from processors.runtime.process import Process
from processors.runtime.reading import trusting_reader
from processors.runtime.replaying import add_replay_option, replay_of
from schemas.access.credentials import CredentialsFile, FileCredentials
from schemas.documents.codec import EMBEDDED_CODEC
from schemas.documents.records import DocumentEmbedded
from schemas.documents.states import Phase, Stage
from schemas.documents.telemetry import (
    DOCUMENT_FAILURES,
    DOCUMENT_LATENCY,
    DOCUMENTS_ENDED,
    OF_STORE,
    STAGE_DURATION,
)
from schemas.documents.topics import STORE
from schemas.documents.validity import check_ours
from schemas.documents.workers import load_worker
from schemas.process import settings
from schemas.process.telemetry import Telemetry

APPLICATION = "tidegate-documents-store"
CONNECTIONS_MAX = 8
SLICE_RECORDS_MAX = 8
STORE_ENTRY_POINTS = "tidegate.store"

log = structlog.get_logger()


async def run(environ: Mapping[str, str], options: argparse.Namespace) -> int:
    """Run the group documents.store, or a replay of it; return the exit code."""
    config, replay = settings.load(StoreSettings, environ), replay_of(options)
    log.info("starting", processor="documents-store", replay=replay and replay.id, **settings.effective(config))
    await check_connection(config.kafka)
    group = STORE if replay is None else STORE.replaying(replay.id)
    letters, lanes = (LogWriter(config.kafka, client_id=f"{group.id}{part}") for part in ("", ".lanes"))
    instruments = Telemetry(OF_STORE)
    credentials = FileCredentials(CredentialsFile(config.credentials.path))
    work = WorkWriter(lanes, credentials)
    async with AsyncExitStack() as stack:
        writes = await stack.enter_async_context(
            PostgresWrites(config.postgres, connections_max=CONNECTIONS_MAX, application=APPLICATION)
        )
        handing_on = None
        if config.store_worker:
            worker = load_worker(config.store_worker, group=STORE_ENTRY_POINTS, deadline_s=config.workers.deadline_s)
            stack.push_async_callback(worker.close)
            handing_on = HandingOn(writes, worker)
        store = VersionStore(writes, handing_on=handing_on)

        async def apply(arrivals: Sequence[Arrival[DocumentEmbedded]]) -> Settled[DocumentEmbedded]:
            tally, dead = Tally(), list[FailedRecord[DocumentEmbedded]]()
            for arrival in arrivals:
                if arrival.rejection is not None:
                    dead.append(FailedRecord(arrival, arrival.rejection.reason, arrival.rejection.detail))
                    continue
                began_s = monotonic()
                stored = await store.store(arrival.record)
                reach(Failpoint.AFTER_ROWS)
                if stored.again is not None:
                    await work.write([stored.again])
                instruments[STAGE_DURATION].labels(Stage.STORE).observe(monotonic() - began_s)
                tally[_counted(stored, instruments), None] += 1
            return Settled(tally, dead=dead)

        await writes.check_version()
        code = await run_group(
            group,
            apply,
            kafka=config.kafka,
            management=config.management,
            read=trusting_reader(check_ours, codec=EMBEDDED_CODEC, credentials=credentials),
            dead_letters=letters if replay is None else NoDeadLetters(),
            limit=limit_in_force(config.limits, group) if replay is None else lambda: NO_LIMIT,
            instruments=instruments,
            clock_s=time,
            replay=replay,
            fetch_records_max=SLICE_RECORDS_MAX,
        )
    for each in (letters, lanes):
        await each.close()
    return code


def _counted(stored: StoredVersion, instruments: Telemetry) -> Outcome:
    """Return the outcome of a record, and count the ends of jobs that it brought."""
    for phase, count in stored.ended.items():
        instruments[DOCUMENTS_ENDED].labels(phase).inc(count)
    if stored.end is None or stored.phase is None:
        return Outcome.REDELIVERY if stored.again is None else Outcome.DONE
    if stored.phase is Phase.STORED:
        instruments[DOCUMENT_LATENCY].observe(stored.end.seconds)
    if stored.error is not None:
        instruments[DOCUMENT_FAILURES].labels(stored.error.stage, stored.error.reason).inc()
    return Outcome.DONE


PROCESS = Process(run=run, add_options=add_replay_option)
