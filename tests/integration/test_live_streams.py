"""Live streams on the real stack: from a POST, or a record that somebody wrote himself, to a websocket."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from secrets import token_hex
from time import monotonic
from typing import Any

import pytest
from aiohttp import ClientSession, ClientWebSocketResponse, WSMsgType, WSServerHandshakeError
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from schemas.access import credentials as credentials_file
from schemas.access.credentials import Agent, CredentialsFile, Right, Tenant
from schemas.catalogue import CODEC, all_topics
from schemas.kafka import cursors
from schemas.kafka.clients import producer_config
from schemas.kafka.partitioner import partition_of
from schemas.objects.references import INLINE_BYTES_MAX
from schemas.runs.records import RunStatus, TraceRecord
from schemas.runs.topics import RUN_EVENTS, RUN_TRACES, trace_key
from tests.faults.groups import wait_for_every_group
from tests.faults.processes import own_process
from tests.support import builders
from tests.support.stack import RunningStack

TOLD_S = 15.0
STOPS_S = 10.0
Message = dict[str, Any]


@pytest.fixture
def run_id() -> str:
    return f"live-{token_hex(8)}"


class Streams:
    """The stack's fanout and gateway, as one key sees them."""

    def __init__(self, stack: RunningStack, session: ClientSession, key: str | None = None) -> None:
        known = stack.addresses
        assert known.websocket
        self.gateway, self.websocket = known.gateway, known.websocket
        self.key = known.api_key if key is None else key
        self.session = session

    @property
    def headers(self) -> dict[str, str]:
        return {"X-API-Key": self.key}

    @asynccontextmanager
    async def connect(self, path: str, **headers: str) -> AsyncIterator[ClientWebSocketResponse]:
        async with self.session.ws_connect(self.websocket + path, headers={**self.headers, **headers}) as ws:
            yield ws

    async def send(self, run_id: str, *seqs: int, wait: bool = False, **changes: Any) -> list[str]:
        receipts = []
        for seq in seqs:
            url = f"{self.gateway}/api/runs/{run_id}/events/{'?wait=persistence' if wait else ''}"
            event = builders.event(seq, run_id=run_id, **changes)
            async with self.session.post(url, json=event, headers=self.headers) as answer:
                assert answer.status == 202, await answer.text()
                receipts.append((await answer.json())["wal_id"])
        return receipts

    async def finalize(self, run_id: str) -> None:
        url = f"{self.gateway}/api/runs/{run_id}/finalize"
        async with self.session.post(url, json={"status": "succeeded"}, headers=self.headers) as answer:
            assert answer.status == 202, await answer.text()

    async def page(self, run_id: str, query: str = "") -> Message:
        async with self.session.get(f"{self.gateway}/api/runs/{run_id}/events{query}", headers=self.headers) as answer:
            assert answer.status == 200, await answer.text()
            return dict(await answer.json())

    async def refused(self, path: str, **headers: str) -> int:
        with pytest.raises(WSServerHandshakeError) as refusal:
            async with self.session.ws_connect(self.websocket + path, headers=headers):
                pass
        return refusal.value.status


@pytest.fixture
async def streams(stack: RunningStack) -> AsyncIterator[Streams]:
    async with ClientSession() as session:
        yield Streams(stack, session)


async def told(ws: ClientWebSocketResponse, count: int) -> list[Message]:
    """Return the next so many messages, but for pings."""
    messages: list[Message] = []
    async with asyncio.timeout(TOLD_S):
        while len(messages) < count:
            message = await ws.receive_json()
            if message["type"] != "ping":
                messages.append(message)
    return messages


async def silence(ws: ClientWebSocketResponse) -> None:
    """Demand that what was sent to others has not come here."""
    await ws.send_str('{"type":"ping"}')
    assert [each["type"] for each in await told(ws, 1)] == ["pong"]


def seqs(messages: list[Message]) -> list[int]:
    return [message["event"]["seq"] for message in messages]


def produce(stack: RunningStack, topic: str, key: bytes, value: bytes) -> None:
    producer = Producer(producer_config(stack.kafka, client_id="test"))
    producer.produce(topic, value, key)
    assert producer.flush(TOLD_S) == 0


