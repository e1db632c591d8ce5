"""One suite over judges: threads of this process, and the process that the gateway starts. Then that process's own."""

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

from gateway.errors import BadBody, EventTooLarge, Forbidden, NotToon, QueueFull, SignatureInvalid
from gateway.intake.bodies import Body, MediaType
from gateway.intake.codings import Coding
from gateway.intake.documents import FinalizationBody
from gateway.intake.offers import Origin
from gateway.intake.records import Stamp
from gateway.judging.judge import Judge, ThreadJudge
from gateway.judging.process import RESTART_AFTER_S, JudgeProcess
from gateway.judging.questions import (
    AnyQuestion,
    BatchQuestion,
    EnvironmentQuestion,
    EventQuestion,
    FinalizationQuestion,
)
from schemas.access.credentials import Credentials, Principal
from schemas.canonical import canonical, event_digest
from schemas.errors import Invalid
from schemas.process.telemetry import JUDGE_ENDED, JUDGE_WAITING, OF_GATEWAY, Telemetry
from schemas.runs.records import RunStatus
from schemas.runs.rules import EVENT_BYTES_MAX
from schemas.strictjson import NotJson
from tests import builders
from tests.packing import MIB, PACK, bomb

KNOWN = builders.credentials()
PATIENCE_S = 20.0


@pytest.fixture(params=["threads", "process"])
async def judge(request: pytest.FixtureRequest) -> AsyncIterator[Judge]:
    """Each of the two."""
    if request.param == "threads":
        yield ThreadJudge()
        return
    async with JudgeProcess(Telemetry(OF_GATEWAY)) as process:
        yield process


def origin(agents: frozenset[str] | None = None) -> Origin:
    """Who sends what is asked about."""
    principal = Principal(key_id="k", tenant=builders.TENANT, rights=frozenset(), agents=agents)
    stamp = Stamp(received_at=datetime(2026, 1, 1, tzinfo=UTC), traceparent="00-1-2-01", mac_secret=builders.MAC_SECRET)
    return Origin(run_id=builders.RUN, principal=principal, stamp=stamp)


def body(text: bytes, media_type: MediaType = MediaType.JSON, coding: Coding | None = None) -> Body:
    """A body of the largest size that an event may have."""
    return Body(received=text, media_type=media_type, coding=coding, bytes_max=EVENT_BYTES_MAX)


def event_question(given: Any, **changes: Any) -> EventQuestion:
    """Whether *given*, an event or bytes, is one."""
    text = given if isinstance(given, bytes) else json.dumps(given).encode()
    return EventQuestion(body=body(text, **changes), origin=origin())


async def within(answer: Awaitable[Any]) -> Any:
    """The answer, for which a bounded time is waited."""
    async with asyncio.timeout(PATIENCE_S):
        return await answer


@pytest.mark.parametrize("text", ["short", "x" * 200_000, "\N{WATER WAVE}" * 50_000], ids=["short", "long", "wide"])
@pytest.mark.parametrize("coding", [None, *Coding])
async def test_an_event_is_what_it_would_be_on_the_loop(judge: Judge, text: str, coding: Coding | None) -> None:
    event = builders.signed(builders.event(7, payload={"text": text}))
    plain = event_question(event)
    packed = plain.body.received if coding is None else PACK[coding](plain.body.received)
    offer = await within(judge.judge(event_question(packed, coding=coding), KNOWN))
    assert offer == plain.verdict(plain.body.received, KNOWN)
    assert (offer.event.seq, offer.event.sha256) == (7, event_digest(event))


async def test_a_batch_ends_with_the_first_event_that_is_refused(judge: Judge) -> None:
    events = [builders.event(1), builders.event(2), builders.event(3, actor="A"), builders.event(4)]
    question = BatchQuestion(body=body(json.dumps(events).encode()), origin=origin())
    batch = await within(judge.judge(question, KNOWN))
    assert ([offer.event.seq for offer in batch.offers], batch.event_count) == ([1, 2], 4)
    error = batch.refusal.error()
    assert isinstance(error, Invalid)
    assert [fault.pointer for fault in error.faults] == ["/actor"]


