"""The log loses records that groups have handled, or hides them: each is reported as such, and has a way on."""

import json
import secrets
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
from confluent_kafka import Producer

from deploy.admin import lag, positions, problems, readiness
from schemas.kafka.partitioner import partition_of
from schemas.runs.topics import RUN_EVENTS
from tests.faults.checker import check, wait_for_no_lag
from tests.faults.cut_log import cut_off, delete
from tests.faults.database import stored
from tests.faults.load import sending
from tests.support.builders import event, signed
from tests.support.stack import RunningStack, throwaway, wait_until

PARTITIONS = 8
WITHIN_S = 60.0
LOOKUPS = 10  # of a busy log
READY_S = 180.0  # a process that found no topic is started again after ten seconds at most, several times


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    """Yield a stack of its own: what is left of its log is nobody else's concern."""
    folder = tmp_path_factory.mktemp("cut")
    with throwaway(folder) as started:
        yield started


def test_a_log_that_was_cut_off_stops_its_partition_until_it_is_accepted(stack: RunningStack) -> None:
    run, other = run_in(6), run_in(2)
    places = [sent(stack, run, seq) for seq in (1, 2, 3)]
    first = int(places[0].rpartition("/")[2])
    wait_for_no_lag(stack)
    with cut_off(stack, RUN_EVENTS.name, 6, before=first + 1):
        pass
    stack.wait_ready("kafka")

    # The producer's sequence numbers are lost with the records: fatal, and another producer takes over.
    wait_until(lambda: post(stack, run, 4)[0] == 202, timeout_s=WITHIN_S, what="the gateway to accept events again")

    # The log ends before the position: what is new stands at an old offset.
    wait_until(lambda: is_stopped(stack, "persistence"), timeout_s=WITHIN_S, what="persistence to stop at the cut")
    [why] = readiness.ask(stack.addresses.management["persistence"]).reasons
    assert why.startswith("run.events/6 at offset")
    assert "the log ends before what was committed" in why
    assert "tidegate topics accept" in why
    sent(stack, other, 1)
    wait_until(lambda: stored(stack, other) == [1], timeout_s=WITHIN_S, what="another partition to go on")
    wait_until(
        lambda: fault_of(stack, "persistence", 6) == "beyond_end", timeout_s=WITHIN_S, what="the cut log to be seen"
    )
    assert state_of(stack, f"run.events/6/{first + 1}") == "displaced"
    assert state_of(stack, places[0]) == "done", "a row of this very record says so"
    assert_told(stack, "the log ends before what was committed")

    # Now the log is as long as it was: only the mark tells.
    again = [sent(stack, run, seq) for seq in (5, 6, 7)]
    wait_until(
        lambda: fault_of(stack, "persistence", 6) == "rewritten",
        timeout_s=WITHIN_S,
        what="the rewritten log to be seen",
    )
    assert sorted(stored(stack, run)) == [1, 2, 3]
    assert {state_of(stack, place) for place in again} == {"displaced"}
    assert_told(stack, "the log was cut off and written again")
    assert post(stack, run, 8, wait="persistence")[1].get("waited") is False

    answer = json.loads(stack.command("topics", "accept", "--dry-run", "--json"))
    assert {(each["group"], each["goes_on_at"]) for each in answer["positions"]} == {
        ("persistence", first + 1),
        ("evaluation.default", first + 1),
    }
    assert not answer["accepted"]
    assert json.loads(stack.command("topics", "accept", "--yes", "--json"))["accepted"]
    wait_until(
        lambda: sorted(stored(stack, run)) == list(range(1, 9)),
        timeout_s=WITHIN_S,
        what="what was accepted to be stored",
    )
    check(stack, [])
    wait_until(
        lambda: {state_of(stack, place) for place in again} == {"done"}, timeout_s=WITHIN_S, what="receipts to say so"
    )
    assert wal_ids(stack, run)[1] == f"run.events/6/{first + 1}/lost"
    assert_nothing_told(stack)


def test_a_topic_that_was_deleted_and_created_again_is_started_over(stack: RunningStack) -> None:
    run = run_in(3)
    sent(stack, run, 1)
    wait_for_no_lag(stack)
    delete(stack, RUN_EVENTS.name)
    wait_until(
        lambda: not stack.is_ready("gateway"), timeout_s=WITHIN_S, what="the gateway to be unready without its topic"
    )
    stack.attempt("topics", "create")
    for name in ("gateway", "persistence"):
        wait_until(
            lambda name=name: not stack.is_ready(name),  # type: ignore[misc]
            timeout_s=WITHIN_S,
            what=f"{name} to be unready",
        )
    assert_told(stack, "deleted and created again")
    wait_until(lambda: post(stack, run, 2)[0] == 202, timeout_s=WITHIN_S, what="events to be accepted into the new log")
    assert json.loads(stack.command("topics", "accept", "--yes", "--json"))["topics_recreated"] == [RUN_EVENTS.name]
    wait_until(lambda: sorted(stored(stack, run)) == [1, 2], timeout_s=WITHIN_S, what="the new log to be handled")
    for name in stack.addresses.management:
        stack.wait_ready(name, timeout_s=READY_S)
    check(stack, [])
    assert_nothing_told(stack)