@asynccontextmanager
async def more_credentials(stack: RunningStack, session: ClientSession, **key: Any) -> AsyncIterator[Streams]:
    """Streams as a further key of the stack sees them."""
    path = stack.folder / "credentials.toml"
    before = CredentialsFile(path).current(now_s=monotonic())
    key_id, shown, entry = credentials_file.new_key(
        **{"tenant": builders.TENANT, "rights": [Right.READ, Right.INGEST], "agents": None, **key},
        now=datetime.now(UTC),
    )
    tenants = {**before.tenants, "other": Tenant(agents={"plain-agent": Agent()})}
    changed = credentials_file.Credentials(gateway=before.gateway, tenants=tenants, keys={**before.keys, key_id: entry})
    credentials_file.write(path, changed)
    try:
        yield Streams(stack, session, shown)
    finally:
        credentials_file.write(path, before)


async def test_a_large_payload_is_told_where_it_is_asked_for(streams: Streams, run_id: str) -> None:
    path, payload = f"/ws/runs/{run_id}/", {"text": "x" * INLINE_BYTES_MAX}
    async with streams.connect(path) as plain, streams.connect(f"{path}?resolve=true") as resolving:
        await streams.send(run_id, 1)
        await streams.send(run_id, 2, payload=payload)
        await streams.send(run_id, 3)
        await streams.finalize(run_id)
        _, *by_reference = await told(plain, 6)
        _, *whole = await told(resolving, 6)
    kinds = ["trace_event"] * 3 + ["run_finalized", "trace_record"]
    assert [each["type"] for each in by_reference] == [each["type"] for each in whole] == kinds
    assert (by_reference[1]["event"]["payload"], whole[1]["event"]["payload"]) == (None, payload)
    cursor = whole[0]["cursor"]
    async with streams.connect(f"{path}?resolve=true&cursor={cursor}") as again:
        _, *resumed = await told(again, 5)
    assert [each["event"] for each in resumed[:2]] == [each["event"] for each in whole[1:3]]


async def test_a_run_is_told_from_its_first_event_to_its_trace(streams: Streams, run_id: str) -> None:
    async with streams.connect(f"/ws/runs/{run_id}/") as ws, streams.connect("/ws/agents/plain-agent") as agent:
        assert [(await told(each, 1))[0]["type"] for each in (ws, agent)] == ["hello", "hello"]
        receipts = await streams.send(run_id, 1, 2, 3)
        await streams.finalize(run_id)
        messages = await told(ws, 5)
        assert [message["type"] for message in messages] == [*["trace_event"] * 3, "run_finalized", "trace_record"]
        assert [message["wal_id"] for message in messages[:3]] == receipts
        assert (messages[3]["status"], messages[4]["trace"]["event_count"]) == ("succeeded", 3)
        of_agent = await told(agent, 3)
        assert [message["wal_id"] for message in of_agent] == receipts


async def test_from_every_cursor_the_rest_comes_once_and_in_order(streams: Streams, run_id: str) -> None:
    async with streams.connect(f"/ws/runs/{run_id}/") as ws:
        await told(ws, 1)
        await streams.send(run_id, *range(1, 6))
        await streams.finalize(run_id)
        whole = await told(ws, 7)
    for place, message in enumerate(whole):
        async with streams.connect(f"/ws/runs/{run_id}/?cursor={message['cursor']}") as again:
            _, *rest = await told(again, len(whole) - place)
            assert [{**each, "cursor": None} for each in rest] == [
                {**each, "cursor": None} for each in whole[place + 1 :]
            ]


async def test_an_agent_goes_on_over_all_partitions(streams: Streams, run_id: str) -> None:
    runs = [f"{run_id}-{number}" for number in range(12)]
    async with streams.connect("/ws/agents/plain-agent") as ws:
        (hello,) = await told(ws, 1)
    for seq in (1, 2):
        for run in runs:
            await streams.send(run, seq)
    async with streams.connect(f"/ws/agents/plain-agent?cursor={hello['cursor']}") as ws:
        await told(ws, 1)
        messages = [each for each in await told(ws, 24) if each["event"]["run_id"] in runs]
        assert {run: [m["event"]["seq"] for m in messages if m["event"]["run_id"] == run] for run in runs} == {
            run: [1, 2] for run in runs
        }
        middle = messages[11]["cursor"]
    async with streams.connect(f"/ws/agents/plain-agent?cursor={middle}") as ws:
        await told(ws, 1)
        assert {json.dumps(each["event"]) for each in await told(ws, 12)} == {
            json.dumps(each["event"]) for each in messages[12:]
        }


