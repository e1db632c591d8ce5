"""The live streams on a real port, with a log in memory and clocks that a test turns."""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest
from aiohttp import ClientSession, ClientWebSocketResponse

from processors.fanout.access import Access
from processors.fanout.catchup import CatchUp
from processors.fanout.dashboard import Dashboard, GroupStatus, SystemStatus
from processors.fanout.dispatch import Dispatch
from processors.fanout.hub import Hub
from processors.fanout.places import Places, TopicEnds
from processors.fanout.resolving import Resolver
from processors.fanout.server import Server
from processors.fanout.sockets import Sockets
from processors.fanout.tallies import Tallies
from processors.fanout.tickets import Tickets
from processors.runtime.batch import Batch
from schemas.access.credentials import Agent, Credentials, Gateway, Right, Tenant, new_key
from schemas.pacing.breaker import BreakerState
from schemas.process import telemetry
from schemas.runs.records import EndpointState
from tests.faults.processes import free_port
from tests.simulation.streams import IDS, JOB_PARTITIONS, PARTITIONS, MemoryLog, Record, place_for
from tests.support.builders import MAC_SECRET, TENANT, event, run_event
from tests.support.fakes import InForce, MemoryPayloads

NOW = datetime(2026, 1, 1, tzinfo=UTC)
PAGE = "https://console.example"
OTHER = "other"
CLOSE_S = 1.0
CONNECTIONS_MAX = 10
TOPICS = {**PARTITIONS, **JOB_PARTITIONS}


@pytest.fixture
def unused_port() -> int:
    """Return a port that nothing listens on."""
    return free_port()


@dataclass
class Clock:
    """Both clocks, which a test turns."""

    now_s: float = 0.0

    def __call__(self) -> float:
        """Return the monotonic one."""
        return self.now_s

    def now(self) -> datetime:
        """Return the wall's."""
        return NOW + timedelta(seconds=self.now_s)


@dataclass(eq=False)
class Streams:
    """What is served, and what a test may turn."""

    access: Access
    hub: Hub
    sockets: Sockets
    server: Server
    dashboard: Dashboard
    log: MemoryLog
    payloads: MemoryPayloads
    dispatch: Dispatch
    clock: Clock
    url: str
    client: ClientSession
    telemetry: telemetry.Telemetry
    credentials: Credentials
    in_force: InForce
    keys: dict[str, str] = field(default_factory=dict)  # by what it is for
    opened: list[ClientWebSocketResponse] = field(default_factory=list)

    def add_key(
        self,
        name: str,
        *,
        tenant: str = TENANT,
        rights: Sequence[Right] = (Right.READ,),
        agents: list[str] | None = None,
        expires_at: datetime | None = None,
    ) -> None:
        """Make a key, to be called *name*."""
        key_id, key, entry = new_key(tenant=tenant, rights=list(rights), agents=agents, now=NOW, expires_at=expires_at)
        self.credentials.keys[key_id] = entry
        self.keys[name] = key

    def revoke(self, name: str) -> None:
        """Take a key out of force."""
        del self.credentials.keys[self.keys[name].split("_")[1]]

    def headers(self, name: str = "reader") -> dict[str, str]:
        """Return the headers of one who has that key."""
        return {"X-API-Key": self.keys[name]}

    async def connect(self, path: str, key: str | None = "reader", **options: object) -> ClientWebSocketResponse:
        """Open a socket and read its hello."""
        headers = {} if key is None else self.headers(key)
        headers |= options.pop("headers", {})  # type: ignore[arg-type]
        ws = await self.client.ws_connect(self.url + path, headers=headers, **options)  # type: ignore[arg-type]
        self.opened.append(ws)
        assert (await ws.receive_json(timeout=5))["type"] == "hello"
        return ws

    async def refused(self, path: str, headers: dict[str, str]) -> tuple[int, str]:
        """Return the status and the code with which an upgrade is refused."""
        asks = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
        nonce = {"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="}
        async with self.client.get(self.url + path, headers=asks | nonce | headers) as answer:
            assert answer.content_type == "application/problem+json", answer.status
            document = await answer.json()
            assert document["status"] == answer.status
            return answer.status, document["code"]

    async def happen(self, *records: Record) -> None:
        """Write *records* to the log, and tell of each as it comes."""
        for record in records:
            await self.happen_at_once(record)

    async def happen_at_once(self, *records: Record) -> None:
        """Write *records*, of one run or of one job and topic, to the log, and tell of them as one slice."""
        partition, _ = place_for(records[0], TOPICS)
        for record in records:
            self.log.append(partition, record)
        position = self.hub.places.position(partition)
        found = self.log.slice(partition, position, self.log.ends_of[partition], len(records))
        await self.dispatch.deliver(Batch(partition, found))


