"""From the log to the tables, on the real stack."""

import json
import subprocess
from pathlib import Path
from secrets import token_hex
from typing import Any

import aiohttp
import psycopg
import pytest
from confluent_kafka import Message

from schemas.catalogue import CODEC
from schemas.kafka import headers
from schemas.runs.records import TraceRecord
from tests.faults.processes import paused
from tests.faults.records import dead_letters, traces_of, write_as_a_gateway
from tests.support.builders import event, run_event, signed
from tests.support.stack import RunningStack, wait_until
from tests.support.tools import need

STORED_WITHIN_S = 30.0


@pytest.fixture
def run_id() -> str:
    return f"test-{token_hex(8)}"


async def post(stack: RunningStack, path: str, body: Any, *, method: str = "POST") -> dict[str, Any]:
    """Send *body* and return the answer, which must be 202."""
    url = f"{stack.addresses.gateway}/api/runs/{path}"
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, url, json=body, headers={"X-API-Key": stack.addresses.api_key}) as response,
    ):
        answer = await response.json()
        assert response.status == 202, answer
        return dict(answer)


def wait_for(database: psycopg.Connection[Any], query: str, *parameters: Any, count: int) -> list[tuple[Any, ...]]:
    """Wait until *query* has *count* rows."""
    rows: list[tuple[Any, ...]] = []

    def enough() -> bool:
        rows[:] = database.execute(query, parameters).fetchall()  # type: ignore[call-overload]  # a constant of the test
        return len(rows) >= count

    wait_until(enough, timeout_s=STORED_WITHIN_S, what=f"{count} rows")
    return rows


def place(answer: dict[str, Any]) -> tuple[int, int]:
    _, partition, offset = answer["wal_id"].rsplit("/", 2)
    return int(partition), int(offset)


def kcat_produce(stack: RunningStack, run_id: str, partition: int, value: bytes, folder: Path) -> None:
    path = folder / token_hex(4)
    path.write_bytes(value)
    arguments = ["-P", "-b", stack.addresses.kafka, "-t", "run.events", "-p", str(partition), "-k", run_id, str(path)]
    subprocess.run([need("kcat"), *arguments], check=True, timeout=30)


async def test_events_are_stored_as_they_were_sent(
    stack: RunningStack, database: psycopg.Connection[Any], run_id: str
) -> None:
    given = event(run_id=run_id, payload={"big": 9007199254740993, "text": 'Ω \u2028 \\ "\t'}, meta={"note": [1.5]})
    answer = await post(stack, f"{run_id}/events/", given)
    query = (
        "SELECT payload::text, meta::text, t, actor, kafka_partition, kafka_offset FROM trace_events WHERE run_id = %s"
    )
    ((payload, meta, t, actor, *at),) = wait_for(database, query, run_id, count=1)
    assert json.loads(payload) == given["payload"]
    assert json.loads(meta) == given["meta"]
    assert (t, actor) == (given["t"], given["actor"])
    assert tuple(at) == place(answer)


async def test_poison_between_good_events_is_dead_lettered_and_its_neighbours_are_stored_in_order(
    stack: RunningStack, database: psycopg.Connection[Any], run_id: str, tmp_path: Path
) -> None:
    partition, _ = place(await post(stack, f"{run_id}/events/", event(1, run_id=run_id)))
    good = CODEC.encode(run_event(event(9, run_id=run_id)))
    nul = CODEC.encode(run_event(event(9, run_id=run_id), payload='{"text": "a\0b"}'))
    poison = {b"\x00\x00\x00\x00\x01no avro": b"undecodable", b"\x00\x00\x00\x03\xe7" + good[5:]: b"unknown_schema"}
    for seq, value in enumerate([*poison, nul], start=2):
        kcat_produce(stack, run_id, partition, value, tmp_path)
        await post(stack, f"{run_id}/events/", event(seq, run_id=run_id))
    query = "SELECT seq FROM trace_events WHERE run_id = %s ORDER BY kafka_offset"
    assert wait_for(database, query, run_id, count=4) == [(1,), (2,), (3,), (4,)]
    expected = poison | {nul: b"nul_character"}
    wait_until(
        lambda: len(dead_letters(stack, run_id)) == len(expected), timeout_s=STORED_WITHIN_S, what="the dead letters"
    )
    by_name = {letter.value(): dict(letter.headers() or []) for letter in dead_letters(stack, run_id)}
    assert {value: each[headers.ERROR_CLASS] for value, each in by_name.items()} == expected
    assert all(each[headers.ERROR_MESSAGE] for each in by_name.values())
    assert {each[headers.ORIGINAL_TOPIC] for each in by_name.values()} == {b"run.events"}