async def test_pages_and_a_socket_have_no_hole_between_them(streams: Streams, run_id: str) -> None:
    """While events come in: whatever the page did not show, the socket does."""

    async def send() -> None:
        for seq in range(2, 80):
            await streams.send(run_id, seq)

    await streams.send(run_id, 1, wait=True)
    sending = asyncio.create_task(send())
    while not sending.done():
        page = await streams.page(run_id, "?limit=500")
        shown = [event["seq"] for event in page["events"]]
        async with streams.connect(f"/ws/runs/{run_id}?cursor={page['live_cursor']}") as ws:
            await told(ws, 1)
            first = seqs(await told(ws, 1))[0] if not sending.done() else shown[-1]
        assert shown == list(range(1, len(shown) + 1))
        assert first <= shown[-1] + 1
    await sending
    page = await streams.page(run_id, "?limit=5")
    async with streams.connect(f"/ws/runs/{run_id}?cursor={page['live_cursor']}") as ws:
        await told(ws, 1)
        await streams.send(run_id, 80)
        while seqs(await told(ws, 1)) != [80]:
            pass


async def test_what_somebody_forged_reaches_nobody(stack: RunningStack, streams: Streams, run_id: str) -> None:
    key = run_id.encode()
    trace = TraceRecord(
        tenant=builders.TENANT,
        run_id=run_id,
        status=RunStatus.SUCCEEDED,
        event_count=1,
        chain_head=bytes(32),
        document='{"forged":true}',
    )
    async with streams.connect(f"/ws/runs/{run_id}/") as ws, streams.connect("/ws/agents/demo-agent") as agent:
        hello, _ = (await told(ws, 1))[0], await told(agent, 1)
        await streams.send(run_id, 1)
        for seq, secret in ((2, "wrong"), (3, None)):
            event = builders.event(seq, run_id=run_id)
            forged = event if secret is None else builders.signed(event, secret=secret)
            produce(stack, RUN_EVENTS.name, key, CODEC.encode(builders.run_event(forged)))
        produce(stack, RUN_EVENTS.name, key, b"\0\0\0\0\1poison")
        produce(stack, RUN_TRACES.name, trace_key(builders.TENANT, run_id), CODEC.encode(trace))
        signed = builders.signed(builders.event(2, run_id=run_id), secret=stack.addresses.agent_secret)
        produce(stack, RUN_EVENTS.name, key, CODEC.encode(builders.run_event(signed)))
        assert seqs(await told(ws, 2)) == [1, 2]
        assert seqs(await told(agent, 1)) == [2]
        await silence(ws)
    async with streams.connect(f"/ws/runs/{run_id}/?cursor={hello['cursor']}") as again:
        assert seqs((await told(again, 3))[1:]) == [1, 2]
        await silence(again)


async def test_two_tenants_see_their_own_runs_and_agents(stack: RunningStack, streams: Streams, run_id: str) -> None:
    async with more_credentials(stack, streams.session, tenant="other") as others:
        async with (
            others.connect(f"/ws/runs/{run_id}/") as run,
            others.connect("/ws/agents/plain-agent") as agent,
            others.connect("/ws/dashboard/") as dashboard,
            streams.connect(f"/ws/runs/{run_id}/") as mine,
        ):
            hello = (await told(run, 1))[0]
            for ws in (agent, dashboard, mine):
                await told(ws, 1)
            await streams.send(run_id, 1)
            await told(mine, 1)
            for ws in (run, agent):
                await silence(ws)
            assert [each["counts"] for each in await told(dashboard, 2)] == [{}, {}]
            await others.send(run_id, 1)
            assert seqs(await told(run, 1)) == seqs(await told(agent, 1)) == [1]
        async with others.connect(f"/ws/runs/{run_id}/?cursor={hello['cursor']}") as again:
            assert seqs((await told(again, 2))[1:]) == [1]
            await silence(again)


