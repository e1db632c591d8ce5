"""Who gets a stream or a ticket, and who does not."""

import asyncio
import socket
from datetime import timedelta

import msgspec
import pytest
from aiohttp import WSMsgType

from processors.fanout.tickets import VALID_S
from schemas.access.credentials import Agent, Right, new_key
from schemas.kafka import cursors
from tests.simulation.streams import IDS
from tests.support.builders import TENANT
from tests.unit.processors.fanout.conftest import NOW, OTHER, PAGE, Streams

RUN = "/ws/runs/run-1/"


@pytest.mark.parametrize("path", [RUN, RUN[:-1], "/ws/agents/plain-agent/", "/ws/agents/plain-agent", "/ws/dashboard/"])
async def test_a_stream_is_opened_with_a_key_in_a_header(streams: Streams, path: str) -> None:
    for headers in (streams.headers(), {"Authorization": f"bearer {streams.keys['reader']}"}):
        async with streams.client.ws_connect(streams.url + path, headers=headers) as ws:
            assert (await ws.receive_json(timeout=5))["type"] == "hello"


async def test_a_key_may_stand_in_the_url_unless_that_is_switched_off(streams: Streams) -> None:
    path = f"{RUN}?api_key={streams.keys['reader']}"
    await streams.connect(path, key=None)
    streams.access._query_keys = False
    assert await streams.refused(path, {}) == (401, "UNAUTHENTICATED")


@pytest.mark.parametrize(
    ("headers", "status"),
    [({}, 401), ({"X-API-Key": "tg_1_2"}, 401), ({"Authorization": "Basic eDp5"}, 401), ({"X-API-Key": ""}, 401)],
)
async def test_without_a_valid_key_there_is_nothing(streams: Streams, headers: dict[str, str], status: int) -> None:
    assert (await streams.refused(RUN, headers))[0] == status
    async with streams.client.post(f"{streams.url}/ws-tickets", headers=headers) as answer:
        assert answer.status == status


async def test_a_key_needs_the_right_to_read(streams: Streams) -> None:
    streams.add_key("writer", rights=[Right.INGEST])
    assert await streams.refused(RUN, streams.headers("writer")) == (403, "FORBIDDEN")


async def test_an_agent_is_followed_by_keys_that_may(streams: Streams) -> None:
    streams.add_key("bound", agents=["demo-agent"])
    await streams.connect("/ws/agents/demo-agent", "bound")
    for path, key in (
        ("/ws/agents/plain-agent", "bound"),
        ("/ws/agents/unknown", "reader"),
        ("/ws/dashboard", "bound"),
    ):
        assert await streams.refused(path, streams.headers(key)) == (403, "FORBIDDEN")


async def test_an_agent_of_another_tenant_is_none(streams: Streams) -> None:
    streams.add_key("stranger", tenant=OTHER)
    assert await streams.refused("/ws/agents/plain-agent", streams.headers("stranger")) == (403, "FORBIDDEN")


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "", f"{PAGE}.evil.example", PAGE.upper()])
async def test_a_foreign_page_gets_nothing(streams: Streams, origin: str) -> None:
    headers = streams.headers() | {"Origin": origin}
    assert await streams.refused(RUN, headers) == (403, "FORBIDDEN")
    for method in ("POST", "OPTIONS"):
        async with streams.client.request(method, f"{streams.url}/ws-tickets", headers=headers) as answer:
            assert (answer.status, "Access-Control-Allow-Origin" in answer.headers) == (403, False)


