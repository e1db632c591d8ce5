"""Messages on websockets of jobs, and access to them."""

import json
from typing import Any

import pytest
from aiohttp import ClientWebSocketResponse, WSMsgType

from schemas.access.credentials import Right
from schemas.jobs.records import JobOutput, JobProgress
from schemas.jobs.states import JobStatus
from schemas.jobs.topics import JOB_EVENTS
from schemas.kafka import cursors
from schemas.process import telemetry
from tests.simulation.streams import IDS, job_changed
from tests.support.builders import TENANT
from tests.unit.processors.fanout.conftest import OTHER, PAGE, Streams, happened

ALL, JOB = "/ws/tasks/", "/ws/tasks/job-0/"


async def received(ws: ClientWebSocketResponse, count: int) -> list[dict[str, Any]]:
    """Return the next so many messages."""
    return [await ws.receive_json(timeout=5) for _ in range(count)]


async def silence(ws: ClientWebSocketResponse) -> None:
    """Demand that nothing else was sent."""
    await ws.send_str('{"type":"ping"}')
    assert [each["type"] for each in await received(ws, 1)] == ["pong"]


def versions(messages: list[dict[str, Any]]) -> list[tuple[str, int]]:
    return [(message["task_id"], message["version"]) for message in messages]


def output(text: str = "line\n", *, job_id: str = "job-0", tenant: str = TENANT) -> JobOutput:
    return JobOutput(tenant=tenant, job_id=job_id, attempt_id="a-1", text=text, at_ms=0)


def progress(fraction: float) -> JobProgress:
    return JobProgress(tenant=TENANT, job_id="job-0", attempt_id="a-1", fraction=fraction, at_ms=0)


async def test_a_job_is_told_from_its_first_state_to_its_last(streams: Streams) -> None:
    ws = await streams.connect(JOB)
    await streams.happen(
        job_changed(1),
        job_changed(1, job_id="job-1"),
        job_changed(2, status=JobStatus.RUNNING),
        progress(0.5),
        output(),
        output(job_id="job-1"),
        job_changed(3, status=JobStatus.COMPLETED),
    )
    messages = await received(ws, 5)
    assert [each["type"] for each in messages] == [
        *["task_state"] * 2, "task_progress", "task_output", "task_state",
    ]  # fmt: skip
    assert [messages[each]["status"] for each in (0, 1, 4)] == ["pending", "running", "completed"]
    assert (messages[2]["fraction"], messages[3]["text"]) == (0.5, "line\n")
    await silence(ws)


async def test_all_jobs_of_a_tenant_are_told_and_no_runs(streams: Streams) -> None:
    ws = await streams.connect(ALL)
    await streams.happen(job_changed(1), happened(1), job_changed(1, job_id="job-1"), output(job_id="job-2"))
    messages = await received(ws, 3)
    assert [each["task_id"] for each in messages] == ["job-0", "job-1", "job-2"]
    await silence(ws)


async def test_a_run_is_not_told_of_jobs(streams: Streams) -> None:
    run, agent = await streams.connect("/ws/runs/job-0/"), await streams.connect("/ws/agents/plain-agent/")
    await streams.happen(job_changed(1), output())
    for ws in (run, agent):
        await silence(ws)


@pytest.mark.parametrize("path", [ALL, JOB])
async def test_a_repeated_version_is_told_once_on_a_socket(streams: Streams, path: str) -> None:
    ws = await streams.connect(path)
    await streams.happen(job_changed(1), job_changed(2), job_changed(1), job_changed(2), job_changed(3))
    assert versions(await received(ws, 3)) == [("job-0", 1), ("job-0", 2), ("job-0", 3)]
    await silence(ws)


@pytest.mark.parametrize("path", [ALL, JOB])
async def test_a_repeated_version_is_told_once_by_a_socket_that_catches_up(streams: Streams, path: str) -> None:
    ws = await streams.connect(path)
    await streams.happen(job_changed(1))
    [first] = await received(ws, 1)
    await ws.close()
    await streams.happen(job_changed(2), job_changed(2), job_changed(3))
    again = await streams.connect(f"{path}?cursor={first['cursor']}")
    await streams.happen(job_changed(3), job_changed(4))
    assert [version for _, version in versions(await received(again, 3))] == [2, 3, 4]
    await silence(again)


@pytest.mark.parametrize("path", [ALL, JOB])
async def test_a_place_that_was_compacted_away_is_no_fault(streams: Streams, path: str) -> None:
    """The state that is left is sent."""
    ws = await streams.connect(path)
    await streams.happen(job_changed(1))
    [first] = await received(ws, 1)
    await ws.close()
    await streams.happen(job_changed(2), job_changed(3), job_changed(4))
    for partition, records in streams.log.records.items():
        if partition.topic == JOB_EVENTS.name and records:
            streams.log.records[partition] = dict([max(records.items())])
    again = await streams.connect(f"{path}?cursor={first['cursor']}")
    assert versions(await received(again, 1)) == [("job-0", 4)]
    await streams.happen(job_changed(5))
    assert versions(await received(again, 1)) == [("job-0", 5)]


