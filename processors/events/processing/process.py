"""The processing process: how it is put together."""

import argparse
from collections.abc import Mapping
from time import time

import structlog

from processors.events.processing import functions
from processors.events.processing.config import ProcessingSettings
from processors.events.processing.handler import CallLimits, Processing
from processors.events.processing.rows import ProcessedRows
from processors.postgres.writes import PostgresWrites
from processors.runtime.cluster import CommittedOffsets, check_connection, topic_id, topic_names
from processors.runtime.dead_letters import LogWriter
from processors.runtime.errors import Unsettled
from processors.runtime.group import run_group
from processors.runtime.limit import limit_in_force
from processors.runtime.process import Process
from processors.runtime.reading import trusting_reader
from processors.runtime.replaying import add_replay_option, replay_of
from schemas.access.credentials import CredentialsFile, FileCredentials
from schemas.events import types_file
from schemas.events.codec import EVENT_CODEC
from schemas.events.topics import EVENTS, PROCESSING
from schemas.events.validity import check_direct
from schemas.process import settings, telemetry
from schemas.process.settings import SettingsInvalid

APPLICATION = "tidegate-processing"
CONNECTIONS_MAX = 4
FETCH_RECORDS_MAX = 200  # of a slice that is given up half-way, what was not noted yet is processed again

log = structlog.get_logger()


async def run(environ: Mapping[str, str], options: argparse.Namespace) -> int:
    """Run the processing group, or a replay of it; return its exit code."""
    config, replay = settings.load(ProcessingSettings, environ), replay_of(options)
    found = functions.find(types_file.read(config.types).functions)
    if not found:
        raise SettingsInvalid("no type of event has a function: name one in the file of TIDEGATE_EVENT_TYPES")
    log.info("starting", processor="processing", replay=replay and replay.id, **settings.effective(config))
    await check_connection(config.kafka)
    if PROCESSING.dead_letters.name not in await topic_names(config.kafka):
        raise Unsettled(
            "the group has no topics: `tidegate topics create` makes them where TIDEGATE_EVENT_TYPES is set"
        )
    group = PROCESSING if replay is None else PROCESSING.replaying(replay.id)
    writer = LogWriter(config.kafka, client_id=group.id)
    credentials = FileCredentials(CredentialsFile(config.credentials.path))
    async with PostgresWrites(config.postgres, connections_max=CONNECTIONS_MAX, application=APPLICATION) as writes:
        await writes.check_version()
        await writes.check_log(group.source.name, await topic_id(config.kafka, group.source.name))
        processing = Processing(
            found,
            ProcessedRows(writes),
            stored_until=CommittedOffsets(config.kafka, EVENTS),
            limits=CallLimits(config.concurrency, config.soft_limit_s, config.hard_limit_s),
            tier_count=len(PROCESSING.tiers),
            repeats=replay is not None and replay.overwrite,
        )
        code = await run_group(
            group,
            processing.process,
            kafka=config.kafka,
            management=config.management,
            read=trusting_reader(check_direct, codec=EVENT_CODEC, credentials=credentials),
            dead_letters=writer,  # a replay's too: nobody else tries these records once more
            limit=limit_in_force(config.limits, group),
            instruments=telemetry.Telemetry(telemetry.OF_PROCESSORS),
            clock_s=time,
            replay=replay,
            fetch_records_max=FETCH_RECORDS_MAX,
        )
    await writer.close()
    return code


PROCESS = Process(run=run, add_options=add_replay_option)
