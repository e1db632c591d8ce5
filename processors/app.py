"""Every processor by its name: how it is put together. Nothing imports this but `__main__`."""

from collections import Counter
from collections.abc import Callable, Coroutine, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic

import structlog

from processors.config import EvaluationSettings, PersistenceSettings
from processors.evaluation.addresses import url_fault
from processors.evaluation.breaker import Breaker
from processors.evaluation.connector import connector
from processors.evaluation.forwarding import Forwarder
from processors.evaluation.sending import Sender, measured
from processors.evaluation.states import EndpointStates
from processors.persistence.agent import persistence
from processors.persistence.store import EventStore, Writing
from processors.runtime.batch import Partition
from processors.runtime.cluster import topic_names
from processors.runtime.dead_letters import LogWriter, NoDeadLetters
from processors.runtime.delivery import Delivery
from processors.runtime.errors import Unsettled
from processors.runtime.health import Health
from processors.runtime.limit import NO_LIMIT, DeadLetterLimit, parse_limits
from processors.runtime.worker import Worker
from schemas import settings, telemetry, topics
from schemas.credentials import CredentialsFile
from schemas.endpoints import Endpoint, watch
from schemas.replays import Replay
from schemas.settings import SettingsInvalid
from schemas.watched import WatchedFile

log = structlog.get_logger()

EVALUATION_FETCH_RECORDS_MAX = 500  # a slice that is given up half-way is sent again


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What the command line asks of a processor, beside its settings."""

    replay: Replay | None = None
    endpoint: str | None = None  # of the evaluation group


Processor = Callable[[Mapping[str, str], Order], Coroutine[None, None, int]]


async def run_persistence(environ: Mapping[str, str], order: Order) -> int:
    """Run the persistence group, or a replay of it; return its exit code."""
    config, replay = settings.load(PersistenceSettings, environ), order.replay
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
            ends=_ends(replay),
        )
        code = await worker.run(config.management)
    if replay is not None:
        log.info("replay stops", id=replay.id, outcomes=_outcomes(instruments))
    await writer.close()
    return code


async def run_evaluation(environ: Mapping[str, str], order: Order) -> int:
    """Run the group of one endpoint, or a replay of it; return its exit code."""
    config, replay = settings.load(EvaluationSettings, environ), order.replay
    name = replay.group.removeprefix(topics.EVALUATION) if replay else order.endpoint
    if not name:
        raise SettingsInvalid("--endpoint is missing: the name of one in the endpoints file")
    log.info(
        "starting", processor="evaluation", endpoint=name, replay=replay and replay.id, **settings.effective(config)
    )
    endpoint = _endpoint_in_force(name, config)
    live = next(
        (each for each in topics.groups_among(await topic_names(config.kafka.bootstrap)) if each.endpoint == name), None
    )
    if live is None:
        raise Unsettled(f"endpoint {name} has no topics: `tidegate topics create` makes them")
    group = live if replay is None else replace(live, replay_id=replay.id)
    health, instruments = Health(), telemetry.Telemetry(telemetry.OF_PROCESSORS)
    writer = LogWriter(config.kafka.bootstrap, client_id=group.id)
    async with AsyncExitStack() as stack:
        if replay is None:
            states = EndpointStates(
                name, endpoint, bootstrap=config.kafka.bootstrap, writer=writer, clock=lambda: datetime.now(UTC)
            )
            breaker = (await stack.enter_async_context(states)).breaker
        else:
            breaker = Breaker(changed=lambda state, why: log.warning("breaker changes", state=state.value, reason=why))
        sender = Sender(
            connector(internal_allowed=config.internal_allowed),
            internal_allowed=config.internal_allowed,
            replay=replay is not None,
            clock=lambda: datetime.now(UTC),
        )
        stack.push_async_callback(sender.close)
        forwarder = Forwarder(
            endpoint,
            send=measured(sender, name, instruments),
            breaker=breaker,
            concurrency=endpoint().concurrency,
        )
        instruments[telemetry.WEBHOOK_BREAKER_CLOSED].labels(name).set_function(lambda: breaker.is_closed)
        delivery = Delivery(
            group,
            forwarder.forward,
            # A replay's too: nobody else tries these records once more.
            dead_letters=writer,
            credentials=CredentialsFile(config.credentials.path),
            instruments=instruments,
            health=health,
            limit=dead_letter_limit(config.limits, group),
            only_key=replay.run_id.encode() if replay and replay.run_id else None,
        )
        worker = Worker(
            group,
            bootstrap=config.kafka.bootstrap,
            work=delivery.deliver,
            asleep=delivery.asleep,
            health=health,
            instruments=instruments,
            ends=_ends(replay),
            fetch_records_max=EVALUATION_FETCH_RECORDS_MAX,
        )
        code = await worker.run(config.management)
    if replay is not None:
        log.info("replay stops", id=replay.id, outcomes=_outcomes(instruments))
    await writer.close()
    return code


def _endpoint_in_force(name: str, config: EvaluationSettings) -> Callable[[], Endpoint]:
    """The endpoint as its file has it now; one that is taken out of the file stays as it was last."""
    endpoints = watch(config.endpoints)
    first = endpoints().endpoints.get(name)
    if first is None:
        raise SettingsInvalid(f"there is no endpoint {name}; see TIDEGATE_ENDPOINTS")
    if fault := url_fault(first.url, internal_allowed=config.internal_allowed):
        raise SettingsInvalid(f"endpoint {name}: its URL cannot be sent to: {fault}")

    last = first

    def in_force() -> Endpoint:
        nonlocal last
        last = endpoints().endpoints.get(name) or last
        return last

    return in_force


def _ends(replay: Replay | None) -> Mapping[Partition, int]:
    """The offsets up to which a replay reads."""
    if replay is None:
        return {}
    return {Partition(replay.consumers.source.name, each): end for each, end in replay.ends.items()}


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


PROCESSORS: Mapping[str, Processor] = {"persistence": run_persistence, "evaluation": run_evaluation}
