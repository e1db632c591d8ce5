"""The persistence process: how it is put together."""

import argparse
from collections.abc import Mapping
from time import time

import structlog

from processors.postgres.writes import PostgresWrites
from processors.runs.persistence.config import PersistenceSettings
from processors.runs.persistence.handler import persistence
from processors.runs.persistence.store import EventStore, Writing
from processors.runtime.cluster import PartitionCount, check_connection, topic_id
from processors.runtime.dead_letters import LogWriter, NoDeadLetters
from processors.runtime.group import run_group
from processors.runtime.limit import NO_LIMIT, limit_in_force
from processors.runtime.placement import Placement
from processors.runtime.process import Process
from processors.runtime.reading import trusting_reader
from processors.runtime.replaying import add_replay_option, replay_of
from schemas.access.credentials import CredentialsFile, FileCredentials
from schemas.kafka.replays import Replay
from schemas.process import settings, telemetry
from schemas.runs.codec import RUN_CODEC
from schemas.runs.telemetry import OF_PERSISTENCE
from schemas.runs.topics import PERSISTENCE
from schemas.runs.validity import check_direct

APPLICATION = "tidegate-persistence"

log = structlog.get_logger()


async def run(environ: Mapping[str, str], options: argparse.Namespace) -> int:
    """Run the persistence group, or a replay of it; return its exit code."""
    config, replay = settings.load(PersistenceSettings, environ), replay_of(options)
    log.info("starting", processor="persistence", replay=replay and replay.id, **settings.effective(config))
    await check_connection(config.kafka)
    group = PERSISTENCE if replay is None else PERSISTENCE.replaying(replay.id)
    writer = LogWriter(config.kafka, client_id=group.id)
    credentials = FileCredentials(CredentialsFile(config.credentials.path))
    instruments = telemetry.Telemetry(OF_PERSISTENCE)
    placement = Placement(
        PartitionCount(config.kafka, group.source.name),
        instruments[telemetry.WRONG_PARTITION].labels(group.source.name, group.name),
    )
    async with PostgresWrites(
        config.postgres, connections_max=config.connections_max, application=APPLICATION
    ) as writes:
        store = EventStore(writes, writing=_writing(replay))
        await writes.check_version()
        await writes.check_log(group.source.name, await topic_id(config.kafka, group.source.name))
        code = await run_group(
            group,
            persistence(store, writer, lambda: credentials().gateway.mac_secrets[0], placement),
            kafka=config.kafka,
            management=config.management,
            read=trusting_reader(check_direct, codec=RUN_CODEC, credentials=credentials),
            dead_letters=writer if replay is None else NoDeadLetters(),
            limit=limit_in_force(config.limits, group) if replay is None else lambda: NO_LIMIT,
            instruments=instruments,
            clock_s=time,
            replay=replay,
        )
    await writer.close()
    return code


def _writing(replay: Replay | None) -> Writing:
    if replay is None:
        return Writing.NEW
    return Writing.OVERWRITE if replay.overwrite else Writing.MISSING


PROCESS = Process(run=run, add_options=add_replay_option)
