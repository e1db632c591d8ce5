"""One suite over body parsers: threads of this process, and the child process. Then that process's own tests."""

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
import uvloop

from gateway.body_worker import BODY_TASKS
from gateway.errors import BadBody, BadParameters, EventTooLarge, Forbidden, NotToon, QueueFull, SignatureInvalid
from gateway.http.bodies import Body, MediaType
from gateway.http.child.parsing import BodyParser, BodyTask, ThreadParser
from gateway.http.child.process import RESTART_AFTER_S, ParserProcess
from gateway.http.codings import Coding
from gateway.jobs.parsing.prepared import JobOrigin, PreparedJobs
from gateway.jobs.parsing.tasks import ParseJobs
from gateway.kafka.records import Stamp
from gateway.runs.parsing.bodies import FinalizationBody
from gateway.runs.parsing.prepared import Origin
from gateway.runs.parsing.tasks import (
    ParseBatch,
    ParseEnvironment,
    ParseEvent,
    ParseFinalization,
)
from schemas.access.credentials import Credentials, Principal
from schemas.canonical import canonical, event_digest
from schemas.errors import Invalid
from schemas.jobs.types import QUEUES
from schemas.process.telemetry import JUDGE_ENDED, JUDGE_WAITING, OF_GATEWAY, Telemetry
from schemas.runs.records import RunStatus
from schemas.runs.rules import EVENT_BYTES_MAX
from schemas.strictjson import NotJson
from tests.support import builders
from tests.support.job_views import GREETING
from tests.support.packing import MIB, PACK, bomb

KNOWN = builders.credentials()
PATIENCE_S = 20.0


@pytest.fixture(params=["threads", "process"])
async def parser(request: pytest.FixtureRequest) -> AsyncIterator[BodyParser]:
    """Yield each of the two."""
    if request.param == "threads":
        yield ThreadParser()
        return
    async with ParserProcess(BODY_TASKS, Telemetry(OF_GATEWAY)) as process:
        yield process


def origin(agents: frozenset[str] | None = None) -> Origin:
    """Return who sends what is asked about."""
    principal = Principal(key_id="k", tenant=builders.TENANT, rights=frozenset(), agents=agents)
    stamp = Stamp(received_at=datetime(2026, 1, 1, tzinfo=UTC), traceparent="00-1-2-01", mac_secret=builders.MAC_SECRET)
    return Origin(run_id=builders.RUN, principal=principal, stamp=stamp)


def body(text: bytes, media_type: MediaType = MediaType.JSON, coding: Coding | None = None) -> Body:
    """Return a body of the largest size that an event may have."""
    return Body(received=text, media_type=media_type, coding=coding, bytes_max=EVENT_BYTES_MAX)


def parse_event(given: Any, **changes: Any) -> ParseEvent:
    """Return whether *given*, an event or bytes, is one."""
    text = given if isinstance(given, bytes) else json.dumps(given).encode()
    return ParseEvent(body=body(text, **changes), origin=origin())


async def within(answer: Awaitable[Any]) -> Any:
    """Return the answer, for which a bounded time is waited."""
    async with asyncio.timeout(PATIENCE_S):
        return await answer


@pytest.mark.parametrize("text", ["short", "x" * 200_000, "\N{WATER WAVE}" * 50_000], ids=["short", "long", "wide"])
@pytest.mark.parametrize("coding", [None, *Coding])
async def test_an_event_is_what_it_would_be_on_the_loop(parser: BodyParser, text: str, coding: Coding | None) -> None:
    event = builders.signed(builders.event(7, payload={"text": text}))
    plain = parse_event(event)
    packed = plain.body.received if coding is None else PACK[coding](plain.body.received)
    prepared = await within(parser.parse(parse_event(packed, coding=coding), KNOWN))
    assert prepared == plain.result(plain.body.received, KNOWN)
    assert (prepared.identity.seq, prepared.identity.sha256) == (7, event_digest(event))


async def test_a_batch_ends_with_the_first_event_that_is_refused(parser: BodyParser) -> None:
    events = [builders.event(1), builders.event(2), builders.event(3, actor="A"), builders.event(4)]
    task = ParseBatch(body=body(json.dumps(events).encode()), origin=origin())
    batch = await within(parser.parse(task, KNOWN))
    assert ([event.identity.seq for event in batch.events], batch.event_count) == ([1, 2], 4)
    error = batch.refusal.error()
    assert isinstance(error, Invalid)
    assert [fault.pointer for fault in error.faults] == ["/actor"]


