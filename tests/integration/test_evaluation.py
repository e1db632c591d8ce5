"""Events as webhooks on the running stack: delivered, tried again, put aside, brought back, and told of."""

import json
import os
import secrets
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import TopicPartition

from deploy.admin import topics as admin_topics
from schemas.catalogue import CODEC
from schemas.objects.references import INLINE_BYTES_MAX
from schemas.runs.endpoints import new_secret
from schemas.runs.records import RunFinalized, RunStatus
from schemas.runs.topics import EVALUATION
from tests.faults.processes import own_process
from tests.faults.records import produce, write_as_a_gateway
from tests.integration.test_receipts import Client
from tests.support import builders
from tests.support.receiver import Answer, OwnEndpoint, Receiver, forwarding, own_endpoint
from tests.support.stack import RunningStack, wait_until

WITHIN_S = 60.0
QUICK = {"retries_s": [0.1, 0.2], "breaker_open_s": 1.0}


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver().listening() as listening:
        yield listening


def run_of(
    client: Client, count: int, *, run_id: str | None = None, first: int = 1, **changes: Any
) -> tuple[str, list[str]]:
    """Send a run's events; its id and their places."""
    run_id = run_id or f"hook-{secrets.token_hex(6)}"
    places = [
        client.send(builders.event(seq, run_id=run_id, **changes))["wal_id"] for seq in range(first, first + count)
    ]
    return run_id, places


def taken(receiver: Receiver, run_id: str, seqs: list[int | None]) -> None:
    """Wait until the receiver has taken *seqs* of the run, in this order."""
    wait_until(lambda: len(receiver.firsts(run_id)) >= len(seqs), timeout_s=WITHIN_S, what=f"{len(seqs)} deliveries")
    assert receiver.firsts(run_id) == seqs


def effect(client: Client, wal_id: str, endpoint: OwnEndpoint) -> dict[str, Any] | None:
    """Return what the receipt says of the endpoint's group; None until the gateway knows of it."""
    status, receipt = client.ask("GET", f"/api/wal/{wal_id}")
    assert status == 200, receipt
    groups = {each["group"]: each for each in receipt["groups"]}
    found: dict[str, Any] | None = groups.get(endpoint.group.name)
    return found


def outcome(client: Client, wal_id: str, endpoint: OwnEndpoint) -> str | None:
    found = effect(client, wal_id, endpoint)
    return None if found is None or found["effect"] is None else found["effect"]["outcome"]


def wait_outcome(client: Client, wal_id: str, endpoint: OwnEndpoint, wanted: str) -> None:
    wait_until(
        lambda: outcome(client, wal_id, endpoint) == wanted, timeout_s=WITHIN_S, what=f"the receipt to say {wanted}"
    )


def status_of(client: Client, endpoint: OwnEndpoint) -> dict[str, Any]:
    """Return the endpoint's group as /api/wal/status shows it; empty until the gateway knows of it."""
    status, shown = client.ask("GET", "/api/wal/status")
    assert status == 200, shown
    found: dict[str, Any] = next((each for each in shown["groups"] if each["group"] == endpoint.group.name), {})
    return found


def breaker(client: Client, endpoint: OwnEndpoint) -> str | None:
    return (status_of(client, endpoint).get("endpoint") or {}).get("breaker")


def test_the_stacks_own_engine_takes_each_event_of_a_run(stack: RunningStack) -> None:
    """What a stranger sees: webhooks arrive without anything being set up."""
    client = Client(stack)
    run_id, places = run_of(client, 3)
    client.ask("POST", f"/api/runs/{run_id}/finalize", {"status": "failed"})
    engine = Client(stack, stack.addresses.management["engine"])

    def score() -> dict[str, Any]:
        runs = engine.ask("GET", "/")[1]["runs"]
        return next((run for run in runs if run["run_id"] == run_id), {})

    wait_until(lambda: score().get("status") == "failed", timeout_s=WITHIN_S, what="the engine to know the run's end")
    assert score()["events"] == 3
    receipt = client.ask("GET", f"/api/wal/{places[0]}")[1]
    assert {each["group"] for each in receipt["groups"]} >= {"persistence", "evaluation.default"}