def happened(seq: int, *, run_id: str = "run-1", agent: str = "plain-agent", **changes: object) -> Record:
    """Return the record of an event."""
    return run_event(event(seq, run_id=run_id, meta={"agent_id": agent}, **changes))


@pytest.fixture
async def streams(unused_port: int) -> AsyncIterator[Streams]:
    """Yield a server with one tenant, another, and a key that reads."""
    clock, instruments = Clock(), telemetry.Telemetry(telemetry.OF_FANOUT)
    agents = {"demo-agent": Agent(secrets=["s"]), "plain-agent": Agent()}
    credentials = Credentials(
        gateway=Gateway(mac_secrets=[MAC_SECRET]),
        tenants={TENANT: Tenant(agents=agents), OTHER: Tenant(agents={"demo-agent": Agent()})},
        keys={},
    )
    in_force = InForce(credentials)
    tickets, tallies, log = Tickets(clock=clock), Tallies(), MemoryLog(random.Random(0), TOPICS)
    access = Access(
        credentials=in_force,
        tickets=tickets,
        origins=frozenset({PAGE}),
        query_keys=True,
        now=clock.now,
    )
    topics = {name: TopicEnds(id=IDS[name], ends=dict.fromkeys(range(many), 0)) for name, many in TOPICS.items()}
    hub = Hub(Places(topics), tallies=tallies, instruments=instruments, clock_ms=lambda: 0.0)
    sockets = Sockets(
        is_key_valid=access.is_key_valid, sockets_max=5, tenant_sockets_max=3, instruments=instruments, clock=clock
    )

    async def read_status() -> SystemStatus:
        groups = ("persistence", "evaluation.ours", "evaluation.theirs", "evaluation.unheard")
        endpoints = {
            name: EndpointState(
                endpoint=name, tenant=of, types=["*"], breaker=BreakerState.OPEN, reason="HTTP 500", since=clock.now()
            )
            for name, of in (("ours", TENANT), ("theirs", "other"))
        }
        return SystemStatus(
            groups=[GroupStatus(group=group, lag_records=3, dead_letters=1) for group in groups], endpoints=endpoints
        )

    dashboard = Dashboard(tallies, read_status, now=clock.now, clock=clock)
    server = Server(
        hub,
        sockets,
        dashboard,
        access=access,
        tickets=tickets,
        instruments=instruments,
        host="127.0.0.1",
        port=unused_port,
        connections_max=CONNECTIONS_MAX,
        clock=clock,
    )
    payloads = MemoryPayloads()
    resolver = Resolver(payloads, clock=clock)
    catch_up = CatchUp(hub, log, log.read_records, resolver=resolver, instruments=instruments, sleep=_turn)
    async with AsyncExitStack() as stack:
        for each in (catch_up, dashboard, server, sockets):
            await stack.enter_async_context(each)  # type: ignore[arg-type]
        served = Streams(
            access=access,
            hub=hub,
            sockets=sockets,
            server=server,
            dashboard=dashboard,
            log=log,
            payloads=payloads,
            dispatch=Dispatch(hub, log, log.read_records),
            clock=clock,
            url=f"http://127.0.0.1:{unused_port}",
            client=await stack.enter_async_context(ClientSession()),
            telemetry=instruments,
            credentials=credentials,
            in_force=in_force,
        )
        served.add_key("reader")
        yield served
        for ws in served.opened:
            with suppress(TimeoutError):  # one that reads no more answers no close either
                async with asyncio.timeout(CLOSE_S):
                    await ws.close()


async def _turn(_seconds: float) -> None:
    await asyncio.sleep(0)
