"""The client against the gateway's own application, with a log in memory behind it: the two agree on what is said."""

import json
from dataclasses import replace
from typing import Any

import pytest

from gateway.client import Run, TidegateClient, traced
from gateway.errors import LogUnavailable, QueueFull
from gateway.limits.throttle import LimitSettings
from schemas.catalogue import CODEC
from schemas.runs.records import EnvironmentCaptured, RunEvent, RunFinalized
from tests.support.builders import SECRET
from tests.unit.gateway.client.test_client import QUICK, RUN
from tests.unit.gateway.conftest import Served


def connect(served: Served, *, key: str = "all", **more: Any) -> TidegateClient:
    given: dict[str, Any] = {"agent_id": "demo-agent", "secret": SECRET, "environment": False, "bounds": QUICK}
    return TidegateClient(f"http://127.0.0.1:{served.port}", api_key=served.keys[key], **given | more)


def events(served: Served, run_id: str = RUN) -> list[tuple[int, object]]:
    records = [CODEC.decode(outgoing.value) for _, outgoing in served.publisher.log]
    found = [record for record in records if isinstance(record, RunEvent) and record.run_id == run_id]
    return [(record.seq, json.loads(record.payload or "")) for record in found]


def ends(served: Served, run_id: str = RUN) -> list[tuple[str, int | None]]:
    records = [CODEC.decode(outgoing.value) for _, outgoing in served.publisher.log]
    found = [record for record in records if isinstance(record, RunFinalized) and record.run_id == run_id]
    return [(record.status.value, record.event_count) for record in found]


async def report(client: TidegateClient, *payloads: object, run_id: str = RUN, **how: Any) -> Run:
    async with client.run(run_id, **how) as run:
        for payload in payloads:
            await run.event("message", payload)
    return run


async def test_a_signed_run_arrives_whole(served: Served) -> None:
    payloads = [{"größe": 2**63, "score": 1.50, "tiny": 5e-324, "text": "\u2028\x7f\U0001f30a"}, [], None, 10.0**21]
    async with connect(served, environment=True) as client:
        run = await report(client, *payloads)
    assert events(served) == list(enumerate(payloads, 1))
    assert ends(served) == [("succeeded", 4)]
    assert isinstance(CODEC.decode(served.publisher.log[0][1].value), EnvironmentCaptured)
    assert [receipt.wal_id for receipt in run.receipts] == [f"run.events/0/{offset}" for offset in range(1, 5)]


@pytest.mark.parametrize("failure", [QueueFull("full"), LogUnavailable("away")])
async def test_what_the_log_does_not_take_is_sent_again(served: Served, failure: Exception) -> None:
    served.publisher.failure = failure
    bounds = replace(QUICK, event_timeout_s=0.1, queue_events_max=2)
    async with connect(served, bounds=bounds) as client, client.run(RUN) as run:
        for number in range(3):  # the last finds no room
            await run.event("message", number)
        served.publisher.failure = None
    assert events(served) == [(1, 0), (2, 1)]
    assert ends(served) == [("succeeded", 3)]


async def test_a_bad_event_is_told_by_the_gateway_and_costs_nothing_else(served: Served) -> None:
    """One that only the gateway can know: another agent's key is not checked here."""
    async with connect(served, agent_id="nobody", secret=None) as client:
        run = await report(client, 1, 2)
    assert {one.code for one in run.dropped} == {"FORBIDDEN"}
    async with connect(served, secret="wrong") as client:
        run = await report(client, 1, 2, run_id="run-2")
    assert [one.code for one in run.dropped] == ["SIGNATURE_INVALID"] * 2
    assert ends(served, "run-2") == [("succeeded", 2)], "it shows as incomplete"


@pytest.mark.parametrize("key", ["all", "writer"])
async def test_a_run_goes_on_by_its_id(served: Served, key: str) -> None:
    async with connect(served) as client:
        await report(client, *range(7), finalize=False)
    async with connect(served, key=key) as client:
        run = await report(client, "a", "b", resume=True)
    assert events(served) == [*((number + 1, number) for number in range(7)), (8, "a"), (9, "b")]
    assert ends(served) == [("succeeded", 9)]
    assert run.dropped_count == 0


async def test_a_batch_that_a_limit_can_never_admit_is_made_smaller(served: Served) -> None:
    """A batch is charged or refused whole: 200 events at once are over a limit of 5 for ever."""
    served.throttle._settings = LimitSettings(run_per_min=5)
    async with connect(served, bounds=replace(QUICK, close_timeout_s=1, close_max_s=1)) as client:
        run = await report(client, *range(20))
    assert [payload for _, payload in events(served)] == list(range(5))
    assert {one.code for one in run.dropped} == {"NOT_SENT"}


async def test_calls_are_told_as_the_trace_record_expects_them(served: Served) -> None:
    @traced
    def double(number: int) -> int:
        return 2 * number

    async with connect(served) as client, client.run(RUN):
        double(4)
    (_, call), (_, result) = events(served)
    assert isinstance(call, dict)
    assert isinstance(result, dict)
    assert call["call_id"] == result["call_id"]


async def test_the_end_is_said_once_and_what_follows_is_refused(served: Served) -> None:
    async with connect(served) as client:
        await report(client, 1)
        again = await report(client, *range(300), resume=True)
    assert {one.code for one in again.dropped} == {"RUN_FINALIZED"}
    assert ends(served) == [("succeeded", 1)]
