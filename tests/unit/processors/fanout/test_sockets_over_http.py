"""What sockets are told, and what ends them."""

import asyncio
import json
from typing import Any

import msgspec
import pytest
from aiohttp import ClientWebSocketResponse, WSMsgType

from processors.fanout.messages import plain
from processors.fanout.outbox import BYTES_MAX, MESSAGES_MAX
from processors.fanout.resolving import AWAY_S, PAYLOAD_BYTES_MAX
from processors.fanout.socket import CLIENT_MESSAGES_BURST, MESSAGE_BYTES_MAX
from processors.fanout.sockets import PING_EVERY_S, SILENT_S, STUCK_S
from schemas.kafka import cursors
from schemas.process import telemetry
from schemas.runs.records import RunFinalized, RunStatus
from tests.simulation.streams import IDS
from tests.support.builders import TENANT, referring
from tests.unit.processors.fanout.conftest import NOW, OTHER, Streams, happened

RUN = "/ws/runs/run-1/"


async def received(ws: ClientWebSocketResponse, count: int) -> list[dict[str, Any]]:
    """Return the next so many messages."""
    return [await ws.receive_json(timeout=5) for _ in range(count)]


async def ended(ws: ClientWebSocketResponse) -> int | None:
    """Read until the socket is closed; its close code."""
    while not (await ws.receive(timeout=10)).type.name.startswith("CLOS"):
        pass
    return ws.close_code


def finalized(run_id: str = "run-1") -> RunFinalized:
    return RunFinalized(tenant=TENANT, run_id=run_id, status=RunStatus.SUCCEEDED, finalized_at=NOW)


async def test_a_run_is_told_event_by_event_and_its_end(streams: Streams) -> None:
    ws = await streams.connect(RUN)
    await streams.happen(happened(1), happened(2, run_id="run-2"), happened(2), finalized())
    first, second, last = await received(ws, 3)
    assert [each["event"]["seq"] for each in (first, second)] == [1, 2]
    assert (last["type"], last["status"]) == ("run_finalized", "succeeded")


async def test_after_the_end_of_a_run_nothing_of_it_is_told_but_its_trace(streams: Streams) -> None:
    ws = await streams.connect(RUN)
    await streams.happen(happened(1), finalized(), happened(2), finalized())
    await ws.send_str('{"type":"ping"}')
    assert [each["type"] for each in await received(ws, 3)] == ["trace_event", "run_finalized", "pong"]


async def test_a_seq_is_told_once_whatever_its_content(streams: Streams) -> None:
    ws = await streams.connect(RUN)
    await streams.happen(happened(1), happened(1), happened(1, payload="other"), happened(3), happened(2), happened(3))
    assert [each["event"]["seq"] for each in await received(ws, 3)] == [1, 3, 2]
    await ws.send_str('{"type":"ping"}')
    assert (await received(ws, 1))[0]["type"] == "pong"


async def test_a_payload_in_object_storage_is_told_to_who_asks_for_it(streams: Streams) -> None:
    content = b'{"large": 1.000}'
    record = referring(content, 2)
    streams.payloads.kept[record.payload_ref.key] = content  # type: ignore[union-attr]
    plain_one, asking = await streams.connect(RUN), await streams.connect(RUN + "?resolve=true")
    await streams.happen(happened(1), record, happened(3), finalized())
    by_reference, whole = await received(plain_one, 4), await received(asking, 4)
    assert [each["wal_id"] for each in by_reference] == [each["wal_id"] for each in whole]
    assert [each["type"] for each in whole] == ["trace_event"] * 3 + ["run_finalized"]
    assert (by_reference[1]["event"]["payload"], whole[1]["event"]["payload"]) == (None, {"large": 1.0})
    assert by_reference[1]["event"]["payload_ref"] == whole[1]["event"]["payload_ref"]