@pytest.mark.parametrize("path", [ALL, JOB])
async def test_tenants_see_their_own_jobs(streams: Streams, path: str) -> None:
    """Though they know the id."""
    streams.add_key("stranger", tenant=OTHER)
    theirs, mine = await streams.connect(path, "stranger"), await streams.connect(path)
    await streams.happen(job_changed(1), output())
    assert [each["type"] for each in await received(mine, 2)] == ["task_state", "task_output"]
    await silence(theirs)
    await streams.happen(job_changed(1, tenant=OTHER), output("theirs", tenant=OTHER))
    assert [each.get("text") for each in await received(theirs, 2)] == [None, "theirs"]
    await silence(mine)


async def test_a_tenant_s_cursor_shows_nothing_of_another(streams: Streams) -> None:
    streams.add_key("stranger", tenant=OTHER)
    cursor = cursors.encode({IDS[JOB_EVENTS.name]: {0: 0, 1: 0}})
    await streams.happen(job_changed(1), output())
    for path in (ALL, JOB):
        await silence(await streams.connect(f"{path}?cursor={cursor}", "stranger"))


@pytest.mark.parametrize("path", [ALL, ALL[:-1], JOB, JOB[:-1]])
async def test_a_stream_of_jobs_is_opened_with_a_key_or_a_ticket(streams: Streams, path: str) -> None:
    await streams.connect(path)
    async with streams.client.post(f"{streams.url}/ws-tickets", headers=streams.headers()) as answer:
        ticket = (await answer.json())["ticket"]
    await streams.connect(f"{path}?ticket={ticket}", key=None)
    assert await streams.refused(path, {}) == (401, "UNAUTHENTICATED")


@pytest.mark.parametrize("path", [ALL, JOB])
async def test_a_stream_of_jobs_is_refused_to_who_may_not(streams: Streams, path: str) -> None:
    streams.add_key("writer", rights=[Right.INGEST])
    streams.add_key("bound", agents=["demo-agent"])
    for key in ("writer", "bound"):
        assert await streams.refused(path, streams.headers(key)) == (403, "FORBIDDEN")
    foreign = streams.headers() | {"Origin": f"{PAGE}.evil.example"}
    assert await streams.refused(path, foreign) == (403, "FORBIDDEN")


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ("?resolve=true", 422, "VALIDATION_ERROR"),
        ("?cursor=nonsense", 400, "BAD_REQUEST"),
        (f"?cursor={cursors.encode({IDS['run.events']: {0: 0, 1: 0}})}", 400, "BAD_REQUEST"),
    ],
)
async def test_what_a_stream_of_jobs_does_not_know_is_refused(
    streams: Streams, query: str, status: int, code: str
) -> None:
    for path in (ALL, JOB):
        assert await streams.refused(path + query, streams.headers()) == (status, code)


async def test_a_name_that_is_no_id_is_refused(streams: Streams) -> None:
    assert await streams.refused("/ws/tasks/a%20b/", streams.headers()) == (400, "BAD_REQUEST")


async def test_a_revoked_key_takes_its_sockets_on_jobs_with_it(streams: Streams) -> None:
    streams.add_key("soon")
    ws = await streams.connect(ALL, "soon")
    streams.revoke("soon")
    streams.sockets.check()
    assert (await ws.receive(timeout=5)).type is WSMsgType.CLOSE
    assert ws.close_code == 4401


async def test_sockets_and_messages_are_counted_by_stream_and_kind(streams: Streams) -> None:
    one, every = await streams.connect(JOB), await streams.connect(ALL)
    await streams.happen(job_changed(1), output(), output())
    await received(one, 3)
    await received(every, 3)
    counted = streams.telemetry[telemetry.FANOUT_MESSAGES]
    assert [counted.labels(kind)._value.get() for kind in ("task_state", "task_output")] == [2, 4]
    gauge = streams.telemetry[telemetry.FANOUT_SOCKETS]
    assert [gauge.labels(stream)._value.get() for stream in ("task", "tasks")] == [1, 1]


async def test_a_slow_reader_of_jobs_is_cut_and_comes_back_to_the_rest(streams: Streams) -> None:
    slow, quick = await streams.connect(ALL), await streams.connect(JOB)
    protocol = slow._conn.protocol  # type: ignore[union-attr]
    assert protocol is not None
    protocol.pause_reading()
    texts = [f"{number} " + "x" * 200_000 for number in range(60)]
    for text in texts:
        await streams.happen(output(text))
        assert (await received(quick, 1))[0]["text"] == text
    protocol.resume_reading()
    messages = []
    while (message := await slow.receive(timeout=5)).type is WSMsgType.TEXT:
        messages.append(json.loads(message.data))
    assert (slow.close_code, messages[-1]["type"]) == (4408, "slow_reader")
    again = await streams.connect(f"{ALL}?cursor={messages[-1]['cursor']}")
    rest = await received(again, len(texts) - len(messages) + 1)
    assert [each["text"] for each in (*messages[:-1], *rest)] == texts
    assert not quick.closed
