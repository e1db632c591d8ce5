"""The process of one endpoint: how it is put together."""

import argparse
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from time import time

import structlog

from processors.outbound.breaker import Breaker
from processors.outbound.sending import Poster
from processors.runs.evaluation.config import EvaluationSettings
from processors.runs.evaluation.forwarding import Forwarder
from processors.runs.evaluation.sending import Sender, measured
from processors.runs.evaluation.states import EndpointStates
from processors.runtime.cluster import check_connection, topic_names
from processors.runtime.dead_letters import LogWriter
from processors.runtime.errors import Unsettled
from processors.runtime.group import run_group
from processors.runtime.limit import limit_in_force
from processors.runtime.payloads import ObstorePayloads
from processors.runtime.process import Process
from processors.runtime.reading import trusting_reader
from processors.runtime.replaying import add_replay_option, replay_of
from schemas.access.credentials import CredentialsFile, FileCredentials
from schemas.outbound.addresses import url_fault
from schemas.outbound.connector import connector
from schemas.process import settings, telemetry
from schemas.process.settings import SettingsInvalid
from schemas.runs.codec import RUN_CODEC
from schemas.runs.endpoints import Endpoint, watch
from schemas.runs.telemetry import OF_EVALUATION, WEBHOOK_BREAKER_CLOSED
from schemas.runs.topics import EVALUATION
from schemas.runs.validity import check_direct

FETCH_RECORDS_MAX = 500  # a slice that is given up half-way is sent again

log = structlog.get_logger()


async def run(environ: Mapping[str, str], options: argparse.Namespace) -> int:
    """Run the group of one endpoint, or a replay of it; return its exit code."""
    config, replay = settings.load(EvaluationSettings, environ), replay_of(options)
    name = options.endpoint if replay is None else replay.group.removeprefix(f"{EVALUATION.prefix}.")
    if not name:
        raise SettingsInvalid("--endpoint is missing: the name of one in the endpoints file")
    log.info(
        "starting", processor="evaluation", endpoint=name, replay=replay and replay.id, **settings.effective(config)
    )
    endpoint = _endpoint_in_force(name, config)
    credentials = FileCredentials(CredentialsFile(config.credentials.path))
    await check_connection(config.kafka)
    there = EVALUATION.members_among(await topic_names(config.kafka))
    live = next((each for each in there if each.member == name), None)
    if live is None:
        raise Unsettled(f"endpoint {name} has no topics: `tidegate topics create` makes them")
    group = live if replay is None else live.replaying(replay.id)
    instruments = telemetry.Telemetry(OF_EVALUATION)
    writer = LogWriter(config.kafka, client_id=group.id)
    async with AsyncExitStack() as stack:
        if replay is None:
            states = EndpointStates(group, endpoint, kafka=config.kafka, writer=writer, clock=lambda: datetime.now(UTC))
            breaker = (await stack.enter_async_context(states)).breaker
        else:
            breaker = Breaker(
                changed=lambda state, why: log.warning("circuit breaker state changed", state=state.value, reason=why)
            )
        poster = Poster(
            connector(internal_allowed=config.internal_allowed),
            internal_allowed=config.internal_allowed,
            clock=lambda: datetime.now(UTC),
        )
        stack.push_async_callback(poster.close)
        sender = Sender(poster, replay=replay is not None, clock=lambda: datetime.now(UTC))
        forwarder = Forwarder(
            endpoint,
            send=measured(sender, name, instruments),
            payloads=ObstorePayloads(config.objects.location),
            breaker=breaker,
            concurrency=endpoint().concurrency,
        )
        instruments[WEBHOOK_BREAKER_CLOSED].labels(name).set_function(lambda: breaker.is_closed)
        code = await run_group(
            group,
            forwarder.forward,
            kafka=config.kafka,
            management=config.management,
            read=trusting_reader(check_direct, codec=RUN_CODEC, credentials=credentials),
            dead_letters=writer,  # a replay's too: nobody else tries these records once more
            limit=limit_in_force(config.limits, group),
            instruments=instruments,
            clock_s=time,
            replay=replay,
            fetch_records_max=FETCH_RECORDS_MAX,
        )
    await writer.close()
    return code


def _endpoint_in_force(name: str, config: EvaluationSettings) -> Callable[[], Endpoint]:
    """Return the endpoint as its file has it now; one that is taken out of the file stays as it was last."""
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


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options for its endpoint and for a replay of one."""
    parser.add_argument("--endpoint", metavar="NAME", help="which one of the endpoints file")
    add_replay_option(parser)


PROCESS = Process(run=run, add_options=add_options)
