"""Batches: each event with its own result, in three formats."""

import asyncio
import json
from types import SimpleNamespace
from typing import Any

import pytest
import toon_format

from gateway.errors import LogUnavailable, QueueFull
from gateway.http.lists import COMMAS_MAX
from gateway.limits.limits import Limits
from gateway.limits.throttle import Charge
from gateway.runs.handlers.batches import _outcomes
from gateway.runs.parsing.bodies import BATCH_EVENTS_MAX
from schemas.kafka.places import RecordPlace
from tests.support import builders
from tests.unit.gateway.conftest import Served

BATCH = f"/api/runs/{builders.RUN}/events/batch"


async def send(served: Served, events: list[Any] | bytes, media_type: str = "application/json") -> tuple[int, Any]:
    """Post a batch; the status and the answer."""
    body = events if isinstance(events, bytes) else json.dumps(events).encode()
    async with served.client.post(BATCH, data=body, headers=served.headers(**{"Content-Type": media_type})) as answer:
        return answer.status, await answer.json()


def statuses(answer: dict[str, Any]) -> list[str]:
    return [result["status"] for result in answer["results"]]


@pytest.mark.parametrize("media_type", ["application/json", "application/x-ndjson", "application/jsonl", "text/toon"])
async def test_a_batch_is_taken_in_order(served: Served, media_type: str) -> None:
    events = [builders.event(seq) for seq in range(1, 6)]
    lines = b"\r\n\n".join(json.dumps(event).encode() for event in events)
    body = {"application/json": json.dumps(events).encode(), "text/toon": toon_format.dumps(events).encode()}
    status, answer = await send(served, body.get(media_type, lines), media_type)
    assert (status, statuses(answer)) == (202, ["accepted"] * 5)
    assert [result["seq"] for result in answer["results"]] == [1, 2, 3, 4, 5]
    assert [result["wal_id"] for result in answer["results"]] == [f"run.events/0/{offset}" for offset in range(5)]
    assert len(served.publisher.published) == 5


async def test_a_repeated_batch_is_duplicates(served: Served) -> None:
    events = [builders.event(seq) for seq in range(1, 4)]
    first = (await send(served, events))[1]
    status, answer = await send(served, [*events, builders.event(4)])
    assert (status, statuses(answer)) == (202, ["duplicate"] * 3 + ["accepted"])
    assert [each["wal_id"] for each in answer["results"][:3]] == [each["wal_id"] for each in first["results"]]


@pytest.mark.parametrize(
    ("wrong", "code", "more"),
    [
        (builders.event(2, actor="NO"), "VALIDATION_ERROR", {"errors": [{"pointer": "/actor"}]}),
        (builders.event(9), "SEQUENCE_ERROR", {"expected_seq": 2, "seq": 9}),
        (builders.event(1, payload="other"), "IDEMPOTENCY_CONFLICT", {"seq": 1}),
        (builders.event(2, meta={"agent_id": "nobody"}), "FORBIDDEN", {}),
        (builders.event(2, meta={"signature": "00"}), "SIGNATURE_INVALID", {}),
    ],
)
async def test_what_follows_a_rejected_event_is_skipped(
    served: Served, wrong: dict[str, Any], code: str, more: dict[str, Any]
) -> None:
    status, answer = await send(served, [builders.event(1), wrong, builders.event(2), builders.event(3)])
    assert (status, statuses(answer)) == (207, ["accepted", "rejected", "skipped", "skipped"])
    rejected = answer["results"][1]
    assert rejected["code"] == code
    assert rejected["detail"]
    for name, value in more.items():
        if name == "errors":
            assert [{"pointer": fault["pointer"]} for fault in rejected["errors"]] == value
        else:
            assert rejected[name] == value
    assert len(served.publisher.published) == 1


async def test_a_batch_that_the_log_does_not_take_is_to_be_sent_again(served: Served) -> None:
    events = [builders.event(seq) for seq in (1, 2)]
    away = (LogUnavailable("away"), 503, "LOG_UNAVAILABLE")
    for refusal, status, code in ((QueueFull("full"), 429, "BACKPRESSURE"), away):
        served.publisher.failure = refusal
        answered, problem = await send(served, events)
        assert (answered, problem["code"]) == (status, code)
    served.publisher.failure = None
    assert statuses((await send(served, events))[1]) == ["accepted", "accepted"]


async def test_what_was_not_acknowledged_is_to_be_sent_again(served: Served) -> None:
    served.publisher.held = held = []
    sending = asyncio.create_task(send(served, [builders.event(1), builders.event(2)]))
    while len(held) < 2:  # noqa: ASYNC110  # the publisher tells nobody
        await asyncio.sleep(0.001)
    held[0].settle(RecordPlace("run.events", 0, 0))
    held[1].give_up(LogUnavailable("no acknowledgement"))
    status, answer = await sending
    assert (status, statuses(answer)) == (207, ["accepted", "retry"])
    assert answer["results"][1]["code"] == "LOG_UNAVAILABLE"


@pytest.mark.parametrize(
    ("body", "media_type", "status"),
    [
        (b"{}", "application/json", 422),
        (b"[]", "application/json", 422),
        (b"[1,", "application/json", 400),
        (b"\xff", "application/json", 400),
        (b"[" * 100_000, "application/json", 400),
        (b"\n\n", "application/x-ndjson", 422),
        (b"[" + b",".join([b"1"] * (BATCH_EVENTS_MAX + 1)) + b"]", "application/json", 422),
    ],
)
async def test_what_is_no_batch_is_a_fault_as_a_whole(
    served: Served, body: bytes, media_type: str, status: int
) -> None:
    answered, problem = await send(served, body, media_type)
    assert (answered, problem["code"]) == (status, "VALIDATION_ERROR")


async def test_a_broken_line_is_rejected_alone(served: Served) -> None:
    body = json.dumps(builders.event(1)).encode() + b"\n{\n"
    status, answer = await send(served, body, "application/x-ndjson")
    assert (status, statuses(answer)) == (207, ["accepted", "rejected"])


async def test_a_batch_of_many_numbers_is_taken(served: Served) -> None:
    """So many commas might be a list of millions: it is split an element at a time."""
    numbers = list(range(COMMAS_MAX // 2 + 1))
    status, answer = await send(served, [builders.event(seq, payload=numbers) for seq in (1, 2)])
    assert (status, statuses(answer)) == (202, ["accepted"] * 2)


async def test_those_that_are_overdue_are_waited_for_together() -> None:
    """Each has a second more: one after the other, a thousand of them would hold the answer for minutes."""
    overdue = 50
    all_wait = asyncio.Barrier(overdue)

    class Overdue:
        async def acknowledged(self) -> RecordPlace:
            async with asyncio.timeout(5):
                await all_wait.wait()
            raise LogUnavailable("still no acknowledgement")

    class First:
        async def acknowledged(self) -> RecordPlace:
            raise LogUnavailable("no acknowledgement within 10 s")

    event: Any = SimpleNamespace(identity=SimpleNamespace(seq=1), agent_id="plain-agent")
    outcomes: list[Any] = [First(), *(Overdue() for _ in range(overdue))]
    answered = await _outcomes([(event, outcome) for outcome in outcomes], Charge(Limits()))
    assert [each.result.status for each in answered] == ["retry"] * (overdue + 1)