def test_events_arrive_signed_in_order_and_as_they_were_sent(
    stack: RunningStack, tmp_path: Path, receiver: Receiver
) -> None:
    client = Client(stack)
    with own_endpoint(stack, tmp_path, receiver, **QUICK) as endpoint, forwarding(stack, tmp_path, endpoint):
        run_id, places = run_of(client, 5, payload={"n": 12345678901234567})
        client.ask("POST", f"/api/runs/{run_id}/finalize", {"status": "succeeded"})
        taken(receiver, run_id, [1, 2, 3, 4, 5, None])
        wait_outcome(client, places[0], endpoint, "delivered")
        assert breaker(client, endpoint) == "closed"
    [first] = [each for each in receiver.taken if each.run_id == run_id and each.seq == 1]
    assert first.document["type"] == "trace_event"
    data: Any = first.document["data"]
    assert data["wal_id"] == places[0]
    assert data["event"]["payload"] == {"n": 12345678901234567}
    assert first.headers["traceparent"].startswith("00-")
    assert receiver.unverified == 0


@pytest.mark.parametrize("resolve", [False, True])
def test_a_large_payload_is_sent_where_it_is_asked_for(
    stack: RunningStack, tmp_path: Path, receiver: Receiver, resolve: bool
) -> None:
    client, payload = Client(stack), {"text": "x" * INLINE_BYTES_MAX}
    asked = {"resolve": resolve, **QUICK}
    with own_endpoint(stack, tmp_path, receiver, **asked) as endpoint, forwarding(stack, tmp_path, endpoint):
        run_id, _ = run_of(client, 1, payload=payload)
        run_of(client, 1, run_id=run_id, first=2)
        taken(receiver, run_id, [1, 2])
    event: Any = next(each for each in receiver.taken if each.seq == 1).document["data"]["event"]
    assert event["payload"] == (payload if resolve else None)
    assert event["payload_ref"]["size_bytes"] > INLINE_BYTES_MAX
    assert receiver.unverified == 0


def test_only_what_an_endpoint_asks_for_is_sent(stack: RunningStack, tmp_path: Path, receiver: Receiver) -> None:
    client = Client(stack)
    asked = {"types": ["tool.*", "run_finalized"], **QUICK}
    with own_endpoint(stack, tmp_path, receiver, **asked) as endpoint, forwarding(stack, tmp_path, endpoint):
        run_id, places = run_of(client, 1, type="message")
        run_of(client, 1, run_id=run_id, first=2, type="tool.call")
        client.ask("POST", f"/api/runs/{run_id}/finalize", {"status": "succeeded"})
        taken(receiver, run_id, [2, None])
        wait_outcome(client, places[0], endpoint, "filtered")


def test_another_tenants_events_are_not_sent(stack: RunningStack, tmp_path: Path, receiver: Receiver) -> None:
    client = Client(stack)
    asked = {"tenant": "other", **QUICK}
    with own_endpoint(stack, tmp_path, receiver, **asked) as endpoint, forwarding(stack, tmp_path, endpoint) as worker:
        run_id, places = run_of(client, 2)
        wait_until(
            lambda: worker.metric("tidegate_records_total", outcome="filtered") >= 2,
            timeout_s=WITHIN_S,
            what="the events to be passed by",
        )
        # And who is not that tenant does not hear that there is such an endpoint.
        assert effect(client, places[0], endpoint) is None
        assert status_of(client, endpoint) == {}
    assert receiver.seqs(run_id) == []