async def test_an_allowed_page_gets_a_ticket_and_a_stream(streams: Streams) -> None:
    page = {"Origin": PAGE}
    async with streams.client.options(f"{streams.url}/ws-tickets", headers=page) as answer:
        assert (answer.status, answer.headers["Access-Control-Allow-Origin"]) == (204, PAGE)
        assert "X-API-Key" in answer.headers["Access-Control-Allow-Headers"]
    async with streams.client.post(f"{streams.url}/ws-tickets", headers=streams.headers() | page) as answer:
        given = await answer.json()
        assert (answer.headers["Access-Control-Allow-Origin"], given["expires_in_s"]) == (PAGE, VALID_S)
    path = f"{RUN}?ticket={given['ticket']}"
    async with streams.client.ws_connect(streams.url + path, headers=page) as ws:
        assert (await ws.receive_json(timeout=5))["type"] == "hello"
    assert await streams.refused(path, page) == (401, "UNAUTHENTICATED")


async def ticket(streams: Streams, key: str = "reader") -> str:
    async with streams.client.post(f"{streams.url}/ws-tickets/", headers=streams.headers(key)) as answer:
        assert (answer.status, answer.headers["Cache-Control"]) == (200, "no-store")
        return str((await answer.json())["ticket"])


async def test_a_ticket_ends_with_its_time_and_with_its_key(streams: Streams) -> None:
    streams.add_key("soon")
    late, revoked = await ticket(streams), await ticket(streams, "soon")
    streams.revoke("soon")
    assert (await streams.refused(f"{RUN}?ticket={revoked}", {}))[0] == 401
    streams.clock.now_s = VALID_S
    assert (await streams.refused(f"{RUN}?ticket={late}", {}))[0] == 401


async def test_a_ticket_may_what_its_key_may(streams: Streams) -> None:
    streams.add_key("bound", agents=["demo-agent"])
    path = f"/ws/agents/plain-agent?ticket={await ticket(streams, 'bound')}"
    assert (await streams.refused(path, {}))[0] == 403


async def test_a_tenant_has_room_for_so_many_sockets_and_all_for_so_many(streams: Streams) -> None:
    streams.add_key("stranger", tenant=OTHER)
    mine = [await streams.connect(RUN) for _ in range(3)]
    assert await streams.refused(RUN, streams.headers()) == (429, "RATE_LIMIT_EXCEEDED")
    theirs = [await streams.connect(RUN, "stranger") for _ in range(2)]
    assert await streams.refused(RUN, streams.headers("stranger")) == (503, "BACKPRESSURE")
    await mine[0].close()
    await streams.connect(RUN)
    assert not any(ws.closed for ws in theirs)


def cursor(**places: dict[int, int]) -> str:
    return cursors.encode({IDS[topic.replace("_", ".")]: offsets for topic, offsets in places.items()})


@pytest.mark.parametrize(
    ("path", "code"),
    [
        (f"{RUN}?cursor=nonsense", 400),
        (f"{RUN}?cursor=", 400),
        (f"{RUN}?cursor={cursor(run_traces={0: 0, 1: 0})}", 400),  # says nothing of events
        (f"/ws/agents/plain-agent?cursor={cursor(run_events={0: 0})}", 400),  # of one partition only
        (f"/ws/dashboard?cursor={cursor(run_events={0: 0, 1: 0})}", 422),
        ("/ws/dashboard?resolve=true", 422),
        (f"{RUN}?agent_id=1", 422),
        (f"{RUN}?Cursor=x", 422),
        (f"{RUN}?=", 422),
        (f"{RUN}?{'a' * 7000}", 422),
        (f"{RUN}?%ed%a0%80=%00", 422),
        (f"{RUN}?resolve=true&resolve=false", 422),
        ("/ws/agents/plain-agent?limit=1", 422),
        ("/ws/runs/a%20b", 400),
        ("/ws/runs/..%2f", 400),
        ("/ws/nothing", 404),
        ("/", 404),
    ],
)
async def test_what_makes_no_sense_is_refused_before_the_upgrade(streams: Streams, path: str, code: int) -> None:
    assert (await streams.refused(path, streams.headers()))[0] == code