async def test_jobs_are_checked_against_the_types_of_the_installation(parser: BodyParser) -> None:
    jobs = [
        {"type": "shop/greet", "parameters": {"name": "Ada"}, "delay_s": 5},
        {"type": "shop/greet", "parameters": {"name": 1}},
        {"type": None},
    ]
    origin_of_jobs = JobOrigin(
        principal=origin().principal, stamp=origin().stamp, declared=GREETING, queues=frozenset(QUEUES)
    )
    task = ParseJobs(body=body(json.dumps(jobs).encode()), origin=origin_of_jobs)
    prepared: PreparedJobs = await within(parser.parse(task, KNOWN))
    valid, bad_parameters, invalid = prepared.jobs
    assert valid.job is None, "the key has no rights"
    assert valid.refusal is not None
    assert isinstance(valid.refusal.error(), Forbidden)
    for verdict, kind, pointer in ((bad_parameters, BadParameters, "/parameters/name"), (invalid, Invalid, "/type")):
        assert verdict.refusal is not None
        error = verdict.refusal.error()
        assert isinstance(error, kind)
        assert [fault.pointer for fault in error.faults] == [pointer]


async def test_a_finalization_and_an_environment_come_as_values(parser: BodyParser) -> None:
    finalization = ParseFinalization(body=body(b'{"status":"failed","event_count":3}'))
    expected = FinalizationBody(status=RunStatus.FAILED, event_count=3)
    assert await within(parser.parse(finalization, KNOWN)) == expected
    text = json.dumps({"b": "\N{WATER WAVE}" * 20_000, "a": 1.5})
    snapshot = await within(parser.parse(ParseEnvironment(body=body(text.encode())), KNOWN))
    assert (snapshot.text, len(snapshot.sha256)) == (text, 32)
    assert canonical(json.loads(snapshot.text)) == canonical(json.loads(text))


@pytest.mark.parametrize(
    ("task", "expected"),
    [
        (parse_event(b"{"), NotJson),
        (parse_event(b'a: "unended', media_type=MediaType.TOON), NotToon),
        (parse_event(b"no gzip", coding=Coding.GZIP), BadBody),
        (parse_event(bomb(Coding.GZIP, 40 * MIB), coding=Coding.GZIP), EventTooLarge),
        (parse_event(builders.event(seq=0)), Invalid),
        (parse_event(builders.event(meta={"agent_id": "nobody"})), Forbidden),
        (parse_event(builders.event(meta={"signature": "00"})), SignatureInvalid),
    ],
    ids=lambda each: each.__name__ if isinstance(each, type) else "",
)
async def test_a_refusal_is_the_error_that_it_would_be_on_the_loop(
    parser: BodyParser, task: ParseEvent, expected: type[Exception]
) -> None:
    with pytest.raises(expected) as here:
        task.result(task.body.json(), KNOWN)
    with pytest.raises(expected) as there:
        await within(parser.parse(task, KNOWN))
    assert str(there.value) == str(here.value)
    assert getattr(there.value, "faults", None) == getattr(here.value, "faults", None)


async def test_credentials_hold_from_the_moment_they_change(parser: BodyParser) -> None:
    changed = msgspec.structs.replace(KNOWN, tenants={builders.TENANT: msgspec.structs.replace(
        KNOWN.tenants[builders.TENANT], agents={"newcomer": KNOWN.tenants[builders.TENANT].agents["plain-agent"]}
    )})  # fmt: skip

    async def takes(agent_id: str, credentials: Credentials) -> bool:
        try:
            await within(parser.parse(parse_event(builders.event(meta={"agent_id": agent_id})), credentials))
        except Forbidden:
            return False
        return True

    for credentials, expected in ((KNOWN, (True, False)), (changed, (False, True)), (KNOWN, (True, False))):
        assert (await takes("plain-agent", credentials), await takes("newcomer", credentials)) == expected


async def test_many_are_asked_at_once_and_each_has_its_own_answer(parser: BodyParser) -> None:
    events = [builders.event(seq, payload="x" * (1_000 * (seq % 40))) for seq in range(1, 101)]
    prepared = await within(asyncio.gather(*(parser.parse(parse_event(event), KNOWN) for event in events)))
    assert [event.identity.seq for event in prepared] == list(range(1, 101))


async def test_what_waits_is_bounded_and_leaves_room_again() -> None:
    telemetry = Telemetry(OF_GATEWAY)
    task = parse_event(builders.event(payload="x" * 30_000))
    async with ParserProcess(BODY_TASKS, telemetry, waiting_bytes_max=100_000) as parser:
        outcomes = await within(asyncio.gather(*(parser.parse(task, KNOWN) for _ in range(5)), return_exceptions=True))
        assert [isinstance(each, QueueFull) for each in outcomes] == [False] * 3 + [True] * 2
        assert (await within(parser.parse(task, KNOWN))).identity.seq == 1
        assert telemetry.registry.get_sample_value(JUDGE_WAITING.name) == 0


async def test_a_killed_process_tells_who_waits_and_another_takes_its_place() -> None:
    telemetry = Telemetry(OF_GATEWAY)
    task = parse_event(builders.event(payload="x" * 30_000))
    async with ParserProcess(BODY_TASKS, telemetry) as parser:
        killed = parser.pid
        assert killed is not None
        os.kill(killed, signal.SIGSTOP)  # so that the task is not answered before
        waiting = asyncio.create_task(parser.parse(task, KNOWN))
        await asyncio.sleep(0)
        os.kill(killed, signal.SIGKILL)
        with pytest.raises(QueueFull, match="nothing was written"):
            await within(waiting)

        async def answered() -> bool:
            with suppress(QueueFull):
                return (await parser.parse(task, KNOWN)).identity.seq == 1
            return False

        async with asyncio.timeout(PATIENCE_S):
            while not await answered():  # noqa: ASYNC110  # what is waited for tells nobody
                await asyncio.sleep(0.05)
        assert parser.pid != killed
        assert telemetry.registry.get_sample_value(JUDGE_ENDED.name) == 1


