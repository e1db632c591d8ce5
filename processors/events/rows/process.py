"""The events process: how it is put together."""

import argparse
from collections.abc import Mapping, Sequence
from functools import partial
from time import time

import structlog

from processors.events.rows.config import EventsSettings
from processors.events.rows.rows import Derivation
from processors.events.rows.store import UserEventStore
from processors.postgres.writes import PostgresWrites
from processors.runtime.cluster import PartitionCount, check_connection, topic_id
from processors.runtime.contract import Arrival, Settled
from processors.runtime.dead_letters import LogWriter, NoDeadLetters
from processors.runtime.group import run_group
from processors.runtime.limit import NO_LIMIT, limit_in_force
from processors.runtime.placement import Placement
from processors.runtime.process import Process
from processors.runtime.reading import trusting_reader
from processors.runtime.replaying import add_replay_option, replay_of
from schemas.access.credentials import CredentialsFile, FileCredentials
from schemas.events import types_file
from schemas.events.codec import EVENT_CODEC
from schemas.events.records import UserEvent
from schemas.events.telemetry import EVENT_CLOCKS, OF_EVENTS
from schemas.events.topics import EVENTS
from schemas.events.validity import check_direct
from schemas.process import settings, telemetry

APPLICATION = "tidegate-events"

log = structlog.get_logger()


async def run(environ: Mapping[str, str], options: argparse.Namespace) -> int:
    """Run the events group, or a replay of it; return its exit code."""
    config, replay = settings.load(EventsSettings, environ), replay_of(options)
    types = types_file.read(config.types)
    log.info("starting", processor="events", replay=replay and replay.id, **settings.effective(config))
    await check_connection(config.kafka)
    group = EVENTS if replay is None else EVENTS.replaying(replay.id)
    writer = LogWriter(config.kafka, client_id=group.id)
    instruments = telemetry.Telemetry(OF_EVENTS)
    placement = Placement(
        PartitionCount(config.kafka, group.source.name),
        instruments[telemetry.WRONG_PARTITION].labels(group.source.name, group.name),
    )
    credentials = FileCredentials(CredentialsFile(config.credentials.path))
    async with PostgresWrites(
        config.postgres, connections_max=config.connections_max, application=APPLICATION
    ) as writes:
        store = UserEventStore(
            writes,
            Derivation(types.schemas, types.functions.keys()),
            count_clocks=partial(_count, instruments),
            replays=replay is not None,
            rewrites=replay is not None and replay.overwrite,
        )

        async def persist(arrivals: Sequence[Arrival[UserEvent]]) -> Settled[UserEvent]:
            await placement.check(arrivals)
            return Settled(await store.append(arrivals))

        await writes.check_version()
        await writes.check_log(group.source.name, await topic_id(config.kafka, group.source.name))
        if released := await store.release():
            log.info("events of types without a function wait no longer", count=released)
        code = await run_group(
            group,
            persist,
            kafka=config.kafka,
            management=config.management,
            read=trusting_reader(check_direct, codec=EVENT_CODEC, credentials=credentials),
            dead_letters=writer if replay is None else NoDeadLetters(),
            limit=limit_in_force(config.limits, group) if replay is None else lambda: NO_LIMIT,
            instruments=instruments,
            clock_s=time,
            replay=replay,
        )
    await writer.close()
    return code


def _count(instruments: telemetry.Telemetry, clocks: Mapping[str, int]) -> None:
    for clock, count in clocks.items():
        instruments[EVENT_CLOCKS].labels(clock).inc(count)


PROCESS = Process(run=run, add_options=add_replay_option)
