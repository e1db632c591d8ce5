"""A run that another process began goes on where it stands, whatever its key may read and however the store lags."""

import asyncio
from dataclasses import replace

import pytest

from tests.unit.gateway.client.fake_gateway import LOG_AWAY, Answer, FakeGateway
from tests.unit.gateway.client.test_client import QUICK, RUN, connect


async def begin(gateway: FakeGateway, count: int) -> None:
    async with connect(gateway) as client, client.run(RUN, finalize=False) as run:
        for number in range(count):
            await run.event("message", number)
    assert RUN not in gateway.finalized


@pytest.mark.parametrize("may_read", [True, False])
@pytest.mark.parametrize(("stored", "unread"), [(0, 0), (1, 0), (5, 0), (5, 1), (5, 5), (300, 299)])
async def test_a_run_goes_on_by_its_id(gateway: FakeGateway, stored: int, unread: int, may_read: bool) -> None:
    await begin(gateway, stored)
    gateway.may_read, gateway.unread_count = may_read, unread
    request_count = len(gateway.bodies)
    async with connect(gateway) as client, client.run(RUN, resume=True) as run:
        for text in ("a", "b", "c"):
            await run.event("message", text)
    assert [event["payload"] for event in gateway.events[RUN]] == [*range(stored), "a", "b", "c"]
    assert gateway.finalized[RUN] == {"status": "succeeded", "event_count": stored + 3}
    assert run.dropped_count == 0
    assert len(gateway.bodies) - request_count < 30


async def test_a_run_that_goes_on_without_new_events_is_finalized_with_its_count(gateway: FakeGateway) -> None:
    await begin(gateway, 4)
    async with connect(gateway) as client, client.run(RUN, resume=True):
        pass
    assert gateway.finalized[RUN]["event_count"] == 4


async def test_the_end_of_a_run_whose_place_is_not_known_does_not_guess_a_count(gateway: FakeGateway) -> None:
    await begin(gateway, 4)
    gateway.may_read = False
    async with connect(gateway) as client, client.run(RUN, resume=True):
        pass
    assert gateway.finalized[RUN] == {"status": "succeeded"}


async def test_two_processes_may_share_a_run(gateway: FakeGateway) -> None:
    async def work(word: str) -> None:
        async with connect(gateway) as client, client.run(RUN, resume=True, finalize=False) as run:
            for number in range(20):
                await run.event("message", f"{word}{number}")
                await asyncio.sleep(0)
        assert run.dropped_count == 0

    await asyncio.gather(work("a"), work("b"), work("c"))
    payloads = [event["payload"] for event in gateway.events[RUN]]
    for word in "abc":
        assert [one for one in payloads if one[0] == word] == [f"{word}{number}" for number in range(20)]


async def test_a_store_that_is_away_is_waited_for(gateway: FakeGateway) -> None:
    """Without it the first number would be a guess, and a wrong one is rejected only after it was accepted."""
    await begin(gateway, 3)
    gateway.other_answers.extend([replace(LOG_AWAY, code="STORE_UNAVAILABLE")] * 3)
    async with connect(gateway) as client, client.run(RUN, resume=True) as run:
        await run.event("message", "next")
    assert [event["seq"] for event in gateway.events[RUN]] == [1, 2, 3, 4]


async def test_a_run_of_another_sender_is_not_continued_unless_it_is_asked_for(gateway: FakeGateway) -> None:
    await begin(gateway, 2)
    async with connect(gateway) as client, client.run(RUN) as run:
        await run.event("message", "x")
    assert [event["payload"] for event in gateway.events[RUN]] == [0, 1]
    assert [one.code for one in run.dropped] == ["IDEMPOTENCY_CONFLICT"]
    assert "resume=True" in run.dropped[0].detail


async def test_a_closed_run_says_so(gateway: FakeGateway) -> None:
    async with connect(gateway) as client:
        async with client.run(RUN) as run:
            await run.event("message", 1)
        async with client.run(RUN, resume=True) as again:
            await again.event("message", 2)
    assert [one.code for one in again.dropped] == ["RUN_FINALIZED"]


async def test_a_gateway_that_expects_the_impossible_is_not_asked_for_ever(gateway: FakeGateway) -> None:
    gateway.verdict = lambda event: Answer(status=409, code="SEQUENCE_ERROR", expected_seq=max(1, event["seq"] - 1))
    async with connect(gateway) as client, client.run(RUN) as run:
        await run.event("message", 1)
    assert [one.code for one in run.dropped] == ["SEQUENCE_ERROR"]
    gateway.verdict = lambda _event: Answer(status=409, code="IDEMPOTENCY_CONFLICT")
    async with connect(gateway) as client, client.run("run-2", resume=True) as run:
        await run.event("message", 1)
    assert [one.code for one in run.dropped] == ["IDEMPOTENCY_CONFLICT"]
    assert len(gateway.bodies) < 200


async def test_to_go_on_takes_an_id(gateway: FakeGateway) -> None:
    async with connect(gateway) as client:
        with pytest.raises(ValueError, match="resume=True needs the id"):
            client.run(resume=True)


async def test_a_log_that_ends_earlier_than_was_sent_goes_on_from_its_end(gateway: FakeGateway) -> None:
    """As after a topic was recreated under a running program."""
    sent = asyncio.Event()
    gateway.on_results = sent.set
    async with connect(gateway, bounds=replace(QUICK, batch_events_max=1)) as client, client.run(RUN) as run:
        await run.event("message", 1)
        await sent.wait()
        gateway.events[RUN].clear()
        await run.event("message", 2)
    assert [(event["seq"], event["payload"]) for event in gateway.events[RUN]] == [(1, 2)]