def test_forged_records_are_not_sent(stack: RunningStack, tmp_path: Path, receiver: Receiver) -> None:
    """A program that writes to the topic itself speaks for nobody without a signature."""
    client = Client(stack)
    with own_endpoint(stack, tmp_path, receiver, **QUICK) as endpoint, forwarding(stack, tmp_path, endpoint) as worker:
        forged = f"forged-{secrets.token_hex(4)}"
        value = CODEC.encode(builders.run_event(builders.event(1, run_id=forged)))
        produce(stack, forged, [value, b"\x00\x00\x00\x00\x01forged"], partition=0)
        run_id, _ = run_of(client, 1)
        taken(receiver, run_id, [1])
        wait_until(
            lambda: worker.metric("tidegate_records_total", outcome="rejected", reason="unsigned_direct") >= 1,
            timeout_s=WITHIN_S,
            what="the forged record to be rejected",
        )
    assert receiver.seqs(forged) == []


def test_a_record_that_fails_alone_goes_through_the_tiers_to_the_dead_letters_and_comes_back(
    stack: RunningStack, tmp_path: Path, receiver: Receiver
) -> None:
    client = Client(stack)
    bad = f"bad-{secrets.token_hex(6)}"
    receiver.behaviour = lambda run_id, seq: Answer(status=500 if (run_id, seq) == (bad, 2) else 200)
    with own_endpoint(stack, tmp_path, receiver, **QUICK) as endpoint, forwarding(stack, tmp_path, endpoint):
        wait_until(lambda: breaker(client, endpoint) == "closed", timeout_s=WITHIN_S, what="the gateway to know of it")
        _, places = run_of(client, 3, run_id=bad)
        states: list[str | None] = []

        def is_dead() -> bool:
            run_of(client, 1)  # the endpoint takes others
            states.append(outcome(client, places[1], endpoint))
            return states[-1] == "dead_lettered"

        wait_until(is_dead, timeout_s=WITHIN_S, what="a dead letter")
        assert "deferred" in states
        assert receiver.firsts(bad) == [1, 3]
        [told] = [each for each in [effect(client, places[1], endpoint)] if each]
        assert (told["effect"]["reason"], told["effect"]["detail"]) == ("delivery_failed", "HTTP 500")
        receiver.behaviour = lambda *_: Answer()
        group = f"evaluation.{endpoint.name}"
        listed = json.loads(stack.command("dlq", "list", "--group", group, "--json"))
        assert listed["by_reason"] == {"delivery_failed": 1}
        stack.command("dlq", "redrive", "--group", group, "--all", "--yes")
        taken(receiver, bad, [1, 3, 2])
        wait_outcome(client, places[1], endpoint, "delivered")
    [second] = {each.id for each in receiver.requests if (each.run_id, each.seq) == (bad, 2)}
    assert second.startswith("evt_")


def test_what_is_refused_for_good_is_a_dead_letter_at_once(
    stack: RunningStack, tmp_path: Path, receiver: Receiver
) -> None:
    client = Client(stack)
    receiver.behaviour = lambda _, seq: Answer(status=422 if seq == 2 else 200)
    with own_endpoint(stack, tmp_path, receiver, **QUICK) as endpoint, forwarding(stack, tmp_path, endpoint):
        run_id, places = run_of(client, 3)
        taken(receiver, run_id, [1, 3])
        wait_outcome(client, places[1], endpoint, "dead_lettered")
        [told] = [each for each in [effect(client, places[1], endpoint)] if each]
        assert (told["effect"]["reason"], told["effect"]["detail"]) == ("delivery_refused", "HTTP 422")
    assert len([each for each in receiver.requests if (each.run_id, each.seq) == (run_id, 2)]) == 1


