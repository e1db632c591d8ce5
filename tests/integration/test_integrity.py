"""Whether a run is whole, told from the real tables."""

from secrets import token_hex
from typing import Any

from confluent_kafka import Producer

from schemas.catalogue import CODEC
from schemas.kafka.clients import producer_config
from tests.integration.test_receipts import PERSISTED_S, Client, produce
from tests.support import builders
from tests.support.stack import RunningStack


def integrity(client: Client, run_id: str) -> dict[str, Any]:
    status, shown = client.ask("GET", f"/api/runs/{run_id}/integrity")
    assert status == 200, shown
    return shown


def finalize(client: Client, run_id: str, event_count: int | None) -> None:
    body = {"status": "succeeded", "event_count": event_count}
    answer = client.ask("POST", f"/api/runs/{run_id}/finalize?wait=persistence", body)[1]
    assert answer["waited"] is True


def test_a_whole_run_is_complete_once_it_is_finalized(stack: RunningStack) -> None:
    """Of three events one was signed, and that one is in the log twice."""
    client, run_id = Client(stack), f"run-{token_hex(8)}"
    signed = builders.signed(builders.event(2, run_id=run_id), secret=stack.addresses.agent_secret)
    for event in (builders.event(1, run_id=run_id), signed, builders.event(3, run_id=run_id)):
        client.send(event, "?wait=persistence")
    again = produce(stack, CODEC.encode(builders.run_event(signed)), [], key=run_id.encode())
    assert client.settled(again)["outcome"] == "duplicate"
    before = integrity(client, run_id)
    assert (before["complete"], before["status"], before["chain_head"]) == (False, "open", None)
    finalize(client, run_id, 3)
    trace = client.ask("GET", f"/api/runs/{run_id}/trace")[1]
    assert integrity(client, run_id) == before | {
        "complete": True,
        "status": "succeeded",
        "event_count": 3,
        "declared_event_count": 3,
        "last_seq": 3,
        "missing": {"count": 0, "range_count": 0, "ranges": []},
        "duplicates": 1,
        "rejected": {"count": 0, "reasons": {}, "last": []},
        "signatures": {"signed": 1, "unsigned": 2},
        "chain_head": trace["chain_head"],
    }


def test_what_is_missing_is_counted_whole_and_listed_in_part(stack: RunningStack) -> None:
    """A direct producer may leave gaps; the trace record counts the same."""
    client, run_id = Client(stack), f"run-{token_hex(8)}"
    producer = Producer(producer_config(stack.kafka, client_id="test"))
    seqs = [1, 4, *range(6, 300, 2)]
    for seq in seqs:
        event = builders.signed(builders.event(seq, run_id=run_id), secret=stack.addresses.agent_secret)
        producer.produce(builders.TOPIC, CODEC.encode(builders.run_event(event)), key=run_id)
    assert producer.flush(PERSISTED_S) == 0
    finalize(client, run_id, len(seqs))
    shown = integrity(client, run_id)
    trace = client.ask("GET", f"/api/runs/{run_id}/trace")[1]
    assert (shown["complete"], shown["event_count"], shown["last_seq"]) == (False, len(seqs), seqs[-1])
    assert shown["missing"]["count"] == trace["missing"]["count"] == seqs[-1] - len(seqs)
    assert shown["missing"]["range_count"] == len(seqs) - 1
    assert shown["missing"]["ranges"] == trace["missing"]["ranges"]
    assert shown["missing"]["ranges"][:3] == [[2, 3], [5, 5], [7, 7]]
    assert len(shown["missing"]["ranges"]) == 100


def test_fewer_events_than_declared_are_not_all(stack: RunningStack) -> None:
    client, run_id = Client(stack), f"run-{token_hex(8)}"
    client.send(builders.event(run_id=run_id))
    finalize(client, run_id, 2)
    shown = integrity(client, run_id)
    assert (shown["complete"], shown["event_count"], shown["declared_event_count"]) == (False, 1, 2)
    assert shown["missing"]["count"] == 0


def test_a_run_that_is_not_there_is_404(stack: RunningStack) -> None:
    assert Client(stack).ask("GET", f"/api/runs/run-{token_hex(8)}/integrity")[0] == 404