async def test_a_finalization_and_an_environment_come_as_values(judge: Judge) -> None:
    finalization = FinalizationQuestion(body=body(b'{"status":"failed","event_count":3}'))
    expected = FinalizationBody(status=RunStatus.FAILED, event_count=3)
    assert await within(judge.judge(finalization, KNOWN)) == expected
    text = json.dumps({"b": "\N{WATER WAVE}" * 20_000, "a": 1.5})
    snapshot = await within(judge.judge(EnvironmentQuestion(body=body(text.encode())), KNOWN))
    assert (snapshot.text, len(snapshot.sha256)) == (text, 32)
    assert canonical(json.loads(snapshot.text)) == canonical(json.loads(text))


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        (event_question(b"{"), NotJson),
        (event_question(b'a: "unended', media_type=MediaType.TOON), NotToon),
        (event_question(b"no gzip", coding=Coding.GZIP), BadBody),
        (event_question(bomb(Coding.GZIP, 40 * MIB), coding=Coding.GZIP), EventTooLarge),
        (event_question(builders.event(seq=0)), Invalid),
        (event_question(builders.event(meta={"agent_id": "nobody"})), Forbidden),
        (event_question(builders.event(meta={"signature": "00"})), SignatureInvalid),
    ],
    ids=lambda each: each.__name__ if isinstance(each, type) else "",
)
async def test_a_refusal_is_the_error_that_it_would_be_on_the_loop(
    judge: Judge, question: EventQuestion, expected: type[Exception]
) -> None:
    with pytest.raises(expected) as here:
        question.verdict(question.body.json(), KNOWN)
    with pytest.raises(expected) as there:
        await within(judge.judge(question, KNOWN))
    assert str(there.value) == str(here.value)
    assert getattr(there.value, "faults", None) == getattr(here.value, "faults", None)


async def test_credentials_hold_from_the_moment_they_change(judge: Judge) -> None:
    changed = msgspec.structs.replace(KNOWN, tenants={builders.TENANT: msgspec.structs.replace(
        KNOWN.tenants[builders.TENANT], agents={"newcomer": KNOWN.tenants[builders.TENANT].agents["plain-agent"]}
    )})  # fmt: skip

    async def takes(agent_id: str, credentials: Credentials) -> bool:
        try:
            await within(judge.judge(event_question(builders.event(meta={"agent_id": agent_id})), credentials))
        except Forbidden:
            return False
        return True

    for credentials, expected in ((KNOWN, (True, False)), (changed, (False, True)), (KNOWN, (True, False))):
        assert (await takes("plain-agent", credentials), await takes("newcomer", credentials)) == expected


async def test_many_are_asked_at_once_and_each_has_its_own_answer(judge: Judge) -> None:
    events = [builders.event(seq, payload="x" * (1_000 * (seq % 40))) for seq in range(1, 101)]
    offers = await within(asyncio.gather(*(judge.judge(event_question(event), KNOWN) for event in events)))
    assert [offer.event.seq for offer in offers] == list(range(1, 101))


async def test_what_waits_is_bounded_and_leaves_room_again() -> None:
    telemetry = Telemetry(OF_GATEWAY)
    question = event_question(builders.event(payload="x" * 30_000))
    async with JudgeProcess(telemetry, waiting_bytes_max=100_000) as judge:
        outcomes = await within(
            asyncio.gather(*(judge.judge(question, KNOWN) for _ in range(5)), return_exceptions=True)
        )
        assert [isinstance(each, QueueFull) for each in outcomes] == [False] * 3 + [True] * 2
        assert (await within(judge.judge(question, KNOWN))).event.seq == 1
        assert telemetry.registry.get_sample_value(JUDGE_WAITING.name) == 0


