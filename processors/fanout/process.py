"""The fanout process: how it is put together."""

import argparse
from collections.abc import Mapping
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from time import monotonic, time

import structlog

from processors.fanout.access import Access
from processors.fanout.catchup import CatchUp
from processors.fanout.config import FanoutSettings
from processors.fanout.connections import BESIDE_SOCKETS
from processors.fanout.dashboard import Dashboard
from processors.fanout.dispatch import Dispatch
from processors.fanout.group import FanoutGroup
from processors.fanout.hub import Hub
from processors.fanout.log import KafkaLog
from processors.fanout.places import Places
from processors.fanout.reading import stream_reader
from processors.fanout.resolving import Resolver
from processors.fanout.server import Server
from processors.fanout.sockets import Sockets, raise_open_file_limit
from processors.fanout.status_reader import SystemStatusReader
from processors.fanout.tallies import Tallies
from processors.fanout.tickets import Tickets
from processors.runtime.cluster import check_connection
from processors.runtime.health import Health
from processors.runtime.payloads import ObstorePayloads
from processors.runtime.process import Process
from processors.runtime.worker import Worker
from schemas.access.credentials import CredentialsFile, FileCredentials
from schemas.process import settings, telemetry

log = structlog.get_logger()


async def run(environ: Mapping[str, str], _options: argparse.Namespace) -> int:
    """Serve live streams; return the exit code."""
    config = settings.load(FanoutSettings, environ)
    log.info("starting", processor="fanout", **settings.effective(config))
    raise_open_file_limit(config.streams.sockets_max)
    await check_connection(config.kafka)
    credentials = FileCredentials(CredentialsFile(config.credentials.path))
    health, instruments = Health(), telemetry.Telemetry(telemetry.OF_FANOUT)
    tickets, tallies = Tickets(clock=monotonic), Tallies()
    access = Access(
        credentials=credentials,
        tickets=tickets,
        origins=frozenset(settings.entries_of(config.streams.origins)),
        query_keys=config.streams.query_keys,
        now=lambda: datetime.now(UTC),
    )
    read = stream_reader(credentials)

    async with AsyncExitStack() as stack:
        source = await stack.enter_async_context(KafkaLog(config.kafka))
        places = Places(await source.topics())
        hub = Hub(places, tallies=tallies, instruments=instruments, clock_ms=lambda: time() * 1000)
        resolver = Resolver(ObstorePayloads(config.objects.location), clock=monotonic)
        await stack.enter_async_context(CatchUp(hub, source, read, resolver=resolver, instruments=instruments))
        groups = await stack.enter_async_context(SystemStatusReader(config.kafka))
        dashboard = await stack.enter_async_context(
            Dashboard(tallies, groups.read, now=lambda: datetime.now(UTC), clock=monotonic)
        )
        server = Server(
            hub,
            sockets := Sockets(
                is_key_valid=access.is_key_valid,
                sockets_max=config.streams.sockets_max,
                tenant_sockets_max=config.streams.tenant_sockets_max,
                instruments=instruments,
            ),
            dashboard,
            access=access,
            tickets=tickets,
            instruments=instruments,
            host=config.streams.host,
            port=config.streams.port,
            connections_max=config.streams.sockets_max + BESIDE_SOCKETS,
        )
        await stack.enter_async_context(server)
        await stack.enter_async_context(sockets)  # whose end comes first: each is told that this process goes
        worker = Worker(
            FanoutGroup(),
            kafka=config.kafka,
            work=Dispatch(hub, source, read).deliver,
            health=health,
            instruments=instruments,
            ends={},
            starts=places.position,
        )
        return await worker.run(config.management)


PROCESS = Process(run=run)