async def test_a_payload_that_cannot_be_told_is_said_to_be(streams: Streams) -> None:
    largest = msgspec.structs.replace(referring(b"1").payload_ref, size_bytes=PAYLOAD_BYTES_MAX + 1)  # type: ignore[type-var]
    too_large = msgspec.structs.replace(referring(b"1", 2), payload_ref=largest)
    ws = await streams.connect(RUN + "?resolve=true")
    await streams.happen(referring(b"1", 1), too_large)
    problems = [each["event"]["payload_problem"] for each in await received(ws, 2)]
    streams.payloads.away = True
    await streams.happen(referring(b"1", 3), referring(b"1", 4))
    problems += [each["event"]["payload_problem"] for each in await received(ws, 2)]
    streams.payloads.away = False
    streams.clock.now_s += AWAY_S
    await streams.happen(referring(b"1", 5))
    problems += [each["event"]["payload_problem"] for each in await received(ws, 1)]
    assert problems == ["missing", "too_large", "unavailable", "unavailable", "missing"]


async def test_who_asks_for_payloads_and_reads_nothing_holds_little(streams: Streams) -> None:
    content = json.dumps("x" * (PAYLOAD_BYTES_MAX - 2)).encode()
    streams.payloads.kept[referring(content).payload_ref.key] = content  # type: ignore[union-attr]
    lazy = await streams.connect(RUN + "?resolve=true", max_msg_size=0)
    eager = await streams.connect(RUN, max_msg_size=0)
    await streams.happen(*(referring(content, seq) for seq in range(1, 31)))
    assert [each["event"]["seq"] for each in await received(eager, 30)] == list(range(1, 31))
    for _ in range(200):
        await asyncio.sleep(0)
    assert streams.hub.unsent_of_resolving() <= BYTES_MAX
    assert streams.payloads.fetched < 30
    assert [each["event"]["seq"] for each in await received(lazy, 30)] == list(range(1, 31))


@pytest.mark.parametrize("value", ["yes", "", "TRUE"])
async def test_what_is_asked_for_is_said_in_one_way(streams: Streams, value: str) -> None:
    status, code = await streams.refused(f"{RUN}?resolve={value}", streams.headers())
    assert (status, code) == (400, "BAD_REQUEST")


async def test_tenants_see_their_own(streams: Streams) -> None:
    """Both have a run and an agent of the same name."""
    streams.add_key("stranger", tenant=OTHER)
    run = await streams.connect(RUN, "stranger")
    agent = await streams.connect("/ws/agents/demo-agent", "stranger")
    await streams.happen(happened(1, agent="demo-agent"))
    for ws in (run, agent):
        await ws.send_str('{"type":"ping"}')
        assert (await received(ws, 1))[0]["type"] == "pong"


async def test_a_key_bound_to_agents_sees_their_events_alone(streams: Streams) -> None:
    streams.add_key("bound", agents=["demo-agent"])
    ws = await streams.connect(RUN, "bound")
    await streams.happen(happened(1), happened(2, agent="demo-agent"), finalized())
    assert [each["type"] for each in await received(ws, 2)] == ["trace_event", "run_finalized"]


async def test_an_agent_is_told_over_all_its_runs(streams: Streams) -> None:
    ws = await streams.connect("/ws/agents/demo-agent")
    await streams.happen(
        happened(1, agent="demo-agent"),
        happened(1, run_id="run-6", agent="demo-agent"),
        happened(2),
        finalized(),
    )
    assert [each["event"]["run_id"] for each in await received(ws, 2)] == ["run-1", "run-6"]


async def test_a_socket_goes_on_where_its_cursor_says(streams: Streams) -> None:
    ws = await streams.connect(RUN)
    await streams.happen(happened(1), happened(2))
    first, _ = await received(ws, 2)
    await ws.close()
    await streams.happen(happened(3))
    again = await streams.connect(f"{RUN}?cursor={first['cursor']}")
    await streams.happen(happened(4))
    assert [each["event"]["seq"] for each in await received(again, 3)] == [2, 3, 4]


