"""The process of one sink: how it is put together."""

import argparse
from collections.abc import Mapping
from time import time
from typing import Any

import structlog

from processors.outbound.breaker import Breaker
from processors.runtime.cluster import CommittedOffsets, check_connection, topic_id, topic_names
from processors.runtime.dead_letters import LogWriter
from processors.runtime.errors import Unsettled
from processors.runtime.gathering import Bounds
from processors.runtime.group import run_group
from processors.runtime.limit import limit_in_force
from processors.runtime.process import Process
from processors.runtime.reading import trusting_reader
from processors.runtime.replaying import add_replay_option, replay_of
from processors.sinks.checking import check
from processors.sinks.config import SinkProcessSettings
from processors.sinks.guarding import GuardedSink
from processors.sinks.loading import close, in_force_of, opened
from processors.sinks.sinking import SinkAddress, Sinking
from schemas.access.credentials import CredentialsFile, FileCredentials
from schemas.events import validity as of_events
from schemas.events.codec import EVENT_CODEC
from schemas.events.topics import USER_EVENTS
from schemas.kafka.topics import Group
from schemas.process import settings, telemetry
from schemas.process.settings import SettingsInvalid
from schemas.runs import validity as of_runs
from schemas.runs.codec import RUN_CODEC
from schemas.sinks import sinks_file
from schemas.sinks.telemetry import OF_SINK, SINK_BREAKER_CLOSED, SINK_HELD
from schemas.sinks.topics import SINK, skipping

log = structlog.get_logger()


async def run(environ: Mapping[str, str], options: argparse.Namespace) -> int:
    """Run the group of one sink, a replay of it, or its check; return the exit code."""
    config, replay = settings.load(SinkProcessSettings, environ), replay_of(options)
    name = options.name_of_sink if replay is None else replay.group.removeprefix(f"{SINK.prefix}.")
    if not name:
        raise SettingsInvalid("--name is missing: that of a sink in the sinks file")
    sinks = sinks_file.watch(config.sinks)
    in_force = in_force_of(name, lambda: sinks().sinks)
    wanted = in_force()
    if options.check:
        sink = await opened(name, in_force, internal_allowed=config.internal_allowed)
        try:
            return await check(sink, wanted)
        finally:
            await close(sink)
    log.info("starting", processor="sink", sink=name, replay=replay and replay.id, **settings.effective(config))
    credentials = FileCredentials(CredentialsFile(config.credentials.path))
    await check_connection(config.kafka)
    live = sinks_file.group_of(name, wanted)
    if live.dead_letters.name not in await topic_names(config.kafka):
        raise Unsettled(f"sink {name} has no topics: `tidegate topics create` makes them where TIDEGATE_SINKS is set")
    group = live if replay is None else live.replaying(replay.id)
    address = SinkAddress(
        name=name,
        topic=group.source.name,
        topic_id=await topic_id(config.kafka, group.source.name),
        replay_id=None if replay is None else replay.id,
    )
    sink = await opened(name, in_force, internal_allowed=config.internal_allowed)
    instruments = telemetry.Telemetry(OF_SINK)
    writer = LogWriter(config.kafka, client_id=group.id)
    breaker = Breaker(
        changed=lambda state, why: log.warning("circuit breaker state changed", state=state.value, reason=why)
    )
    sinking = Sinking(
        address,
        wanted,
        GuardedSink(sink, timeout_s=wanted.timeout_s),
        breaker=breaker,
        skip_until=CommittedOffsets(config.kafka, skipping(live)) if replay is None else _no_order,
        instruments=instruments,
    )
    instruments[SINK_BREAKER_CLOSED].labels(name).set_function(lambda: breaker.is_closed)
    instruments[SINK_HELD].labels(name).set_function(lambda: sinking.held_for is not None)
    check_direct, codec = _reading(group)
    batch = wanted.batch
    try:
        code = await run_group(
            group,
            sinking.write,
            kafka=config.kafka,
            management=config.management,
            read=trusting_reader(check_direct, codec=codec, credentials=credentials),
            dead_letters=writer,  # a replay's too: nobody else tries these records once more
            limit=limit_in_force(config.limits, group),
            instruments=instruments,
            clock_s=time,
            replay=replay,
            gathering=Bounds(records_max=batch.records_max, bytes_max=batch.bytes_max, seconds_max=batch.seconds_max),
        )
    finally:
        await close(sink)
    await writer.close()
    return code


async def _no_order(_partition: int) -> int:
    return 0


def _reading(group: Group) -> tuple[Any, Any]:
    """Return the rules for direct records of the group's source, and its codec."""
    if group.source is USER_EVENTS:
        return of_events.check_direct, EVENT_CODEC
    return of_runs.check_direct, RUN_CODEC


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options for its sink, for a replay of one, and for its check."""
    parser.add_argument("--name", dest="name_of_sink", metavar="NAME", help="which one of the sinks file")
    parser.add_argument(
        "--check", action="store_true", help="write sample events to the sink, as a group would, and say what it did"
    )
    add_replay_option(parser)


PROCESS = Process(run=run, add_options=add_options)