async def test_an_unknown_parameter_is_named_and_no_value_is_shown(streams: Streams) -> None:
    async with streams.client.get(f"{streams.url}{RUN}?apikey=tg_secret_value", headers=streams.headers()) as answer:
        problem = await answer.json()
    assert (answer.status, problem["code"]) == (422, "VALIDATION_ERROR")
    assert problem["detail"] == ("unknown query parameter 'apikey'; this path has cursor, resolve, ticket, api_key")
    async with streams.client.post(f"{streams.url}/ws-tickets?ttl=60", headers=streams.headers()) as answer:
        problem = await answer.json()
    assert (answer.status, problem["detail"]) == (
        422,
        "unknown query parameter 'ttl'; this path has no query parameters",
    )


async def test_a_ticket_outlives_a_request_with_an_unknown_parameter(streams: Streams) -> None:
    """It has one use, and none was made of it."""
    given = await ticket(streams)
    assert (await streams.refused(f"{RUN}?ticket={given}&x=1", {}))[0] == 422
    await streams.connect(f"{RUN}?ticket={given}", key=None)


@pytest.mark.parametrize("body", [b"", b"0123456789"])
async def test_a_half_closed_request_for_a_ticket_is_answered(streams: Streams, body: bytes) -> None:
    """The whole request, then FIN; a body that nobody reads may be cut short."""
    host, port = streams.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    head = f"POST /ws-tickets HTTP/1.1\r\nHost: x\r\nX-API-Key: {streams.keys['reader']}\r\n"
    writer.write(f"{head}Content-Length: {len(body) * 2}\r\n\r\n".encode() + body)
    writer.write_eof()
    async with asyncio.timeout(30):
        answered = await reader.read()
    writer.close()
    assert answered.startswith(b"HTTP/1.1 200 OK")
    assert b'"ticket"' in answered


async def test_a_half_closed_websocket_ends(streams: Streams) -> None:
    """It can never answer a ping: nothing is kept for it."""
    ws = await streams.connect(RUN)
    transport = ws.get_extra_info("socket")
    transport.shutdown(socket.SHUT_WR)
    async with asyncio.timeout(30):
        assert (await ws.receive()).type in (WSMsgType.CLOSE, WSMsgType.CLOSED)


async def test_a_stream_needs_an_upgrade_and_a_ticket_a_post(streams: Streams) -> None:
    for method, path, status in (("GET", RUN, 426), ("POST", RUN, 405), ("GET", "/ws-tickets", 405)):
        async with streams.client.request(method, streams.url + path, headers=streams.headers()) as answer:
            assert (answer.status, answer.content_type) == (status, "application/problem+json")


async def test_a_key_that_expires_or_is_revoked_takes_its_sockets_with_it(streams: Streams) -> None:
    streams.add_key("expiring", expires_at=NOW + timedelta(seconds=5))
    streams.add_key("revoked")
    stays, expiring = await streams.connect(RUN), await streams.connect(RUN, "expiring")
    revoked = await streams.connect("/ws/dashboard/", "revoked")
    streams.sockets.check()
    streams.clock.now_s = 5.0
    streams.revoke("revoked")
    streams.sockets.check()
    for ws in (expiring, revoked):
        while not (await ws.receive(timeout=5)).type.name.startswith("CLOS"):
            pass
        assert ws.close_code == 4401
    assert not stays.closed


async def test_a_key_and_an_agent_that_were_added_a_moment_ago_are_known(streams: Streams) -> None:
    key_id, shown, entry = new_key(tenant=TENANT, rights=[Right.READ], agents=None, now=NOW)
    before = streams.in_force.current
    streams.in_force.written = msgspec.structs.replace(before, keys={**before.keys, key_id: entry})
    await streams.connect("/ws/runs/run-1/", None, headers={"X-API-Key": shown})
    agents = {**before.tenants[TENANT].agents, "new-agent": Agent()}
    tenant = msgspec.structs.replace(before.tenants[TENANT], agents=agents)
    current = streams.in_force.current
    streams.in_force.written = msgspec.structs.replace(current, tenants={**current.tenants, TENANT: tenant})
    await streams.connect("/ws/agents/new-agent/")