@pytest.mark.parametrize(
    ("topic", "offset", "reason"), [("Z" * 22, 0, "recreated"), (IDS["run.events"], 10**9, "ahead")]
)
async def test_a_place_that_the_log_does_not_have_is_answered_with_a_reset(
    streams: Streams, topic: str, offset: int, reason: str
) -> None:
    await streams.happen(happened(1))
    cursor = cursors.encode({topic: {0: offset, 1: offset}})
    ws = await streams.connect(f"{RUN}?cursor={cursor}")
    (reset,) = await received(ws, 1)
    assert (reset["type"], reset["reason"]) == ("reset", reason)
    await streams.happen(happened(2))
    assert (await received(ws, 1))[0]["event"]["seq"] == 2
    assert streams.telemetry[telemetry.FANOUT_RESETS].labels(reason)._value.get() == 1
    await streams.connect(f"{RUN}?cursor={reset['cursor']}")


async def test_a_ping_is_answered_by_both_sides(streams: Streams) -> None:
    ws = await streams.connect(RUN, autoping=False)
    await ws.send_str('{"type":"ping"}')
    await ws.ping(b"frame")
    assert (await received(ws, 1))[0] == {"type": "pong"}
    assert (await ws.receive(timeout=5)).type is WSMsgType.PONG
    streams.clock.now_s = PING_EVERY_S
    streams.sockets.check()
    assert (await received(ws, 1))[0] == {"type": "ping"}


async def test_who_answers_no_ping_is_cut(streams: Streams) -> None:
    silent, answers = await streams.connect(RUN), await streams.connect(RUN)
    streams.clock.now_s = SILENT_S - 1
    await answers.send_str('{"type":"pong"}')
    await answers.send_str('{"type":"ping"}')
    await received(answers, 1)
    streams.clock.now_s = SILENT_S + 1
    streams.sockets.check()
    assert await ended(silent) == 4400
    assert not answers.closed


@pytest.mark.parametrize("frame", ["text", "ping", "pong", "nonsense"])
async def test_a_flood_is_cut(streams: Streams, frame: str) -> None:
    ws = await streams.connect(RUN)
    for _ in range(CLIENT_MESSAGES_BURST + 10):
        if frame == "ping":
            await ws.ping()
        elif frame == "pong":
            await ws.pong()
        else:
            await ws.send_str('{"type":"ping"}' if frame == "text" else "{nonsense")
    assert await ended(ws) == 1008


@pytest.mark.parametrize(("size", "code"), [(MESSAGE_BYTES_MAX - 10, None), (MESSAGE_BYTES_MAX + 1, 1009)])
async def test_a_client_s_message_is_bounded(streams: Streams, size: int, code: int | None) -> None:
    ws = await streams.connect(RUN)
    await ws.send_str("x" * size)
    if code is None:
        await ws.send_str('{"type":"ping"}')
        assert (await received(ws, 1))[0] == {"type": "pong"}
    else:
        assert await ended(ws) == code


async def test_bytes_are_not_spoken_here(streams: Streams) -> None:
    ws = await streams.connect(RUN)
    await ws.send_bytes(b"x")
    assert await ended(ws) == 1003


async def test_nothing_is_packed(streams: Streams) -> None:
    ws = await streams.connect(RUN, compress=15)
    assert ws.compress == 0