def test_an_open_transaction_hides_records_and_is_told(stack: RunningStack) -> None:
    run = run_in(1)
    sent(stack, run, 1)
    wait_for_no_lag(stack)
    config = {"bootstrap.servers": stack.addresses.kafka, "transactional.id": secrets.token_hex(4), "log_level": 0}
    producer = Producer(config)
    producer.init_transactions()
    producer.begin_transaction()
    producer.produce(RUN_EVENTS.name, b"never to be seen", b"k", partition=1)
    producer.flush()
    hidden = sent(stack, run, 2)
    receipt = ask(stack, "GET", f"/api/wal/{hidden}")[1]
    assert receipt["log"]["state"] == "undecided"
    assert receipt["log"]["detail"].startswith("not decided yet: an open transaction of producer ")
    assert {group["state"] for group in receipt["groups"]} == {"waiting"}
    [lag] = [each for each in lags(stack) if (each["group"], each["topic"], each["partition"]) == OF_TRANSACTION]
    assert (lag["records"], lag["undecided"], lag["high_watermark"]) == (0, 2, lag["end"] + 2)
    status = ask(stack, "GET", "/api/wal/status")[1]
    [topic] = [each for each in status["topics"] if each["topic"] == RUN_EVENTS.name]
    assert topic["partitions"][1]["undecided_records"] == 2
    assert_told(stack, "hidden from every group by an open transaction of producer")
    producer.abort_transaction()
    wait_until(lambda: stored(stack, run) == [1, 2], timeout_s=WITHIN_S, what="the transaction to be over")
    wait_until(lambda: state_of(stack, hidden) == "done", timeout_s=WITHIN_S, what="the receipt to say so")
    assert_nothing_told(stack)


OF_TRANSACTION = ("persistence", RUN_EVENTS.name, 1)


def test_a_busy_log_is_not_taken_for_one_that_was_cut_off(stack: RunningStack, tmp_path: Path) -> None:
    """Regression: what was committed and stored between two lookups lay beyond the end that was looked up first."""
    with sending(stack, tmp_path / "ledger.jsonl", rate=100) as load:
        load.wait_for(200)
        for _ in range(LOOKUPS):
            assert positions.acceptances(stack.kafka, stack.addresses.postgres).positions == []
            assert [*problems.of_positions(lag.measure(stack.kafka))] == []
        assert_nothing_told(stack)


def run_in(partition: int) -> str:
    """Return a run id of one partition that no other test uses."""
    while partition_of((run := f"cut-{secrets.token_hex(8)}").encode(), PARTITIONS) != partition:
        pass
    return run


def ask(stack: RunningStack, method: str, path: str, body: object = None) -> tuple[int, Any]:
    connection = HTTPConnection(urlsplit(stack.addresses.gateway).netloc, timeout=30)
    headers = {"X-API-Key": stack.addresses.api_key, "Content-Type": "application/json"}
    try:
        connection.request(method, path, body=None if body is None else json.dumps(body), headers=headers)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def post(stack: RunningStack, run: str, seq: int, *, wait: str = "") -> tuple[int, Any]:
    body = signed(event(seq, run_id=run), secret=stack.addresses.agent_secret)
    return ask(stack, "POST", f"/api/runs/{run}/events/" + (f"?wait={wait}" if wait else ""), body)


def sent(stack: RunningStack, run: str, seq: int) -> str:
    """Send an event; its wal_id."""
    status, answer = post(stack, run, seq)
    assert status == 202, answer
    wal_id: str = answer["wal_id"]
    return wal_id


def is_stopped(stack: RunningStack, name: str) -> bool:
    return readiness.ask(stack.addresses.management[name]).state is readiness.State.DEGRADED


def lags(stack: RunningStack) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(stack.command("lag", "--json"))
    return found


def fault_of(stack: RunningStack, group: str, partition: int) -> str | None:
    """Return the fault of a group's position, by the command and by the gateway alike."""
    [by_command] = [
        each["fault"]
        for each in lags(stack)
        if (each["group"], each["topic"], each["partition"]) == (group, RUN_EVENTS.name, partition)
    ]
    code, status = ask(stack, "GET", "/api/wal/status")
    if code == 503:  # a broker that was just started does not know every group yet
        return None
    assert code == 200, status
    [of_group] = [each for each in status["groups"] if each["group"] == group]
    [by_gateway] = [each["fault"] for each in of_group["partitions"] if each["partition"] == partition]
    return by_command if by_command == by_gateway else None


def state_of(stack: RunningStack, wal_id: str) -> str:
    """Return the state of persistence in a receipt."""
    status, receipt = ask(stack, "GET", f"/api/wal/{wal_id}")
    assert status == 200, receipt
    [group] = [each for each in receipt["groups"] if each["group"] == "persistence"]
    return str(group["state"])


def wal_ids(stack: RunningStack, run: str) -> list[str]:
    return [each["wal_id"] for each in ask(stack, "GET", f"/api/runs/{run}/events")[1]["events"]]


def assert_told(stack: RunningStack, text: str) -> None:
    """Demand that `doctor` and `status` say it and fail."""
    for command in ("doctor", "status"):
        done = stack.attempt(command, "--json")
        assert done.returncode == 1, done
        assert text in done.stdout + done.stderr, done.stdout


def assert_nothing_told(stack: RunningStack) -> None:
    """Demand that `doctor` and `status` find nothing, once every process is ready again."""
    for command in ("doctor", "status"):
        wait_until(
            lambda command=command: stack.attempt(command).returncode == 0,  # type: ignore[misc]
            timeout_s=WITHIN_S,
            what=f"{command} to find nothing",
        )


def test_the_acceptances_are_kept(stack: RunningStack) -> None:
    with psycopg.connect(stack.addresses.postgres) as session:
        kept = session.execute("SELECT acceptance, positions FROM log_acceptances ORDER BY acceptance").fetchall()
    assert [acceptance for acceptance, _ in kept] == [1, 2]
    assert {each["fault"] for each in kept[0][1]} == {"rewritten"}
