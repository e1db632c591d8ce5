"""The client and the commands that send and show, on the real stack."""

import asyncio
import json
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import aiohttp
import psycopg
import pytest
from confluent_kafka import Producer

from deploy.examples.agent import HARBOUR, answer
from deploy.examples.proof import Diary, differences, read_rows
from gateway.client import Bounds, Run, TidegateClient, Undelivered
from schemas.kafka.clients import producer_config
from tests.support.stack import RunningStack, wait_until

TIMEOUT_S = 60.0


def connect(stack: RunningStack, *, secret: str | None = None, strict: bool = True, **more: Any) -> TidegateClient:
    known = stack.addresses
    given = {"url": known.gateway, "api_key": known.api_key, "agent_id": known.agent_id}
    return TidegateClient(**given | more, secret=secret or known.agent_secret, strict=strict)


def stored(stack: RunningStack, run_ids: Collection[str], count: int) -> None:
    """Wait until the runs have *count* rows together."""
    dsn = stack.addresses.postgres
    wait_until(lambda: len(read_rows(dsn, list(run_ids))) >= count, timeout_s=TIMEOUT_S, what=f"{count} rows")


async def read(stack: RunningStack, path: str) -> Any:
    known = stack.addresses
    async with (
        aiohttp.ClientSession(known.gateway, headers={"X-API-Key": known.api_key}) as session,
        session.get(path) as response,
    ):
        return await response.json()


async def report(run: Run, *payloads: object) -> None:
    async with run:
        for payload in payloads:
            await run.event("message", payload)


def finalized(stack: RunningStack, run_id: str) -> str | None:
    with psycopg.connect(stack.addresses.postgres) as session:
        row = session.execute("SELECT status FROM trace_records WHERE run_id = %s", (run_id,)).fetchone()
    return None if row is None else str(row[0])


async def test_what_the_agent_told_is_stored_once_and_in_order(stack: RunningStack) -> None:
    async with connect(stack) as client, client.run() as run:
        diary = Diary(run)
        await answer("Which ship ran aground in the storm of November 1911?", HARBOUR, diary)
    await asyncio.to_thread(stored, stack, [run.id], len(diary.told))
    page = await read(stack, f"/api/runs/{run.id}/events")
    events = [{name: event[name] for name in ("seq", "type", "actor", "payload")} for event in page["events"]]
    rows = read_rows(stack.addresses.postgres, [run.id])
    assert differences(diary.told, diary.receipts, events, rows) == []


async def test_the_end_of_a_run_and_its_environment_are_stored(stack: RunningStack) -> None:
    async with connect(stack) as client:
        run = client.run()
        await report(run, "only")
    await asyncio.to_thread(wait_until, lambda: finalized(stack, run.id), timeout_s=TIMEOUT_S, what="the trace record")
    trace = await read(stack, f"/api/runs/{run.id}/trace")
    environment = await read(stack, f"/api/runs/{run.id}/environment")
    assert (trace["status"], trace["event_count"], trace["declared_event_count"]) == ("succeeded", 1, 1)
    assert "aiohttp" in environment["environment"]["packages"]


async def test_a_wrong_secret_is_told_event_by_event(stack: RunningStack) -> None:
    async with connect(stack, secret="wrong") as client:
        with pytest.raises(Undelivered) as caught:
            await report(client.run(), 1, 2)
    assert [dropped.code for dropped in caught.value.dropped] == ["SIGNATURE_INVALID"] * 2


async def test_a_run_survives_the_death_of_the_gateway(stack: RunningStack) -> None:
    """What was in flight is sent again under the same key and stored once."""
    async with connect(stack) as client, client.run() as run:
        for number in range(300):
            await run.event("message", number)
            if number == 100:
                pid = await asyncio.to_thread(stack.kill, "gateway")
        await asyncio.to_thread(stack.wait_restarted, "gateway", pid)
    await asyncio.to_thread(stored, stack, [run.id], 300)
    assert [row.seq for row in read_rows(stack.addresses.postgres, [run.id])] == list(range(1, 301))
    assert run.accepted_count == 300


async def test_a_bad_event_costs_a_run_nothing_else(stack: RunningStack) -> None:
    async with connect(stack, strict=False) as client, client.run() as run:
        for payload in ("before", {"text": "\ud83d"}, float("nan"), "x" * 11_000_000, {"n": 2**63}, "after"):
            await run.event("message", payload)
    await asyncio.to_thread(wait_until, lambda: finalized(stack, run.id), timeout_s=TIMEOUT_S, what="the trace record")
    trace = await read(stack, f"/api/runs/{run.id}/trace")
    page = await read(stack, f"/api/runs/{run.id}/events")
    assert [event["payload"] for event in page["events"]] == ["before", {"n": 2**63}, "after"]
    assert (trace["event_count"], trace["declared_event_count"], run.dropped_count) == (3, 3, 3)