async def test_a_killed_process_tells_who_waits_and_another_takes_its_place() -> None:
    telemetry = Telemetry(OF_GATEWAY)
    question = event_question(builders.event(payload="x" * 30_000))
    async with JudgeProcess(telemetry) as judge:
        killed = judge.pid
        assert killed is not None
        os.kill(killed, signal.SIGSTOP)  # so that the question is not answered before
        waiting = asyncio.create_task(judge.judge(question, KNOWN))
        await asyncio.sleep(0)
        os.kill(killed, signal.SIGKILL)
        with pytest.raises(QueueFull, match="nothing was written"):
            await within(waiting)

        async def answered() -> bool:
            with suppress(QueueFull):
                return (await judge.judge(question, KNOWN)).event.seq == 1
            return False

        async with asyncio.timeout(PATIENCE_S):
            while not await answered():  # noqa: ASYNC110  # what is waited for tells nobody
                await asyncio.sleep(0.05)
        assert judge.pid != killed
        assert telemetry.registry.get_sample_value(JUDGE_ENDED.name) == 1


DEATHS = 5
ASKERS = 20


def test_who_asks_on_while_the_process_dies_is_answered_or_told_to_come_again() -> None:
    """On the gateway's own loop, which lets nobody write to a pipe that has broken."""

    async def ask_on(judge: JudgeProcess, over: asyncio.Event) -> None:
        question = event_question(builders.event(payload="x" * 200_000))
        while not over.is_set():
            with suppress(QueueFull):
                await judge.judge(question, KNOWN)
            await asyncio.sleep(0)

    async def die() -> None:
        over = asyncio.Event()
        async with JudgeProcess(Telemetry(OF_GATEWAY)) as judge, asyncio.TaskGroup() as group:
            for _ in range(ASKERS):
                group.create_task(ask_on(judge, over))
            for _ in range(DEATHS):
                await asyncio.sleep(RESTART_AFTER_S + 0.3)
                if judge.pid is not None:
                    os.kill(judge.pid, signal.SIGKILL)
            over.set()

    uvloop.run(die())


@pytest.mark.parametrize("turns", [0, 4, 100])
def test_a_process_that_answers_no_more_is_ended_and_its_gateway_leaves_nothing_of_it(
    monkeypatch: pytest.MonkeyPatch, turns: int
) -> None:
    """However far the loop has got with it; uvloop cannot be closed while a process is not waited for."""
    silent = (sys.executable, "-c", "import os, time; os.closerange(1, 1_000); time.sleep(60)")
    monkeypatch.setattr("gateway.judging.process.COMMAND", silent)

    def await_silence(pid: int | None) -> None:
        while os.path.lexists(f"/proc/{pid}/fd/1"):
            time.sleep(0.001)

    async def end() -> None:
        async with JudgeProcess(Telemetry(OF_GATEWAY)) as judge:
            await_silence(judge.pid)  # the loop stands still, and is yet to hear of it
            for _ in range(turns):
                await asyncio.sleep(0)

    uvloop.run(end())


async def test_the_process_is_told_to_stop_by_its_gateway_alone_and_ends_with_it() -> None:
    async with JudgeProcess(Telemetry(OF_GATEWAY)) as judge:
        pid = judge.pid
        assert pid is not None
        question = event_question(builders.event())
        await within(judge.judge(question, KNOWN))
        for number in (signal.SIGTERM, signal.SIGINT):  # a group of processes is often told at once
            os.kill(pid, number)
        assert (await within(judge.judge(question, KNOWN))).event.seq == 1
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
    question = event_question(event)
    threads_s = min([await _longest_pause_s(ThreadJudge(), question) for _ in range(TRIES)])
    async with JudgeProcess(Telemetry(OF_GATEWAY)) as judge:
        await within(judge.judge(event_question(builders.event()), KNOWN))  # it is up
        process_s = min([await _longest_pause_s(judge, question) for _ in range(TRIES)])
    print(f"{name}: {threads_s:.3f} s from threads, {process_s:.3f} s from a process")  # noqa: T201
    assert process_s < threads_s / 2


async def _longest_pause_s(judge: Judge, question: AnyQuestion) -> float:
    """How long the loop stood still at most while *question* was judged."""
    judging = asyncio.create_task(judge.judge(question, KNOWN))
    longest_s, last_s = 0.0, time.perf_counter()
    while not judging.done():
        await asyncio.sleep(0.001)
        now_s = time.perf_counter()
        longest_s, last_s = max(longest_s, now_s - last_s), now_s
    with suppress(Invalid, EventTooLarge):
        await judging
    return longest_s
