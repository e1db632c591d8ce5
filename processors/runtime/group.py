"""The life of a process that brings the records of one group to their effect, or repeats part of them."""

from collections.abc import Callable
from typing import TypeVar

import structlog

from processors.runtime.contract import Handler, Reader
from processors.runtime.dead_letters import DeadLetters
from processors.runtime.delivery import Delivery
from processors.runtime.gathering import Bounds
from processors.runtime.health import Health
from processors.runtime.limit import DeadLetterLimit
from processors.runtime.replaying import ends_of, outcomes_of
from processors.runtime.worker import FETCH_RECORDS_MAX, Worker
from schemas.kafka.connection import KafkaSettings
from schemas.kafka.replays import Replay
from schemas.kafka.topics import Group
from schemas.process import telemetry
from schemas.process.settings import ManagementSettings

R = TypeVar("R")

log = structlog.get_logger()


async def run_group(
    group: Group,
    handler: Handler[R],
    *,
    read: Reader[R],
    kafka: KafkaSettings,
    management: ManagementSettings,
    dead_letters: DeadLetters,
    limit: Callable[[], DeadLetterLimit],
    instruments: telemetry.Telemetry,
    clock_s: Callable[[], float],
    replay: Replay | None,
    fetch_records_max: int = FETCH_RECORDS_MAX,
    gathering: Bounds | None = None,
) -> int:
    """
    Hand the records of *group*, or those that *replay* names, to *handler*; return the exit code.

    With *gathering*, the handler is given the records of several slices, up to these bounds.
    """
    health = Health()
    delivery = Delivery(
        group,
        handler,
        read=read,
        dead_letters=dead_letters,
        instruments=instruments,
        health=health,
        limit=limit,
        clock_s=clock_s,
        only_key=replay.run_id.encode() if replay and replay.run_id else None,
    )
    worker = Worker(
        group,
        kafka=kafka,
        work=delivery.deliver,
        asleep=delivery.asleep,
        health=health,
        instruments=instruments,
        ends=ends_of(replay, group.source),
        fetch_records_max=fetch_records_max,
        gathering=gathering,
    )
    code = await worker.run(management)
    if replay is not None:
        log.info("replay ended", id=replay.id, outcomes=outcomes_of(instruments))
    return code