async def test_a_slow_reader_is_told_where_it_is_and_cut_and_others_are_not_touched(streams: Streams) -> None:
    """It comes back with that cursor and misses nothing."""
    slow, quick = await streams.connect(RUN), await streams.connect(RUN)
    protocol = slow._conn.protocol  # type: ignore[union-attr]
    assert protocol is not None
    protocol.pause_reading()
    seqs = range(1, 61)
    text = "x" * 200_000
    for seq in seqs:
        await streams.happen(happened(seq, payload=text))
        assert (await received(quick, 1))[0]["event"]["seq"] == seq
    protocol.resume_reading()
    messages = []
    while (message := await slow.receive(timeout=5)).type is WSMsgType.TEXT:
        messages.append(json.loads(message.data))
    assert (slow.close_code, messages[-1]["type"]) == (4408, "slow_reader")
    assert messages[-1]["cursor"] == messages[-2]["cursor"]
    again = await streams.connect(f"{RUN}?cursor={messages[-1]['cursor']}")
    rest = await received(again, len(seqs) - len(messages) + 1)
    assert [each["event"]["seq"] for each in (*messages[:-1], *rest)] == list(seqs)
    assert not quick.closed
    assert streams.telemetry[telemetry.FANOUT_CUT].labels("slow_reader")._value.get() == 1


@pytest.mark.parametrize(("count", "size"), [(45, 100_000), (2 * MESSAGES_MAX, 10)])
async def test_a_reader_that_keeps_up_is_not_cut_by_a_burst(streams: Streams, count: int, size: int) -> None:
    """Though the burst is more than may wait for it."""
    quick = await streams.connect(RUN)
    reading = asyncio.create_task(received(quick, count))
    await streams.happen_at_once(*(happened(seq, payload="x" * size) for seq in range(1, count + 1)))
    assert [each["event"]["seq"] for each in await reading] == list(range(1, count + 1))


async def test_who_never_reads_on_is_cut_off(streams: Streams) -> None:
    slow = await streams.connect(RUN)
    protocol = slow._conn.protocol  # type: ignore[union-attr]
    assert protocol is not None
    protocol.pause_reading()
    for seq in range(1, 61):
        await streams.happen(happened(seq, payload="x" * 200_000))
    gauge = streams.telemetry[telemetry.FANOUT_SOCKETS].labels("run")
    async with asyncio.timeout(10):
        while gauge._value.get():  # noqa: ASYNC110 - nothing tells it
            await asyncio.sleep(0.05)


async def test_one_that_takes_nothing_for_long_is_cut_however_little_waits(streams: Streams) -> None:
    slow = await streams.connect(RUN)
    protocol = slow._conn.protocol  # type: ignore[union-attr]
    assert protocol is not None
    protocol.pause_reading()
    for seq in range(1, 30):
        await streams.happen(happened(seq, payload="x" * 200_000))
    streams.clock.now_s = STUCK_S + 1
    streams.sockets.check()
    protocol.resume_reading()
    assert await ended(slow) == 4408


async def test_the_dashboard_tells_each_second_what_happened(streams: Streams) -> None:
    ws = await streams.connect("/ws/dashboard/")
    await streams.happen(happened(1, type="error"), happened(2), finalized())
    streams.dashboard.publish()
    (message,) = await received(ws, 1)
    assert message["counts"] == {"error": 1, "reasoning": 1}
    assert [each["run_id"] for each in message["finalized"]] == ["run-1"]
    assert message["finalized_count"] == 1
    while message["groups"] is None:  # asked from the first second on
        (message,) = await received(ws, 1)
    # Not the endpoint of another tenant, nor one whose worker has not said whose it is.
    assert message["groups"] == [
        {"group": group, "lag_records": 3, "dead_letters": 1} for group in ("persistence", "evaluation.ours")
    ]
    [endpoint] = message["endpoints"]
    assert (endpoint["name"], endpoint["breaker"], endpoint["reason"]) == ("ours", "open", "HTTP 500")
    assert message["counts"] == {}


async def test_sockets_are_told_when_the_process_goes(streams: Streams) -> None:
    ws = await streams.connect(RUN)
    await streams.happen(happened(1))
    stopping = asyncio.create_task(streams.sockets.__aexit__())
    assert (await received(ws, 1))[0]["event"]["seq"] == 1
    assert await ended(ws) == 1001
    await stopping
    assert (await streams.refused(RUN, streams.headers()))[0] == 503


def test_a_plain_message_is_no_record() -> None:
    assert plain("ping").cursor is None