DEATHS = 5
ASKERS = 20


def test_who_asks_on_while_the_process_dies_is_answered_or_told_to_come_again() -> None:
    """On the gateway's own loop, which lets nobody write to a pipe that has broken."""

    async def ask_on(parser: ParserProcess, over: asyncio.Event) -> None:
        task = parse_event(builders.event(payload="x" * 200_000))
        while not over.is_set():
            with suppress(QueueFull):
                await parser.parse(task, KNOWN)
            await asyncio.sleep(0)

    async def die() -> None:
        over = asyncio.Event()
        async with ParserProcess(BODY_TASKS, Telemetry(OF_GATEWAY)) as parser, asyncio.TaskGroup() as group:
            for _ in range(ASKERS):
                group.create_task(ask_on(parser, over))
            for _ in range(DEATHS):
                await asyncio.sleep(RESTART_AFTER_S + 0.3)
                if parser.pid is not None:
                    os.kill(parser.pid, signal.SIGKILL)
            over.set()

    uvloop.run(die())


@pytest.mark.parametrize("turns", [0, 4, 100])
def test_a_process_that_answers_no_more_is_ended_and_its_gateway_leaves_nothing_of_it(
    monkeypatch: pytest.MonkeyPatch, turns: int
) -> None:
    """However far the loop has got with it; uvloop cannot be closed while a process is not waited for."""
    silent = (sys.executable, "-c", "import os, time; os.closerange(1, 1_000); time.sleep(60)")
    monkeypatch.setattr("gateway.http.child.process.COMMAND", silent)

    def await_silence(pid: int | None) -> None:
        while os.path.lexists(f"/proc/{pid}/fd/1"):
            time.sleep(0.001)

    async def end() -> None:
        async with ParserProcess(BODY_TASKS, Telemetry(OF_GATEWAY)) as parser:
            await_silence(parser.pid)  # the loop stands still, and is yet to hear of it
            for _ in range(turns):
                await asyncio.sleep(0)

    uvloop.run(end())


async def test_the_process_is_told_to_stop_by_its_gateway_alone_and_ends_with_it() -> None:
    async with ParserProcess(BODY_TASKS, Telemetry(OF_GATEWAY)) as parser:
        pid = parser.pid
        assert pid is not None
        task = parse_event(builders.event())
        await within(parser.parse(task, KNOWN))
        for number in (signal.SIGTERM, signal.SIGINT):  # a group of processes is often told at once
            os.kill(pid, number)
        assert (await within(parser.parse(task, KNOWN))).identity.seq == 1
    assert not os.path.exists(f"/proc/{pid}")  # noqa: PTH110, ASYNC240  # no file that one could wait for


TRIES = 3  # of which the least disturbed counts
HOLDING: dict[str, bytes] = {
    "a million keys": b"{" + b",".join(b'"%x":1' % number for number in range(800_000)) + b"}",
    "numbers": b"[" + b",".join([b"1.5"] * 2_000_000) + b"]",
    "arrays": b"[" + b",".join([b"[]"] * 900_000) + b"]",
}


@pytest.mark.parametrize("name", HOLDING)
async def test_bodies_that_hold_the_interpreter_do_not_hold_the_event_loop(name: str) -> None:
    """As a share of how long the same bodies hold it from threads: the machine does other things as well."""
    event = json.dumps(builders.event(payload="PAYLOAD")).encode().replace(b'"PAYLOAD"', HOLDING[name])
    task = parse_event(event)
    threads_s = min([await _longest_pause_s(ThreadParser(), task) for _ in range(TRIES)])
    async with ParserProcess(BODY_TASKS, Telemetry(OF_GATEWAY)) as parser:
        await within(parser.parse(parse_event(builders.event()), KNOWN))  # it is up
        process_s = min([await _longest_pause_s(parser, task) for _ in range(TRIES)])
    print(f"{name}: {threads_s:.3f} s from threads, {process_s:.3f} s from a process")  # noqa: T201
    assert process_s < threads_s / 2


async def _longest_pause_s(parser: BodyParser, task: BodyTask[Any]) -> float:
    """Return how long the loop stood still at most while *task* was judged."""
    judging = asyncio.create_task(parser.parse(task, KNOWN))
    longest_s, last_s = 0.0, time.perf_counter()
    while not judging.done():
        await asyncio.sleep(0.001)
        now_s = time.perf_counter()
        longest_s, last_s = max(longest_s, now_s - last_s), now_s
    with suppress(Invalid, EventTooLarge):
        await judging
    return longest_s
