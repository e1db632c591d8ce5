"""The process that archives one topic: how it is put together."""

import argparse
from collections.abc import Mapping
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from time import time

import structlog

from processors.archive.archiver import Archiver
from processors.archive.config import ArchiveSettings
from processors.archive.removal import Removal
from processors.runtime.beside import Loop, running
from processors.runtime.cluster import check_connection, topic_names
from processors.runtime.errors import Unsettled
from processors.runtime.health import Health
from processors.runtime.positions import KafkaPositions
from processors.runtime.process import Process
from processors.runtime.worker import Worker
from schemas.archive.storage import ObstoreArchive
from schemas.archive.telemetry import ARCHIVE_OBJECTS, OF_ARCHIVE
from schemas.archive.topics import ARCHIVABLE, ARCHIVE
from schemas.process import settings, telemetry
from schemas.process.settings import SettingsInvalid

REMOVAL_PAUSE_S = 3600.0

log = structlog.get_logger()


async def run(environ: Mapping[str, str], options: argparse.Namespace) -> int:
    """Archive one topic until it is stopped; return the exit code."""
    config = settings.load(ArchiveSettings, environ)
    topic = options.topic
    if topic not in {each.name for each in ARCHIVABLE}:
        raise SettingsInvalid(f"--topic names none of {', '.join(sorted(each.name for each in ARCHIVABLE))}")
    log.info("starting", processor="archive", topic=topic, **settings.effective(config))
    await check_connection(config.kafka)
    there = ARCHIVE.members_among(await topic_names(config.kafka))
    group = next((each for each in there if each.member == topic), None)
    if group is None:
        raise Unsettled(f"the archive of {topic} has no topics: `tidegate topics create` makes them")
    storage = ObstoreArchive(config.objects.location)
    health, instruments = Health(), telemetry.Telemetry(OF_ARCHIVE)
    removal = Removal(
        storage,
        topic=topic,
        keep=timedelta(days=config.keep_days),
        clock=lambda: datetime.now(UTC),
        removed=lambda _name: instruments[ARCHIVE_OBJECTS].labels(topic, "removed").inc(),
    )

    async def remove() -> bool:
        await removal.run()
        return False

    async with AsyncExitStack() as stack:
        positions = KafkaPositions(config.kafka, group.id)
        stack.push_async_callback(positions.close)
        if config.keep_days:
            loop = Loop(name="archive retention", work=remove, pause_s=REMOVAL_PAUSE_S)
            await stack.enter_async_context(running([loop]))
        archiver = Archiver(
            group=group,
            storage=storage,
            positions=positions,
            health=health,
            instruments=instruments,
            object_bytes=config.object_bytes,
            seconds_max=config.object_age_s,
            clock_s=time,
            folder=config.spool,
        )
        worker = Worker(
            group,
            kafka=config.kafka,
            work=archiver.add,
            spool=archiver,
            asleep=archiver.asleep,
            health=health,
            instruments=instruments,
            ends={},
        )
        return await worker.run(config.management)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the option that names the topic."""
    parser.add_argument("--topic", metavar="TOPIC", required=True, help="the topic that is archived")


PROCESS = Process(run=run, add_options=add_options)