async def test_a_revoked_key_takes_its_sockets_with_it(stack: RunningStack, streams: Streams, run_id: str) -> None:
    async with more_credentials(stack, streams.session) as others:
        async with others.session.post(_tickets(others), headers=others.headers) as answer:
            ticket = (await answer.json())["ticket"]
        async with others.connect(f"/ws/runs/{run_id}/") as ws:
            await told(ws, 1)
            path = stack.folder / "credentials.toml"
            now = CredentialsFile(path).current(now_s=monotonic())
            kept = {key_id: key for key_id, key in now.keys.items() if key_id != others.key.split("_")[1]}
            credentials_file.write(
                path, credentials_file.Credentials(gateway=now.gateway, tenants=now.tenants, keys=kept)
            )
            revoked_at_s = monotonic()
            assert (await ws.receive(timeout=TOLD_S)).type is WSMsgType.CLOSE
            assert (ws.close_code, monotonic() - revoked_at_s < 2.5) == (4401, True)
        assert await streams.refused(f"/ws/runs/{run_id}/?ticket={ticket}") == 401
        assert await streams.refused(f"/ws/runs/{run_id}/", **others.headers) == 401


def _tickets(streams: Streams) -> str:
    return f"{streams.websocket.replace('ws', 'http', 1)}/ws-tickets"


async def test_a_web_page_of_the_gateway_connects_by_ticket_and_a_foreign_one_does_not(
    streams: Streams, run_id: str
) -> None:
    page, path = {"Origin": streams.gateway}, f"/ws/runs/{run_id}/"
    async with streams.session.post(_tickets(streams), headers={**streams.headers, **page}) as answer:
        ticket = (await answer.json())["ticket"]
    async with streams.session.ws_connect(f"{streams.websocket}{path}?ticket={ticket}", headers=page) as ws:
        assert (await told(ws, 1))[0]["type"] == "hello"
    assert await streams.refused(f"{path}?ticket={ticket}", **page) == 401
    foreign = {"Origin": "https://evil.example"}
    assert await streams.refused(path, **streams.headers, **foreign) == 403
    async with streams.session.post(_tickets(streams), headers={**streams.headers, **foreign}) as answer:
        assert answer.status == 403


async def test_keys_in_urls_are_not_logged(stack: RunningStack, streams: Streams, run_id: str) -> None:
    async with streams.session.ws_connect(f"{streams.websocket}/ws/runs/{run_id}/?api_key={streams.key}") as ws:
        await told(ws, 1)
    await streams.refused(f"/ws/runs/{run_id}/?api_key={streams.key}x&cursor=y")
    assert streams.key.split("_")[2] not in stack.log("fanout")


async def test_a_cursor_of_a_topic_that_is_no_more_is_answered_with_a_reset(streams: Streams, run_id: str) -> None:
    async with streams.connect(f"/ws/runs/{run_id}/") as ws:
        await told(ws, 1)
        await streams.send(run_id, 1)
        assert seqs(await told(ws, 1)) == [1]
    old = cursors.encode({"A" * 22: {0: 0}})
    async with streams.connect(f"/ws/runs/{run_id}/?cursor={old}") as ws:
        hello, reset = await told(ws, 2)
        assert (hello["type"], reset["type"], reset["reason"]) == ("hello", "reset", "recreated")
        await streams.send(run_id, 2)
        (event,) = await told(ws, 1)
        assert event["event"]["seq"] == 2
    async with streams.connect(f"/ws/runs/{run_id}/?cursor={reset['cursor']}") as again:
        assert seqs((await told(again, 2))[1:]) == [2]


async def test_an_expired_place_is_answered_with_a_reset(stack: RunningStack, streams: Streams, run_id: str) -> None:
    """And the events before it are not shown as if nothing were missing."""
    async with streams.connect(f"/ws/runs/{run_id}/") as ws:
        (hello,) = await told(ws, 1)
        await streams.send(run_id, 1, 2, wait=True)
        _, second = await told(ws, 2)
    _, partition, offset = second["wal_id"].split("/")
    await asyncio.to_thread(wait_for_every_group, stack)  # a worker whose records expire before it came to them stops
    admin = AdminClient({"bootstrap.servers": stack.addresses.kafka})
    for deleted in admin.delete_records([TopicPartition(RUN_EVENTS.name, int(partition), int(offset))]).values():
        deleted.result(30)
    async with streams.connect(f"/ws/runs/{run_id}/?cursor={hello['cursor']}") as ws:
        _, reset = await told(ws, 2)
        assert (reset["type"], reset["reason"]) == ("reset", "expired")
        await streams.send(run_id, 3)
        assert seqs(await told(ws, 1)) == [3]