async def test_a_signed_direct_record_is_stored_and_a_forged_one_is_kept_with_its_reason(
    stack: RunningStack, database: psycopg.Connection[Any], run_id: str, tmp_path: Path
) -> None:
    partition, _ = place(await post(stack, f"{run_id}/events/", event(1, run_id=run_id)))
    secret = stack.addresses.agent_secret
    kcat_produce(
        stack, run_id, partition, CODEC.encode(run_event(signed(event(2, run_id=run_id), secret=secret))), tmp_path
    )
    forged = CODEC.encode(run_event(signed(event(3, run_id=run_id), secret="wrong")))
    kcat_produce(stack, run_id, partition, forged, tmp_path)
    query = "SELECT seq FROM trace_events WHERE run_id = %s ORDER BY seq"
    assert wait_for(database, query, run_id, count=2) == [(1,), (2,)]
    rejected = "SELECT seq, reason, value FROM rejected_events WHERE run_id = %s"
    assert wait_for(database, rejected, run_id, count=1) == [(3, "signature_invalid", forged)]


async def test_the_same_event_twice_is_one_row_and_one_duplicate(
    stack: RunningStack, database: psycopg.Connection[Any], run_id: str, tmp_path: Path
) -> None:
    partition, _ = place(await post(stack, f"{run_id}/events/", event(1, run_id=run_id)))
    again = CODEC.encode(run_event(signed(event(2, run_id=run_id), secret=stack.addresses.agent_secret)))
    kcat_produce(stack, run_id, partition, again, tmp_path)
    kcat_produce(stack, run_id, partition, again, tmp_path)
    assert len(wait_for(database, "SELECT seq FROM duplicate_events WHERE run_id = %s", run_id, count=1)) == 1
    assert len(wait_for(database, "SELECT seq FROM trace_events WHERE run_id = %s", run_id, count=2)) == 2


async def test_an_event_repeated_behind_the_end_of_its_run_is_a_duplicate(
    stack: RunningStack, database: psycopg.Connection[Any], run_id: str
) -> None:
    """Also when both come in one slice, which is stored without a look at what is there."""
    sent = event(1, run_id=run_id)
    first = await post(stack, f"{run_id}/events/?wait=persistence", sent)
    with paused([stack.process("persistence").pid]):
        await post(stack, f"{run_id}/finalize", {"status": "succeeded"})
        (again,) = write_as_a_gateway(stack, (run_event(sent), 1))
    assert first["waited"]
    query = "SELECT kafka_partition, kafka_offset FROM duplicate_events WHERE run_id = %s"
    assert wait_for(database, query, run_id, count=1) == [place({"wal_id": again})]
    rejected = database.execute("SELECT count(*) FROM rejected_events WHERE run_id = %s", (run_id,)).fetchone()
    assert rejected == (0,)


async def test_a_finalized_run_has_its_trace_record_in_the_table_and_on_the_topic(
    stack: RunningStack, database: psycopg.Connection[Any], run_id: str
) -> None:
    calls = [("tool_call", {"call_id": "c1"}), ("tool_result", {"call_id": "c1"}), ("error", {"text": "no"})]
    for seq, (kind, payload) in enumerate(calls, start=1):
        await post(stack, f"{run_id}/events/", event(seq, run_id=run_id, type=kind, payload=payload))
    await post(stack, f"{run_id}/environment", {"python": "3.11"}, method="PUT")
    await post(stack, f"{run_id}/finalize", {"status": "succeeded", "event_count": 3})
    query = "SELECT document::text, chain_head FROM trace_records WHERE run_id = %s"
    ((document, chain_head),) = wait_for(database, query, run_id, count=1)
    summary = json.loads(document)
    assert summary["complete"]
    assert (summary["event_count"], summary["errors"], summary["tool_calls"]["answered"]) == (3, 1, 1)
    run = database.execute("SELECT status, event_count, last_seq FROM runs WHERE run_id = %s", (run_id,)).fetchone()
    assert run == ("succeeded", 3, 3)
    assert wait_for(database, "SELECT environment FROM environment_snapshots WHERE run_id = %s", run_id, count=1)
    published: list[Message] = []
    wait_until(
        lambda: bool(published.extend(traces_of(stack, run_id)) or published),
        timeout_s=STORED_WITHIN_S,
        what="the trace record on run.traces",
    )
    trace = CODEC.decode(published[0].value())
    assert isinstance(trace, TraceRecord)
    assert (trace.chain_head, trace.document) == (chain_head, document)


async def test_the_first_and_the_last_moment_there_are_do_not_hold_up_a_run(
    stack: RunningStack, database: psycopg.Connection[Any], run_id: str
) -> None:
    """What Postgres stores and Python could not read again would be tried for ever, and the partition with it."""
    for seq, t in enumerate(["0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z"], start=1):
        await post(stack, f"{run_id}/events/", event(seq, run_id=run_id, t=t))
    await post(stack, f"{run_id}/finalize", {"status": "succeeded", "event_count": 2})
    query = "SELECT event_count FROM trace_records WHERE run_id = %s"
    assert wait_for(database, query, run_id, count=1) == [(2,)]