@pytest.mark.parametrize("rights", [("ingest", "read"), ("ingest",)])
async def test_a_run_goes_on_by_its_id(stack: RunningStack, rights: Sequence[str]) -> None:
    words = [word for right in rights for word in ("--right", right)]
    made = await asyncio.to_thread(stack.command, "keys", "create", "--tenant", "demo", *words, "--json")
    key = json.loads(made)["key"]
    async with connect(stack) as client, client.run(finalize=False) as first:
        for number in range(10):
            await first.event("message", number)

    async def go_on() -> Run:
        async with connect(stack, api_key=key) as client, client.run(first.id, resume=True) as run:
            await run.event("message", "a")
            raise KeyError

    with pytest.raises(KeyError):
        await go_on()
    await asyncio.to_thread(wait_until, lambda: finalized(stack, first.id), timeout_s=TIMEOUT_S, what="the trace")
    trace = await read(stack, f"/api/runs/{first.id}/trace")
    page = await read(stack, f"/api/runs/{first.id}/events")
    assert [event["payload"] for event in page["events"]][:11] == [*range(10), "a"]
    assert page["events"][11]["type"] == "error"
    assert (trace["status"], trace["event_count"], trace["declared_event_count"]) == ("failed", 12, 12)


async def test_a_run_of_an_outage_is_sent_by_the_next_start(stack: RunningStack, tmp_path: Path) -> None:
    bounds = Bounds(close_timeout_s=0.5)
    spool = tmp_path / "spool"
    async with connect(stack, url="http://127.0.0.1:1", bounds=bounds, spool=spool) as client, client.run() as run:
        for number in range(300):
            await run.event("message", number)
    assert run.spooled_count == 300
    async with connect(stack, spool=spool):
        pass
    await asyncio.to_thread(wait_until, lambda: finalized(stack, run.id), timeout_s=TIMEOUT_S, what="the trace record")
    assert [row.seq for row in read_rows(stack.addresses.postgres, [run.id])] == list(range(1, 301))
    trace = await read(stack, f"/api/runs/{run.id}/trace")
    assert (trace["status"], trace["declared_event_count"]) == ("succeeded", 300)


@pytest.mark.parametrize("signing", [["--sign"], []])
def test_send_writes_down_what_became_of_each_event(stack: RunningStack, tmp_path: Path, signing: list[str]) -> None:
    ledger = tmp_path / "ledger.jsonl"
    words = ("send", "--burst", "200", "--runs", "10", "--workers", "4", "--json", "--ledger", str(ledger), *signing)
    summary = json.loads(stack.command(*words))
    lines = [json.loads(line) for line in ledger.read_text().splitlines()]
    assert (summary["sent"], summary["accepted"], summary["errors"]) == (200, 200, {})
    assert {line["outcome"] for line in lines} == {"ok"}
    run_ids = {line["run_id"] for line in lines}
    stored(stack, run_ids, 200)
    rows = read_rows(stack.addresses.postgres, list(run_ids))
    assert sorted((row.run_id, row.seq) for row in rows) == sorted((line["run_id"], line["seq"]) for line in lines)


def test_tail_shows_a_run_in_order_and_verified(stack: RunningStack) -> None:
    async def send() -> str:
        async with connect(stack) as client:
            run = client.run()
            await report(run, "one", "two")
        return run.id

    run_id = asyncio.run(send())
    shown = [json.loads(line) for line in stack.command("tail", "run", run_id, "--no-follow", "--json").splitlines()]
    assert [one["record"]["name"] for one in shown] == ["EnvironmentCaptured", "RunEvent", "RunEvent", "RunFinalized"]
    assert [one["record"].get("payload") for one in shown[1:3]] == ['"one"', '"two"']
    assert {one["verified"] for one in shown} == {True}


def test_tail_shows_what_is_no_record_with_its_reason(stack: RunningStack) -> None:
    places = []
    producer = Producer(producer_config(stack.kafka, client_id="test"))
    producer.produce(
        "run.events", key=b"run-junk", value=b"junk", on_delivery=lambda _, message: places.append(message)
    )
    producer.flush(TIMEOUT_S)
    start = str(places[0].offset())
    kcat, *lines = stack.command("tail", "run", "run-junk", "--from", start, "--no-follow").splitlines()
    assert kcat.startswith("kcat -C ")
    assert lines[0].startswith(f"run.events/{places[0].partition()}/{start} ")
    assert "INVALID" in lines[0]
    assert "6a 75 6e 6b" in lines[0]