async def test_a_place_beyond_the_end_is_answered_with_a_reset(streams: Streams, run_id: str) -> None:
    async with streams.connect(f"/ws/runs/{run_id}/") as ws:
        (hello,) = await told(ws, 1)
    events, *traces = sorted(
        cursors.decode(hello["cursor"]).items(),
        key=lambda item: item[1] != {partition_of(run_id.encode(), 8): next(iter(item[1].values()))},
    )
    ahead = {topic: {each: offset + 10**6 for each, offset in places.items()} for topic, places in (events, *traces)}
    async with streams.connect(f"/ws/runs/{run_id}/?cursor={cursors.encode(ahead)}") as ws:
        _, reset = await told(ws, 2)
        assert (reset["type"], reset["reason"]) == ("reset", "ahead")


async def test_a_slow_reader_is_cut_while_another_goes_on(streams: Streams, run_id: str) -> None:
    """And holds everything when it comes back."""
    count, text = 130, "x" * 100_000
    async with streams.connect(f"/ws/runs/{run_id}/") as slow, streams.connect(f"/ws/runs/{run_id}/") as quick:
        await told(slow, 1)
        await told(quick, 1)
        protocol = slow._conn.protocol  # type: ignore[union-attr]
        assert protocol is not None
        protocol.pause_reading()
        for seq in range(1, count + 1):  # no faster than the other one reads
            await streams.send(run_id, seq, payload={"text": text})
            assert seqs(await told(quick, 1)) == [seq]
        protocol.resume_reading()
        messages: list[Message] = []
        while (message := await slow.receive(timeout=TOLD_S)).type is WSMsgType.TEXT:
            messages.append(json.loads(message.data))
        assert (message.type, slow.close_code, messages[-1]["type"]) == (WSMsgType.CLOSE, 4408, "slow_reader")
        assert not quick.closed
    async with streams.connect(f"/ws/runs/{run_id}/?cursor={messages[-1]['cursor']}") as again:
        _, *rest = await told(again, 1 + count - (len(messages) - 1))
        assert seqs(messages[:-1] + rest) == list(range(1, count + 1))


async def test_the_dashboard_counts_what_happens_in_its_tenant(streams: Streams, run_id: str) -> None:
    async with streams.connect("/ws/dashboard/") as ws:
        await told(ws, 1)
        await streams.send(run_id, 1, 2, 3, type="live.dashboard")
        await streams.finalize(run_id)
        counted, finalized, groups, endpoints = 0, [], None, None
        async with asyncio.timeout(TOLD_S):
            while counted < 3 or not finalized or not groups or not endpoints:
                (message,) = await told(ws, 1)
                counted += message["counts"].get("live.dashboard", 0)
                finalized += [each for each in message["finalized"] if each["run_id"] == run_id]
                groups, endpoints = message["groups"], message["endpoints"]
        assert (counted, finalized[0]["status"]) == (3, "succeeded")
        assert {each["group"] for each in groups} >= {"persistence", "evaluation.default"}
        assert [each["breaker"] for each in endpoints if each["name"] == "default"] == ["closed"]


async def test_a_fanout_that_is_told_to_end_says_so_and_leaves_nothing_behind(
    stack: RunningStack, streams: Streams, run_id: str, tmp_path: Path
) -> None:
    with own_process(stack, tmp_path, "fanout") as own:
        own.wait_ready()
        streams.websocket = own.websocket
        async with streams.connect(f"/ws/runs/{run_id}/") as ws:
            await told(ws, 1)
            await streams.send(run_id, 1)
            assert seqs(await told(ws, 1)) == [1]
            own.kill(signal.SIGTERM)
            assert (await ws.receive(timeout=TOLD_S)).type is WSMsgType.CLOSE
            assert ws.close_code == 1001
        assert await asyncio.to_thread(own.wait_end, STOPS_S) == 0, own.log
        group_id = next(json.loads(line)["group"] for line in own.log.splitlines() if '"group"' in line)
    admin = AdminClient({"bootstrap.servers": stack.addresses.kafka})
    listed = await asyncio.to_thread(lambda: admin.list_consumer_groups().result(30))
    # Kafka drops a group without members and offsets by itself, within minutes.
    assert {group.group_id: group.state.name for group in listed.valid}.get(group_id, "EMPTY") == "EMPTY"
    assert group_id.startswith("tidegate.fanout.")


def test_the_fanout_is_no_group_that_is_waited_for(stack: RunningStack) -> None:
    assert "fanout" not in stack.command("lag")
    assert not [topic for topic in all_topics() if "fanout" in topic.name]
