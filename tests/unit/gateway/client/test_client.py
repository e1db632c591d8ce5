"""The client against a gateway on a real socket that misbehaves on command."""

import asyncio
from dataclasses import replace

import pytest

from gateway.client import Bounds, TidegateClient, Undelivered
from schemas.errors import Invalid
from schemas.signature import event_signature_holds
from tests.unit.gateway.client.fake_gateway import BUSY, CUT, HANG, LOG_AWAY, TAKEN_AND_CUT, Answer, FakeGateway

QUICK = Bounds(request_timeout_s=5, give_up_after_s=5, pause_first_s=0.001, pause_max_s=0.001)
IMPATIENT = replace(QUICK, give_up_after_s=0)
SECRET = "s3cret"
RUN = "run-1"


def connect(gateway: FakeGateway, *, bounds: Bounds = QUICK, secret: str | None = None) -> TidegateClient:
    return TidegateClient(gateway.url, api_key="tg_a_b", agent_id="clerk", secret=secret, bounds=bounds)


async def report(client: TidegateClient, *payloads: object, then: type[BaseException] | None = None) -> None:
    async with client.run(RUN) as run:
        for payload in payloads:
            await run.event("message", payload)
        if then is not None:
            raise then


async def test_a_run_numbers_its_events_from_1_and_ends_succeeded(gateway: FakeGateway) -> None:
    async with connect(gateway) as client, client.run() as run:
        for word in ("one", "two", "three"):
            await run.event("message", {"text": word})
    assert [(event["seq"], event["payload"]["text"]) for event in gateway.events[run.id]] == [
        (1, "one"),
        (2, "two"),
        (3, "three"),
    ]
    assert gateway.finalized[run.id] == {"status": "succeeded", "event_count": 3}
    assert [(receipt.seq, receipt.wal_id) for receipt in run.receipts] == [
        (seq, f"run.events/0/{seq}") for seq in (1, 2, 3)
    ]
    assert gateway.api_keys == {"tg_a_b"}


async def test_an_agent_with_a_secret_signs_what_it_sends(gateway: FakeGateway) -> None:
    async with connect(gateway, secret=SECRET) as client, client.run() as run:
        await run.event("reasoning", {"größe": 1.5, "id": 2**60})
    (event,) = gateway.events[run.id]
    assert event_signature_holds(event, event["meta"]["signature"], [SECRET])


async def test_an_agent_without_a_secret_does_not_sign(gateway: FakeGateway) -> None:
    async with connect(gateway) as client, client.run() as run:
        await run.event("reasoning", {})
    assert "signature" not in gateway.sent[0]["meta"]


@pytest.mark.parametrize("answer", [BUSY, LOG_AWAY, CUT, TAKEN_AND_CUT, replace(LOG_AWAY, taken=True)])
async def test_what_was_not_taken_for_sure_is_sent_again_byte_for_byte(gateway: FakeGateway, answer: Answer) -> None:
    gateway.answers.append(answer)
    async with connect(gateway, secret=SECRET) as client, client.run() as run:
        await run.event("message", "first")
        await run.event("message", "second")
    assert gateway.bodies[0] == gateway.bodies[1]
    assert [event["payload"] for event in gateway.events[run.id]] == ["first", "second"]
    assert [receipt.duplicate for receipt in run.receipts] == [answer.taken, False]
    assert run.dropped == ()


async def test_what_is_not_answered_in_time_is_sent_again(gateway: FakeGateway) -> None:
    gateway.answers.append(HANG)
    async with connect(gateway, bounds=replace(QUICK, request_timeout_s=0.1)) as client, client.run() as run:
        await run.event("message", 1)
    assert len(gateway.bodies) == 2
    assert run.accepted_count == 1


async def test_a_refused_event_is_reported_and_leaves_its_number_to_the_next(gateway: FakeGateway) -> None:
    gateway.answers.append(Answer(status=413, code="PAYLOAD_TOO_LARGE"))
    async with connect(gateway) as client:
        with pytest.raises(Undelivered, match="message: PAYLOAD_TOO_LARGE") as caught:
            await report(client, "too much", "goes on")
    assert len(gateway.sent) == 2
    assert [event["payload"] for event in gateway.events[RUN]] == ["goes on"]
    assert caught.value.count == 1
    assert gateway.finalized[RUN]["event_count"] == 2


async def test_nothing_follows_an_event_whose_fate_is_unknown(gateway: FakeGateway) -> None:
    gateway.answers.append(replace(LOG_AWAY, headers={"Retry-After": "60"}))
    async with connect(gateway, bounds=IMPATIENT) as client:
        with pytest.raises(Undelivered) as caught:
            await report(client, 1, 2)
    assert len(gateway.sent) == 1
    assert [dropped.code for dropped in caught.value.dropped] == ["LOG_UNAVAILABLE", "NOT_SENT", "NOT_SENT"]
    assert gateway.finalized == {}


