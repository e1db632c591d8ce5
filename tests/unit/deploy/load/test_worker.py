"""Workers against a gateway on a real socket."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from deploy.load.events import EventSource, FileEvents, GeneratedEvents, NotAnEvent, read_file
from deploy.load.ledger import Ledger
from deploy.load.tally import Tally
from deploy.load.worker import Budget, work
from gateway.client import Bounds
from gateway.client.delivery import Delivery
from schemas.runs.signature import event_signature_holds
from tests.unit.gateway.client.fake_gateway import BUSY, LOG_AWAY, TAKEN_AND_CUT, Answer, FakeGateway

PATIENT = Bounds(request_timeout_s=5, give_up_after_s=5, pause_first_s=0.001, pause_max_s=0.001)
IMPATIENT = replace(PATIENT, give_up_after_s=0)


@pytest.fixture
async def gateway() -> AsyncIterator[FakeGateway]:
    async with FakeGateway().running() as running:
        yield running


async def run(
    gateway: FakeGateway, source: EventSource, *, count: int | None, bounds: Bounds = PATIENT, path: Path | None = None
) -> Tally:
    tally = Tally()
    with Ledger(path) as ledger:
        async with Delivery(gateway.url, api_key="k", bounds=bounds) as delivery:
            budget = Budget(left=count, stop=asyncio.Event())
            await work(
                source,
                delivery=delivery,
                budget=budget,
                rate_per_s=0,
                tally=tally,
                ledger=ledger,
                on_settled=lambda: None,
            )
    return tally


def made_up(run_count: int = 1, secret: str | None = None) -> GeneratedEvents:
    return GeneratedEvents(run_count=run_count, agent_id="plain-agent", secret=secret, payload_bytes=10)


def outcomes(path: Path) -> list[tuple[int, str]]:
    return [(line["seq"], line["outcome"]) for line in map(json.loads, path.read_text().splitlines())]


async def test_events_go_in_turn_over_the_runs_each_numbered_from_1(gateway: FakeGateway) -> None:
    tally = await run(gateway, made_up(run_count=2), count=6)
    assert [[event["seq"] for event in events] for events in gateway.events.values()] == [[1, 2, 3], [1, 2, 3]]
    assert (tally.sent, tally.accepted, len(tally.latencies_s)) == (6, 6, 6)


async def test_made_up_events_are_signed_on_request(gateway: FakeGateway) -> None:
    await run(gateway, made_up(secret="s"), count=1)
    assert event_signature_holds(gateway.sent[0], gateway.sent[0]["meta"]["signature"], ["s"])


async def test_an_event_that_was_taken_before_the_connection_was_cut_is_a_duplicate(gateway: FakeGateway) -> None:
    gateway.answers.append(TAKEN_AND_CUT)
    tally = await run(gateway, made_up(), count=1)
    assert (tally.accepted, tally.duplicates, tally.errors) == (1, 1, {"CONNECTION": 1})


@pytest.mark.parametrize(
    ("answer", "outcome"), [(BUSY, "fail"), (Answer(status=403, code="FORBIDDEN"), "fail"), (LOG_AWAY, "info")]
)
async def test_the_ledger_tells_a_refusal_from_a_doubt(
    gateway: FakeGateway, tmp_path: Path, answer: Answer, outcome: str
) -> None:
    gateway.answers.append(answer)
    tally = await run(gateway, made_up(), count=2, bounds=IMPATIENT, path=tmp_path / "ledger")
    # The second event opens a new run: what follows a lost event would break its run's order.
    assert outcomes(tmp_path / "ledger") == [(1, outcome), (1, "ok")]
    assert len({event["meta"]["run_id"] for event in gateway.sent}) == 2
    assert (tally.sent, tally.accepted, tally.refused + tally.in_doubt) == (2, 1, 1)


async def test_a_refusal_after_a_doubt_is_still_a_doubt(gateway: FakeGateway, tmp_path: Path) -> None:
    gateway.answers.extend([LOG_AWAY, Answer(status=403, code="FORBIDDEN")])
    await run(gateway, made_up(), count=1, path=tmp_path / "ledger")
    assert outcomes(tmp_path / "ledger") == [(1, "info")]


async def test_backpressure_is_counted_apart_and_waited_out(gateway: FakeGateway) -> None:
    gateway.answers.extend([BUSY, BUSY])
    tally = await run(gateway, made_up(), count=1)
    assert (tally.accepted, tally.backpressure, dict(tally.errors)) == (1, 2, {})


def line(run_id: str, seq: int) -> str:
    meta = {"run_id": run_id, "agent_id": "a", "idempotency_key": f"{run_id}-{seq}"}
    event = {"seq": seq, "t": "2025-12-05T10:00:00Z", "actor": "agent", "type": "message", "payload": 1.50}
    return json.dumps({**event, "meta": meta})


async def test_a_file_is_sent_as_it_is_written_and_a_run_stops_at_its_first_loss(
    gateway: FakeGateway, tmp_path: Path
) -> None:
    file = tmp_path / "events.jsonl"
    file.write_text("\n".join([line("a", 1), line("b", 1).replace("1.5", "1.50"), "", line("a", 2), line("a", 3)]))
    gateway.answers.append(Answer(status=413, code="PAYLOAD_TOO_LARGE"))
    tally = await run(gateway, FileEvents(read_file(file, secret=None)), count=4)
    assert (tally.sent, tally.accepted, tally.refused) == (2, 1, 1)
    assert gateway.bodies[1] == file.read_bytes().splitlines()[1]


@pytest.mark.parametrize("text", ["no json", "[]", '{"seq": 1}', '{"seq": 1, "meta": {"run_id": "a/b"}}'])
def test_a_line_that_names_no_run_is_refused_with_its_number(tmp_path: Path, text: str) -> None:
    file = tmp_path / "events.jsonl"
    file.write_text(f"{line('a', 1)}\n{text}\n")
    with pytest.raises(NotAnEvent, match="line 2"):
        read_file(file, secret=None)


def test_percentiles_are_by_nearest_rank() -> None:
    tally = Tally()
    tally.latencies_s.extend(number / 1000 for number in range(100, 0, -1))
    assert tally.summary(1.0)["latency_ms"] == {"p50": 50.0, "p90": 90.0, "p99": 99.0, "max": 100.0}
    assert Tally().summary(0.0)["latency_ms"] == {}