def test_an_endpoint_that_is_gone_is_disabled_until_an_operator_enables_it(
    stack: RunningStack, tmp_path: Path, receiver: Receiver
) -> None:
    """Also over a restart of its worker; and what came meanwhile is not lost."""
    client = Client(stack)
    receiver.behaviour = lambda *_: Answer(status=410)
    with own_endpoint(stack, tmp_path, receiver, **QUICK) as endpoint:
        with forwarding(stack, tmp_path, endpoint):
            run_id, places = run_of(client, 2)
            wait_until(
                lambda: breaker(client, endpoint) == "disabled", timeout_s=WITHIN_S, what="the endpoint to be disabled"
            )
            waiting = effect(client, places[0], endpoint)
            assert waiting is not None
            assert waiting["state"] == "waiting"
        receiver.behaviour = lambda *_: Answer()
        with forwarding(stack, tmp_path, endpoint):
            attempts = len(receiver.requests)
            run_of(client, 1, run_id=run_id, first=3)
            rows = json.loads(stack.command("endpoints", "list", "--json"))
            [row] = [each for each in rows if each["endpoint"] == endpoint.name]
            assert (row["breaker"], row["reason"]) == ("disabled", "HTTP 410")
            assert len(receiver.requests) == attempts
            stack.command("endpoints", "enable", endpoint.name)
            taken(receiver, run_id, [1, 2, 3])


def test_a_receiver_may_change_its_secret_while_both_are_valid(
    stack: RunningStack, tmp_path: Path, receiver: Receiver
) -> None:
    """And the worker takes the new file without a restart."""
    client = Client(stack)
    with own_endpoint(stack, tmp_path, receiver, **QUICK) as endpoint, forwarding(stack, tmp_path, endpoint):
        run_id, _ = run_of(client, 1)
        taken(receiver, run_id, [1])
        old, new = receiver.secrets[0], new_secret()
        receiver.secrets = [old, new]
        endpoint.write(receiver, **QUICK)
        wait_until(
            lambda: _signatures_of_next(client, receiver, run_id) == 2, timeout_s=WITHIN_S, what="two signatures"
        )
        receiver.secrets = [new, old]  # it verifies with the new one from now on
        last = len(receiver.firsts(run_id))
        run_of(client, 1, run_id=run_id, first=last + 1)
        taken(receiver, run_id, list(range(1, last + 2)))
    assert receiver.unverified == 0


def _signatures_of_next(client: Client, receiver: Receiver, run_id: str) -> int:
    last = len(receiver.firsts(run_id))
    run_of(client, 1, run_id=run_id, first=last + 1)
    wait_until(lambda: len(receiver.firsts(run_id)) > last, timeout_s=WITHIN_S, what="one more delivery")
    return len(receiver.taken[-1].headers["webhook-signature"].split())


def test_a_replay_sends_a_run_once_more_and_says_so(stack: RunningStack, tmp_path: Path, receiver: Receiver) -> None:
    client = Client(stack)
    with own_endpoint(stack, tmp_path, receiver, **QUICK) as endpoint:
        with forwarding(stack, tmp_path, endpoint):
            run_id, _ = run_of(client, 3)
            taken(receiver, run_id, [1, 2, 3])
        before = [each for each in receiver.taken if each.run_id == run_id]
        environ = {**os.environ, **endpoint.environ}
        group = f"evaluation.{endpoint.name}"
        stack.command("replay", group, "--run", run_id, "--from-start", "--yes", environ=environ)
        again = [each for each in receiver.taken if each.run_id == run_id][len(before) :]
    assert [each.seq for each in again] == [1, 2, 3]
    assert [each.id for each in again] == [each.id for each in before]
    assert {each.headers.get("webhook-replay") for each in again} == {"true"}
    assert {each.headers.get("webhook-replay") for each in before} == {None}


def test_a_new_endpoint_begins_with_what_comes(stack: RunningStack, tmp_path: Path, receiver: Receiver) -> None:
    """A week of history is sent when it is asked for, by a replay, and not unasked; and receipts say so."""
    client = Client(stack)
    before, old = run_of(client, 2)
    with own_endpoint(stack, tmp_path, receiver, **QUICK) as endpoint:
        for seqs in ([1, 2], [1, 2, 3]):  # also of a worker that was started again
            with forwarding(stack, tmp_path, endpoint):
                run_id, new = run_of(client, seqs[-1])
                taken(receiver, run_id, [*seqs])
                wait_outcome(client, new[0], endpoint, "delivered")
                assert [outcome(client, place, endpoint) for place in old] == ["filtered", "filtered"]
    assert receiver.seqs(before) == []