async def test_a_refusal_after_a_doubt_is_still_a_doubt(gateway: FakeGateway) -> None:
    """The first attempt was taken: its number must not go to another event."""
    gateway.answers.extend([TAKEN_AND_CUT, Answer(status=403, code="FORBIDDEN")])
    async with connect(gateway) as client:
        with pytest.raises(Undelivered) as caught:
            await report(client, 1, 2)
    assert [event["payload"] for event in gateway.events[RUN]] == [1]
    assert [dropped.code for dropped in caught.value.dropped] == ["FORBIDDEN", "NOT_SENT", "NOT_SENT"]


async def test_what_was_never_taken_leaves_its_number_to_the_next(gateway: FakeGateway) -> None:
    gateway.answers.append(BUSY)
    async with connect(gateway, bounds=IMPATIENT) as client:
        with pytest.raises(Undelivered, match="message: BACKPRESSURE"):
            await report(client, 1, 2)
    assert [event["payload"] for event in gateway.events[RUN]] == [2]


async def test_an_exception_finalizes_the_run_as_failed_and_bears_what_was_dropped(gateway: FakeGateway) -> None:
    gateway.answers.append(Answer(status=403, code="SIGNATURE_INVALID"))
    async with connect(gateway) as client:
        with pytest.raises(KeyError) as caught:
            await report(client, 1, then=KeyError)
    assert gateway.finalized[RUN]["status"] == "failed"
    assert "SIGNATURE_INVALID" in caught.value.__notes__[0]


async def test_a_cancelled_run_is_finalized_as_cancelled(gateway: FakeGateway) -> None:
    async with connect(gateway) as client:
        with pytest.raises(asyncio.CancelledError):
            await report(client, 1, then=asyncio.CancelledError)
    assert gateway.finalized[RUN] == {"status": "cancelled", "event_count": 1}


async def test_event_waits_while_the_queue_is_full(gateway: FakeGateway) -> None:
    bounds = replace(QUICK, queue_events_max=2, receipts_max=3)
    async with connect(gateway, bounds=bounds) as client, client.run() as run:
        for number in range(50):
            await run.event("message", number)
            assert run.event_count - len(gateway.events.get(run.id, [])) <= bounds.queue_events_max + 1
    assert [event["payload"] for event in gateway.events[run.id]] == list(range(50))
    assert [receipt.seq for receipt in run.receipts] == [48, 49, 50]


async def test_a_run_ends_in_bounded_time_and_lists_what_was_left(gateway: FakeGateway) -> None:
    gateway.answers.append(replace(BUSY, headers={"Retry-After": "30"}))
    bounds = replace(QUICK, give_up_after_s=60, close_timeout_s=0.05)
    async with connect(gateway, bounds=bounds) as client:
        with pytest.raises(Undelivered) as caught:
            await report(client, 1, 2)
    assert [(dropped.type, dropped.code) for dropped in caught.value.dropped] == [
        ("message", "CANCELLED"),
        ("message", "NOT_SENT"),
        ("finalize", "NOT_SENT"),
    ]


async def test_runs_go_in_parallel_each_in_its_order(gateway: FakeGateway) -> None:
    async def work(client: TidegateClient, run_id: str) -> None:
        async with client.run(run_id) as run:
            for number in range(20):
                await run.event("message", number)

    async with connect(gateway) as client:
        await asyncio.gather(*(work(client, f"run-{number}") for number in range(5)))
    assert {run_id: [event["payload"] for event in events] for run_id, events in gateway.events.items()} == {
        f"run-{number}": list(range(20)) for number in range(5)
    }


async def test_what_is_sent_is_what_was_said_even_if_the_caller_changes_it(gateway: FakeGateway) -> None:
    payload = {"found": ["a"]}
    async with connect(gateway) as client, client.run() as run:
        await run.event("tool_result", payload, actor="tool")
        payload["found"].clear()
    assert gateway.events[run.id][0]["payload"] == {"found": ["a"]}


@pytest.mark.parametrize(
    ("type_", "payload"), [("Not Lower", {}), ("message", "\0"), ("message", 2**65), ("message", float("nan"))]
)
async def test_an_invalid_event_is_refused_where_it_is_made(gateway: FakeGateway, type_: str, payload: object) -> None:
    async with connect(gateway) as client, client.run() as run:
        with pytest.raises(Invalid):
            await run.event(type_, payload)
    assert gateway.sent == []
    assert gateway.finalized[run.id] == {"status": "succeeded", "event_count": 0}


async def test_an_event_after_the_end_is_an_error_not_a_loss(gateway: FakeGateway) -> None:
    async with connect(gateway) as client:
        async with client.run() as run:
            pass
        with pytest.raises(RuntimeError, match="has ended"):
            await run.event("message", 1)


async def test_the_environment_goes_with_each_run(gateway: FakeGateway) -> None:
    async with connect(gateway) as client, client.run() as run:
        pass
    assert gateway.environments[run.id]["interpreter"]["implementation"]


@pytest.mark.parametrize("run_id", ["..", "a/b", "x" * 129])
async def test_a_run_needs_a_name_that_a_path_can_bear(gateway: FakeGateway, run_id: str) -> None:
    async with connect(gateway) as client:
        with pytest.raises(Invalid):
            client.run(run_id)
