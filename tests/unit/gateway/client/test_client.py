"""The client against a gateway on a real socket that misbehaves on command."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from gateway.client import Bounds, Run, TidegateClient, Undelivered
from schemas.errors import Invalid
from schemas.runs.signature import event_signature_holds
from tests.unit.gateway.client.fake_gateway import BUSY, CUT, HANG, LOG_AWAY, TAKEN_AND_CUT, Answer, FakeGateway

QUICK = Bounds(request_timeout_s=5, pause_first_s=0.001, pause_max_s=0.001, close_timeout_s=5)
IMPATIENT = replace(QUICK, close_timeout_s=0.05)
SECRET = "s3cret"
RUN = "run-1"


def connect(gateway: FakeGateway, *, bounds: Bounds = QUICK, environment: bool = False, **more: Any) -> TidegateClient:
    return TidegateClient(
        gateway.url, api_key="tg_a_b", agent_id="clerk", bounds=bounds, environment=environment, **more
    )


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
    assert {receipt.duplicate for receipt in run.receipts} == {answer.taken}
    assert run.dropped == ()


async def test_what_is_not_answered_in_time_is_sent_again(gateway: FakeGateway) -> None:
    gateway.answers.append(HANG)
    async with connect(gateway, bounds=replace(QUICK, request_timeout_s=0.1)) as client, client.run() as run:
        await run.event("message", 1)
    assert len(gateway.bodies) == 2
    assert run.accepted_count == 1


def refuse(payload: object, answer: Answer) -> Callable[[dict[str, Any]], Answer | None]:
    return lambda event: answer if event["payload"] == payload else None


async def test_a_refused_event_is_reported_and_leaves_its_number_to_the_next(gateway: FakeGateway) -> None:
    gateway.verdict = refuse("too much", Answer(status=413, code="PAYLOAD_TOO_LARGE"))
    async with connect(gateway, strict=True) as client:
        with pytest.raises(Undelivered, match="message: PAYLOAD_TOO_LARGE") as caught:
            await report(client, "one", "too much", "goes on")
    assert [(event["seq"], event["payload"]) for event in gateway.events[RUN]] == [(1, "one"), (2, "goes on")]
    assert caught.value.count == 1
    assert gateway.finalized[RUN]["event_count"] == 3, "a run that lost an event shows as incomplete"


async def test_a_batch_that_is_refused_as_a_whole_is_split_until_the_event_at_fault_is_found(
    gateway: FakeGateway,
) -> None:
    """As a proxy does whose limit is lower, or which looks into bodies."""
    gateway.refuse_batch = lambda body: Answer(status=400, body=b"no", headers={}) if b"no good" in body else None
    async with connect(gateway) as client, client.run(RUN) as run:
        for payload in (*range(5), "no good", *range(6, 10)):
            await run.event("message", payload)
    assert [event["payload"] for event in gateway.events[RUN]] == [0, 1, 2, 3, 4, 6, 7, 8, 9]
    assert [event["seq"] for event in gateway.events[RUN]] == list(range(1, 10))
    assert [(one.type, one.code) for one in run.dropped] == [("message", "HTTP_400")]


async def test_events_that_wait_go_in_batches_of_bounded_count_and_bytes(gateway: FakeGateway) -> None:
    bounds = replace(QUICK, batch_events_max=10, batch_bytes_max=100_000)
    async with connect(gateway, bounds=bounds) as client, client.run() as run:
        for number in range(25):
            await run.event("message", number)
        await run.event("message", "x" * 90_000)
        await run.event("message", "x" * 900_000)
    assert len(gateway.events[run.id]) == 27
    assert max(map(len, gateway.batches)) == 10
    assert all(
        len(body) <= 110_000 or len(batch) == 1 for body, batch in zip(gateway.bodies, gateway.batches, strict=True)
    )


async def test_a_large_event_is_sent_without_a_warning(gateway: FakeGateway) -> None:
    """Warnings are errors here, as they may be in the program that uses the client."""
    async with connect(gateway, secret=SECRET) as client, client.run() as run:
        await run.event("message", "x" * 9_000_000)
        await run.event("message", "after")
    assert [len(event["payload"]) for event in gateway.events[run.id]] == [9_000_000, 5]


async def test_an_unfinished_batch_goes_on_with_what_is_left_of_it(gateway: FakeGateway) -> None:
    """Skipped events are sent again; what was accepted before is not."""
    gateway.verdict = refuse(3, Answer(status=422, code="VALIDATION_ERROR"))
    async with connect(gateway) as client, client.run(RUN) as run:
        for number in range(6):
            await run.event("message", number)
    assert [(event["seq"], event["payload"]) for event in gateway.events[RUN]] == [
        (1, 0), (2, 1), (3, 2), (4, 4), (5, 5),
    ]  # fmt: skip
    assert [receipt.seq for receipt in run.receipts] == [1, 2, 3, 4, 5]


async def test_what_is_refused_after_a_doubt_keeps_its_number(gateway: FakeGateway) -> None:
    """The first attempt was taken, and the second refused: the number must not go to another event."""
    gateway.answers.extend([TAKEN_AND_CUT, Answer(status=400, code="TEST")])
    async with connect(gateway) as client, client.run(RUN) as run:
        await run.event("message", 1)
        await gateway.arrived.wait()
        await run.event("message", 2)
    assert [event["payload"] for event in gateway.events[RUN]] == [1, 2]
    assert gateway.finalized[RUN]["event_count"] == 2
    assert run.dropped_count == 1


async def test_what_was_in_doubt_and_never_taken_gives_its_number_back(gateway: FakeGateway) -> None:
    gateway.answers.extend([CUT, Answer(status=400, code="TEST")])
    async with connect(gateway) as client, client.run(RUN) as run:
        await run.event("message", 1)
        await gateway.arrived.wait()
        await run.event("message", 2)
    assert [(event["seq"], event["payload"]) for event in gateway.events[RUN]] == [(1, 2)]
    assert gateway.finalized[RUN]["event_count"] == 2, "one was lost"


@pytest.mark.parametrize("code", ["RUN_FINALIZED", "FORBIDDEN", "UNAUTHENTICATED"])
async def test_what_holds_for_the_whole_run_is_not_asked_event_by_event(gateway: FakeGateway, code: str) -> None:
    gateway.always = Answer(status=403, code=code)
    async with connect(gateway) as client, client.run() as run:
        for number in range(100):
            await run.event("message", number)
    assert len(gateway.bodies) < 5
    assert {one.code for one in run.dropped if one.type == "message"} == {code}
    assert run.dropped_count >= 100


async def test_an_event_at_which_the_gateway_fails_is_given_up_and_the_rest_goes_on(gateway: FakeGateway) -> None:
    gateway.refuse_batch = lambda body: Answer(status=500, code="INTERNAL_ERROR") if b"poison" in body else None
    async with connect(gateway) as client, client.run(RUN) as run:
        for payload in ("a", "poison", "b"):
            await run.event("message", payload)
    assert [event["payload"] for event in gateway.events[RUN]] == ["a", "b"]
    assert [one.code for one in run.dropped] == ["INTERNAL_ERROR"]
    assert gateway.finalized[RUN]["status"] == "succeeded"


async def test_an_environment_that_is_refused_costs_nothing_else(gateway: FakeGateway) -> None:
    gateway.other_answers.append(Answer(status=422, code="VALIDATION_ERROR"))
    async with connect(gateway, environment=True) as client, client.run(RUN) as run:
        await run.event("message", 1)
    assert [one.type for one in run.dropped] == ["environment"]
    assert gateway.finalized[RUN] == {"status": "succeeded", "event_count": 1}


async def test_an_exception_finalizes_the_run_as_failed_and_notes_what_was_dropped(gateway: FakeGateway) -> None:
    gateway.verdict = refuse(1, Answer(status=403, code="SIGNATURE_INVALID"))
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


async def test_a_run_ends_in_bounded_time_and_lists_what_was_left(
    gateway: FakeGateway, caplog: pytest.LogCaptureFixture
) -> None:
    gateway.always = replace(LOG_AWAY, headers={"Retry-After": "30"})
    async with connect(gateway, bounds=IMPATIENT) as client, client.run(RUN) as run:
        await run.event("message", 1)
        await run.event("message", 2)
        await gateway.asked.wait()
    assert [(one.type, one.code) for one in run.dropped] == [
        ("message", "NOT_SENT"), ("message", "NOT_SENT"), ("finalize", "NOT_SENT"),
    ]  # fmt: skip
    lines = [record.getMessage() for record in caplog.records if "not delivered" in record.getMessage()]
    assert len(lines) == 1
    assert lines[0].startswith(f"run {RUN}: 3 not delivered: message: NOT_SENT: ")


async def test_a_gateway_that_asks_for_patience_is_waited_for_longer_than_one_that_is_away(
    gateway: FakeGateway,
) -> None:
    gateway.answers.extend([replace(BUSY, headers={"Retry-After": "1"})] * 2)
    bounds = replace(IMPATIENT, close_timeout_s=0.5)
    async with connect(gateway, bounds=bounds) as client, client.run() as run:
        await run.event("message", 1)
        await gateway.arrived.wait()
    assert (run.accepted_count, run.dropped_count) == (1, 0)


async def test_patience_has_an_end(gateway: FakeGateway) -> None:
    gateway.always = replace(BUSY, headers={"Retry-After": "99999"})
    bounds = replace(IMPATIENT, close_max_s=0.2)
    async with connect(gateway, bounds=bounds) as client, client.run() as run:
        await run.event("message", 1)
        await gateway.asked.wait()
    assert {one.type for one in run.dropped} == {"message", "finalize"}


async def test_a_full_queue_delays_the_program_once_and_then_drops(gateway: FakeGateway) -> None:
    gateway.always = LOG_AWAY
    bounds = replace(IMPATIENT, queue_events_max=3, event_timeout_s=0.05)
    async with connect(gateway, bounds=bounds) as client, client.run(RUN) as run:
        for number in range(1000):  # 50 s if each waited
            await run.event("message", number)
    assert run.event_count == 3
    assert sum(one.code == "QUEUE_FULL" for one in run.dropped) == 997


async def test_a_queue_is_bounded_in_bytes_too(gateway: FakeGateway) -> None:
    gateway.always = LOG_AWAY
    bounds = replace(IMPATIENT, queue_bytes_max=100_000, event_timeout_s=0.05)
    async with connect(gateway, bounds=bounds) as client, client.run(RUN) as run:
        for _ in range(10):
            await run.event("message", "x" * 30_000)
    assert run.event_count == 3


async def test_what_a_full_queue_dropped_counts_as_missing(gateway: FakeGateway) -> None:
    gateway.answers.extend([LOG_AWAY] * 40)
    bounds = replace(QUICK, queue_events_max=3, event_timeout_s=0)
    async with connect(gateway, bounds=bounds) as client, client.run(RUN) as run:
        for number in range(5):
            await run.event("message", number)
    assert [event["seq"] for event in gateway.events[RUN]] == [1, 2, 3]
    assert gateway.finalized[RUN]["event_count"] == 5


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


async def test_an_event_after_the_end_is_reported(gateway: FakeGateway) -> None:
    async with connect(gateway) as client:
        async with client.run() as run:
            pass
        await run.event("message", 1)
        assert [(one.type, one.code) for one in run.dropped] == [("message", "RUN_ENDED")]


async def test_an_event_after_the_end_is_an_error_where_the_client_is_strict(gateway: FakeGateway) -> None:
    async with connect(gateway, strict=True) as client:
        async with client.run() as run:
            pass
        with pytest.raises(RuntimeError, match="has ended"):
            await run.event("message", 1)


async def test_the_environment_goes_with_each_run(gateway: FakeGateway) -> None:
    async with connect(gateway, environment=True) as client, client.run() as run:
        pass
    assert gateway.environments[run.id]["interpreter"]["implementation"]


@pytest.mark.parametrize("run_id", ["..", "a/b", "x" * 129])
async def test_a_run_needs_a_name_that_a_path_can_bear(gateway: FakeGateway, run_id: str) -> None:
    async with connect(gateway) as client:
        with pytest.raises(Invalid):
            client.run(run_id)


async def test_a_run_takes_events_from_another_event_loop(gateway: FakeGateway) -> None:
    async with connect(gateway) as client, client.run(RUN) as run:
        await asyncio.to_thread(lambda: asyncio.run(run.event("message", "other")))
    assert [event["payload"] for event in gateway.events[RUN]] == ["other"]


async def test_a_run_is_entered_once(gateway: FakeGateway) -> None:
    async with connect(gateway) as client:
        run = client.run(RUN)
        with pytest.raises(RuntimeError, match="is not open"):
            await run.event("message", 1)
        async with run:
            with pytest.raises(RuntimeError, match="entered before"):
                await run.__aenter__()


async def test_an_environment_that_takes_for_ever_holds_no_event_up(gateway: FakeGateway) -> None:
    async with connect(gateway) as client:
        hanging: asyncio.Task[bytes | None] = asyncio.create_task(asyncio.sleep(3600, b"{}"))
        run = Run(RUN, parts=replace(client._parts, environment=hanging), environment_timeout_s=0.01)
        async with run:
            await run.event("message", 1)
        hanging.cancel()
    assert [event["payload"] for event in gateway.events[RUN]] == [1]
    assert gateway.finalized[RUN]["status"] == "succeeded"
    assert [(one.type, one.code) for one in run.dropped] == [("environment", "NOT_CAPTURED")]
