"""Every processor by its name: how it is put together. Nothing imports this but `__main__`."""

from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from time import monotonic

import structlog

from processors.config import PersistenceSettings
from processors.persistence.agent import persistence
from processors.persistence.store import EventStore
from processors.runtime.dead_letters import LogWriter
from processors.runtime.delivery import Delivery
from processors.runtime.health import Health
from processors.runtime.limit import DeadLetterLimit, parse_limits
from processors.runtime.worker import Worker
from schemas import settings, telemetry, topics
from schemas.credentials import CredentialsFile
from schemas.settings import SettingsInvalid
from schemas.watched import WatchedFile

log = structlog.get_logger()

Processor = Callable[[Mapping[str, str]], Coroutine[None, None, int]]


async def run_persistence(environ: Mapping[str, str]) -> int:
    """Run the persistence group; return its exit code."""
    config = settings.load(PersistenceSettings, environ)
    log.info("starting", processor="persistence", **settings.effective(config))
    group, health, instruments = topics.PERSISTENCE, Health(), telemetry.Telemetry(telemetry.OF_PROCESSORS)
    writer = LogWriter(config.kafka.bootstrap, client_id=group.id)
    async with EventStore(config.postgres, connections_max=config.connections_max) as store:
        await store.check_version()
        delivery = Delivery(
            group,
            persistence(store, writer),
            dead_letters=writer,
            credentials=CredentialsFile(config.credentials.path),
            instruments=instruments,
            health=health,
            limit=dead_letter_limit(config.limits, group),
        )
        worker = Worker(
            group, bootstrap=config.kafka.bootstrap, delivery=delivery, health=health, instruments=instruments
        )
        code = await worker.run(config.management)
    await writer.close()
    return code


def dead_letter_limit(path: Path | None, group: topics.Group) -> Callable[[], DeadLetterLimit]:
    """The limit in force for *group*, as the limits file has it now; without a file, the defaults."""
    if path is None:
        return DeadLetterLimit
    try:
        watched = WatchedFile(path, parse_limits)
    except (OSError, ValueError) as error:
        raise SettingsInvalid(f"TIDEGATE_LIMITS: {error}") from error
    return lambda: watched.current(now_s=monotonic()).dead_letters.get(group.name, DeadLetterLimit())


PROCESSORS: Mapping[str, Processor] = {"persistence": run_persistence}