def test_an_endpoint_that_is_set_back_is_sent_what_lies_before_it(
    stack: RunningStack, tmp_path: Path, receiver: Receiver
) -> None:
    """And no receipt says any more that it was not."""
    client = Client(stack)
    before, old = run_of(client, 2)
    topic, partition, offset = old[0].split("/")
    with own_endpoint(stack, tmp_path, receiver, **QUICK) as endpoint:
        with forwarding(stack, tmp_path, endpoint):
            wait_outcome(client, old[0], endpoint, "filtered")
        back = TopicPartition(topic, int(partition), int(offset))
        admin_topics.commit(stack.kafka, endpoint.group, [back])
        with forwarding(stack, tmp_path, endpoint):
            taken(receiver, before, [1, 2])
            wait_outcome(client, old[0], endpoint, "delivered")


def test_a_duplicate_in_the_log_bears_the_id_of_the_first(
    stack: RunningStack, tmp_path: Path, receiver: Receiver
) -> None:
    run_id = f"twice-{secrets.token_hex(4)}"
    record = builders.run_event(builders.event(1, run_id=run_id))
    end = RunFinalized(tenant="demo", run_id=run_id, status=RunStatus.FAILED, finalized_at=datetime.now(UTC))
    with own_endpoint(stack, tmp_path, receiver, **QUICK) as endpoint, forwarding(stack, tmp_path, endpoint):
        write_as_a_gateway(stack, (record, 1), (record, 1), (end, "finalized"))
        wait_until(lambda: None in receiver.seqs(run_id), timeout_s=WITHIN_S, what="the run's end")
    assert receiver.seqs(run_id) == [1, 1, None]
    assert len({each.id for each in receiver.taken if each.run_id == run_id}) == 2


def test_a_worker_without_topics_does_not_start(stack: RunningStack, tmp_path: Path, receiver: Receiver) -> None:
    endpoint = OwnEndpoint(
        name="nowhere",
        file=tmp_path / "nowhere.toml",
        group=EVALUATION.group("nowhere", delays=["1s"]),
        environ={"TIDEGATE_ENDPOINTS": str(tmp_path / "nowhere.toml")},
    )
    endpoint.write(receiver)
    with own_process(stack, tmp_path, "evaluation", "--endpoint", "nowhere", environ=endpoint.environ) as worker:
        assert worker.wait_end() == 78
        assert "tidegate topics create" in worker.log


def test_offsets_are_committed_only_for_what_was_delivered(
    stack: RunningStack, tmp_path: Path, receiver: Receiver
) -> None:
    """While the breaker is open the group's lag is the backlog, and `tidegate lag` and the status show it."""
    client = Client(stack)
    receiver.behaviour = lambda *_: Answer(status=503)
    with own_endpoint(stack, tmp_path, receiver, **QUICK) as endpoint, forwarding(stack, tmp_path, endpoint):
        before = {each.partition: each.offset for each in _committed(stack, endpoint)}
        run_id, places = run_of(client, 3)
        wait_until(
            lambda: breaker(client, endpoint) in ("open", "half_open"), timeout_s=WITHIN_S, what="the breaker to open"
        )
        assert {each.partition: each.offset for each in _committed(stack, endpoint)}[
            int(places[0].split("/")[1])
        ] == before[int(places[0].split("/")[1])]
        wait_until(lambda: status_of(client, endpoint)["lag_records"] >= 3, timeout_s=WITHIN_S, what="the backlog")
        receiver.behaviour = lambda *_: Answer()
        taken(receiver, run_id, [1, 2, 3])
        wait_until(lambda: breaker(client, endpoint) == "closed", timeout_s=WITHIN_S, what="the breaker to close")
        wait_until(lambda: status_of(client, endpoint)["lag_records"] == 0, timeout_s=WITHIN_S, what="no lag")


def _committed(stack: RunningStack, endpoint: OwnEndpoint) -> list[TopicPartition]:
    return admin_topics.committed(stack.kafka, endpoint.group, endpoint.group.source)
