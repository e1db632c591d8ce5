"""Every processor by its name: how it is put together. Nothing imports this but `__main__`."""

from collections import Counter
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from time import monotonic

import structlog

from processors.config import PersistenceSettings
from processors.persistence.agent import persistence
from processors.persistence.store import EventStore, Writing
from processors.runtime.batch import Partition
from processors.runtime.dead_letters import LogWriter, NoDeadLetters
from processors.runtime.delivery import Delivery
from processors.runtime.health import Health
from processors.runtime.limit import NO_LIMIT, DeadLetterLimit, parse_limits
from processors.runtime.worker import Worker
from schemas import settings, telemetry, topics
from schemas.credentials import CredentialsFile
from schemas.replays import Replay
from schemas.settings import SettingsInvalid
from schemas.watched import WatchedFile

log = structlog.get_logger()

Processor = Callable[[Mapping[str, str], Replay | None], Coroutine[None, None, int]]


async def run_persistence(environ: Mapping[str, str], replay: Replay | None) -> int:
    """Run the persistence group, or its *replay*; return its exit code."""
    config = settings.load(PersistenceSettings, environ)
    log.info("starting", processor="persistence", replay=replay and replay.id, **settings.effective(config))
    group = topics.PERSISTENCE if replay is None else replay.consumers
    health, instruments = Health(), telemetry.Telemetry(telemetry.OF_PROCESSORS)
    writer = LogWriter(config.kafka.bootstrap, client_id=group.id)
    async with EventStore(config.postgres, connections_max=config.connections_max, writing=_writing(replay)) as store:
        await store.check_version()
        delivery = Delivery(
            group,
            persistence(store, writer),
            dead_letters=writer if replay is None else NoDeadLetters(),
            credentials=CredentialsFile(config.credentials.path),
            instruments=instruments,
            health=health,
            limit=dead_letter_limit(config.limits, group) if replay is None else lambda: NO_LIMIT,
            only_key=replay.run_id.encode() if replay and replay.run_id else None,
        )
        worker = Worker(
            group,
            bootstrap=config.kafka.bootstrap,
            work=delivery.deliver,
            asleep=delivery.asleep,
            health=health,
            instruments=instruments,
            ends={Partition(group.source.name, each): end for each, end in replay.ends.items()} if replay else {},
        )
        code = await worker.run(config.management)
    if replay is not None:
        log.info("replay stops", id=replay.id, outcomes=_outcomes(instruments))
    await writer.close()
    return code


def _outcomes(instruments: telemetry.Telemetry) -> Mapping[str, int]:
    """How many records of this process came to each end."""
    counted: Counter[str] = Counter()
    for metric in instruments.registry.collect():
        for sample in metric.samples:
            if sample.name == telemetry.RECORDS.name and sample.value:
                counted[sample.labels["outcome"]] += int(sample.value)
    return counted


def _writing(replay: Replay | None) -> Writing:
    if replay is None:
        return Writing.NEW
    return Writing.OVERWRITE if replay.overwrite else Writing.MISSING


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
