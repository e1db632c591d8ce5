"""Every processor by its name: how it is put together. Nothing imports this but `__main__`."""

from collections.abc import Callable, Coroutine, Mapping

import structlog

from processors.config import PersistenceSettings
from processors.persistence.agent import persistence
from processors.persistence.store import EventStore
from processors.runtime.dead_letters import LogWriter
from processors.runtime.delivery import Delivery
from processors.runtime.health import Health
from processors.runtime.worker import Worker
from schemas import settings, telemetry, topics
from schemas.credentials import CredentialsFile

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
        )
        worker = Worker(
            group, bootstrap=config.kafka.bootstrap, delivery=delivery, health=health, instruments=instruments
        )
        code = await worker.run(config.management)
    await writer.close()
    return code


PROCESSORS: Mapping[str, Processor] = {"persistence": run_persistence}
