"""What could not be sent in time is sent by the next client with the same spool file, as if nothing had happened."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateway.client import Run, TidegateClient
from schemas.runs.signature import event_signature_holds
from tests.unit.gateway.client.fake_gateway import CUT, LOG_AWAY, TAKEN_AND_CUT, Answer, FakeGateway
from tests.unit.gateway.client.test_client import IMPATIENT, RUN, SECRET, connect

NOWHERE = "http://127.0.0.1:1"


def client_at(url: str, spool: Path, **more: Any) -> TidegateClient:
    return TidegateClient(
        url, api_key="tg_a_b", agent_id="clerk", bounds=IMPATIENT, spool=spool, environment=False, **more
    )


async def report(url: str, spool: Path, *payloads: object, run_id: str = RUN, **more: Any) -> Run:
    async with client_at(url, spool, **more) as client, client.run(run_id) as run:
        for payload in payloads:
            await run.event("message", payload)
    return run


async def send_spool(gateway: FakeGateway, spool: Path, **more: Any) -> None:
    """Start a client that has nothing of its own to say."""
    bounds = replace(IMPATIENT, close_timeout_s=5)
    more = {"secret": None} | more
    async with TidegateClient(
        gateway.url, api_key="k", agent_id="clerk", bounds=bounds, spool=spool, environment=False, **more
    ):
        pass


def contents(gateway: FakeGateway, run_id: str = RUN) -> list[tuple[int, object]]:
    return [(event["seq"], event["payload"]) for event in gateway.events.get(run_id, [])]


async def test_a_run_of_an_outage_is_sent_by_the_next_start(
    gateway: FakeGateway, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = await report(NOWHERE, tmp_path / "spool", 1, 2.50, {"größe": 2**60}, secret=SECRET)
    assert (run.dropped_count, run.spooled_count) == (0, 3)
    assert f"run {RUN}: 3 events wait in {tmp_path}/spool for the next client" in caplog.text
    assert SECRET not in (tmp_path / "spool").read_text()
    await send_spool(gateway, tmp_path / "spool", secret="rotated")
    assert contents(gateway) == [(1, 1), (2, 2.5), (3, {"größe": 2**60})]
    assert gateway.finalized[RUN] == {"status": "succeeded", "event_count": 3}
    for event in gateway.events[RUN]:
        assert event_signature_holds(event, event["meta"]["signature"], ["rotated"])
    assert not (tmp_path / "spool").exists()


async def test_the_end_of_a_run_whose_place_was_never_found_declares_no_count(
    gateway: FakeGateway, tmp_path: Path
) -> None:
    """What the run had before is not known here: a count of 0 would make it incomplete for ever."""
    async with client_at(NOWHERE, tmp_path / "spool") as client, client.run(RUN, resume=True):
        pass
    await send_spool(gateway, tmp_path / "spool")
    assert gateway.finalized[RUN] == {"status": "succeeded"}


async def test_the_environment_is_kept_too(gateway: FakeGateway, tmp_path: Path) -> None:
    spool = tmp_path / "spool"
    async with (
        TidegateClient(
            NOWHERE, api_key="k", agent_id="clerk", bounds=replace(IMPATIENT, close_timeout_s=3), spool=spool
        ) as client,
        client.run(RUN) as run,
    ):
        await run.event("message", 1)
    await send_spool(gateway, spool)
    assert gateway.environments[RUN]["interpreter"]
    assert contents(gateway) == [(1, 1)]


@pytest.mark.parametrize("answer", [CUT, TAKEN_AND_CUT])
async def test_what_was_in_doubt_is_stored_once(gateway: FakeGateway, tmp_path: Path, answer: Answer) -> None:
    """The gateway dies in the middle of a run: what it took before its death is not taken again."""
    spool = tmp_path / "spool"
    async with client_at(gateway.url, spool) as client, client.run(RUN) as run:
        await run.event("message", 1)
        await gateway.arrived.wait()
        gateway.answers.append(answer)
        gateway.always = LOG_AWAY
        await run.event("message", 2)
        await run.event("message", 3)
    assert run.spooled_count == 2
    gateway.always = None
    await send_spool(gateway, spool)
    assert contents(gateway) == [(1, 1), (2, 2), (3, 3)]
    assert gateway.finalized[RUN]["event_count"] == 3


async def test_an_event_that_is_refused_leaves_its_number_to_the_next(gateway: FakeGateway, tmp_path: Path) -> None:
    await report(NOWHERE, tmp_path / "spool", 1, "bad", 3)
    gateway.verdict = lambda event: Answer(status=422, code="VALIDATION_ERROR") if event["payload"] == "bad" else None
    await send_spool(gateway, tmp_path / "spool")
    assert contents(gateway) == [(1, 1), (2, 3)]
    assert gateway.finalized[RUN]["event_count"] == 3, "one was lost"


async def test_a_start_without_a_gateway_keeps_everything(gateway: FakeGateway, tmp_path: Path) -> None:
    spool = tmp_path / "spool"
    await report(NOWHERE, spool, 1, 2)
    await report(NOWHERE, spool, "a", run_id="run-2")
    await report(NOWHERE, spool, run_id="run-3")
    await send_spool(gateway, spool)
    assert contents(gateway) == [(1, 1), (2, 2)]
    assert contents(gateway, "run-2") == [(1, "a")]
    assert set(gateway.finalized) == {RUN, "run-2", "run-3"}


async def test_a_client_that_lives_on_sends_its_spool_when_the_gateway_is_back(tmp_path: Path) -> None:
    gateway = FakeGateway()
    async with gateway.running():
        gateway.always = LOG_AWAY
        async with client_at(gateway.url, tmp_path / "spool") as client:
            async with client.run(RUN) as run:
                await run.event("message", 1)
            assert run.spooled_count == 1
            gateway.always = None
            async with client.run(RUN, resume=True) as again:  # after what is left of it
                pass
    assert contents(gateway) == [(1, 1)]
    assert again.dropped_count <= 1


async def test_what_does_not_fit_is_dropped_and_reported(tmp_path: Path) -> None:
    bounds = replace(IMPATIENT, spool_bytes_max=2_000)
    gateway = FakeGateway()
    gateway.url = NOWHERE
    async with connect(gateway, bounds=bounds, spool=tmp_path / "spool") as client, client.run(RUN) as run:
        for number in range(20):
            await run.event("message", number)
    assert 0 < run.spooled_count < 20
    assert sum(one.type == "message" for one in run.dropped) == 20 - run.spooled_count
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 2_000  # noqa: ASYNC240


async def test_a_spool_file_that_cannot_be_written_is_a_loss_that_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    run = await report(NOWHERE, tmp_path / "file" / "spool", 1)
    assert run.spooled_count == 0
    assert "file/spool" in run.dropped[0].detail


async def test_the_exception_that_ended_a_run_is_kept_too(gateway: FakeGateway, tmp_path: Path) -> None:
    async def fail() -> None:
        async with client_at(NOWHERE, tmp_path / "spool") as client, client.run(RUN):
            raise KeyError

    with pytest.raises(KeyError):
        await fail()
    await send_spool(gateway, tmp_path / "spool")
    assert [event["type"] for event in gateway.events[RUN]] == ["error"]
    assert gateway.finalized[RUN] == {"status": "failed", "event_count": 1}


async def test_a_cancelled_program_keeps_its_events(gateway: FakeGateway, tmp_path: Path) -> None:
    """Cancelled once more while the end of the run waits for the gateway."""
    ended = asyncio.Event()

    async def work() -> None:
        bounds = replace(IMPATIENT, close_timeout_s=60, close_max_s=60)
        client = TidegateClient(
            NOWHERE, api_key="k", agent_id="clerk", bounds=bounds, spool=tmp_path / "spool", environment=False
        )
        async with client, client.run(RUN) as run:
            await run.event("message", 1)
            ended.set()

    task = asyncio.create_task(work())
    await ended.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await send_spool(gateway, tmp_path / "spool")
    assert contents(gateway) == [(1, 1)]
