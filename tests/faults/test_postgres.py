"""Postgres goes away, hangs, or loses its answer: nothing is lost, doubled, dead-lettered or refused."""

import json
import signal
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
from psycopg import sql

from deploy.local import settings_file
from processors.runs.persistence.process import APPLICATION
from schemas.runs.records import RunFinalized, RunStatus
from tests.faults.checker import check, check_committed_is_applied
from tests.faults.database import dsn_through, stored
from tests.faults.load import sending
from tests.faults.processes import OwnProcess, family, for_a_while, held_down, own_process, page, paused, resident_mib
from tests.faults.proxy import Proxy, proxied
from tests.faults.records import good, new_run, nothing_dead_lettered, produce, write_as_a_gateway
from tests.support.builders import TENANT, event, run_event
from tests.support.stack import RunningStack, wait_until

COMMITTED = b"COMMIT\0"  # in the CommandComplete that answers COMMIT
SUMMED_UP = "SELECT event_count FROM trace_records WHERE run_id = %s"
MEMORY_MAX_MIB = 300
GOES_ON_S = 60.0
ANSWER_S = 10.0  # far above what the gateway gives Postgres
POOLED = 8
END_SESSIONS = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = %s"


def test_a_postgres_that_is_restarted_at_once_costs_nothing(stack: RunningStack, tmp_path: Path) -> None:
    with nothing_dead_lettered(stack), sending(stack, tmp_path / "ledger.jsonl") as load:
        pid = stack.kill("postgres", signal.SIGQUIT)  # pg_ctl's "immediate"
        stack.wait_restarted("postgres", pid)
        load.wait_for()
    assert check(stack, [load.ledger]).rejected == 0
    assert load.summary["errors"] == {}


@pytest.mark.parametrize("down_s", [8.0, pytest.param(60.0, marks=pytest.mark.soak)])
def test_while_postgres_is_down_ingestion_goes_on_and_the_group_stays_as_it_is(
    stack: RunningStack, tmp_path: Path, down_s: float
) -> None:
    worker = stack.process("persistence").pid
    assignments = stack.log("persistence").count("partitions assigned")
    with nothing_dead_lettered(stack), sending(stack, tmp_path / "ledger.jsonl") as load:
        with held_down(stack, "postgres", signal.SIGQUIT):
            for_a_while(down_s)
            check_status(stack, "degraded")
            load.wait_for()
            assert resident_mib(worker) < MEMORY_MAX_MIB
        load.wait_for()
    found = check(stack, [load.ledger])
    assert load.summary["errors"] == {}
    assert found.accepted == found.stored == found.sent
    assert stack.process("persistence").pid == worker
    assert stack.log("persistence").count("partitions assigned") == assignments


def test_a_postgres_that_hangs_for_a_while_costs_nothing(stack: RunningStack, tmp_path: Path) -> None:
    with nothing_dead_lettered(stack), sending(stack, tmp_path / "ledger.jsonl") as load:
        with paused(family(stack.process("postgres").pid)):
            for_a_while(4)
            load.wait_for()
        load.wait_for()
    check(stack, [load.ledger])
    assert load.summary["errors"] == {}


def test_while_postgres_is_frozen_reads_are_refused_probes_say_so_and_events_are_accepted(stack: RunningStack) -> None:
    """Regression: a read got no answer in 420 s, the first event of a run one after 12 s, and a probe saw a store."""
    wait_until(lambda: ask(stack, "GET", "/readyz")[1]["store"], timeout_s=GOES_ON_S, what="the store to be seen")
    for _ in range(POOLED):  # so that every connection of the pools has been used
        assert ask(stack, "GET", "/api/runs")[0] == 200
    run_id = new_run()
    with paused(family(stack.process("postgres").pid)):
        status, problem = ask(stack, "GET", "/api/runs")
        assert (status, problem["code"]) == (503, "STORE_UNAVAILABLE")
        status, accepted = ask(stack, "POST", f"/api/runs/{run_id}/events/", event(1, run_id=run_id))
        assert (status, accepted["sequence"]) == (202, "unverified")
        status, ready = ask(stack, "GET", "/readyz")
        assert (status, ready["log"], ready["store"]) == (200, True, False)
    wait_until(lambda: stored(stack, run_id) == [1], timeout_s=GOES_ON_S, what="the event to be stored")
    wait_until(lambda: ask(stack, "GET", "/readyz")[1]["store"], timeout_s=GOES_ON_S, what="the store to be seen again")
    assert ask(stack, "GET", "/api/runs")[0] == 200


def test_sessions_that_are_read_only_are_replaced_once_their_role_may_write_again(stack: RunningStack) -> None:
    """Regression: after a failover the pool used the sessions of the old primary for ever."""
    settings = settings_file.read(stack.folder)
    assert settings
    writer = sql.Identifier(urlsplit(settings["persistence"]["TIDEGATE_POSTGRES"]).username or "")
    run_id = new_run()
    with psycopg.connect(stack.addresses.postgres, autocommit=True) as database, nothing_dead_lettered(stack):
        database.execute(sql.SQL("ALTER ROLE {} SET default_transaction_read_only = on").format(writer))
        try:
            database.execute(END_SESSIONS, (APPLICATION,))
            produce(stack, run_id, [good(stack, run_id, 1)], partition=0)
            wait_until(
                lambda: "read-only transaction" in page(stack.addresses.management["persistence"], "/readyz"),
                timeout_s=GOES_ON_S,
                what="the worker to have met a read-only session",
            )
        finally:
            database.execute(sql.SQL("ALTER ROLE {} RESET default_transaction_read_only").format(writer))
        # Nobody ends the sessions now: the worker itself must.
        wait_until(lambda: stored(stack, run_id) == [1], timeout_s=GOES_ON_S, what="the event to be stored")


def ask(stack: RunningStack, method: str, path: str, body: object = None) -> tuple[int, Any]:
    """Ask the gateway; an answer that takes longer than `ANSWER_S` fails the test."""
    connection = HTTPConnection(urlsplit(stack.addresses.gateway).netloc, timeout=ANSWER_S)
    try:
        headers = {"X-API-Key": stack.addresses.api_key, "Content-Type": "application/json"}
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


@pytest.fixture(scope="module")
def proxy(stack: RunningStack) -> Iterator[Proxy]:
    address = urlsplit(stack.addresses.postgres)
    with proxied(address.hostname or "", address.port or 0) as running:
        yield running


@pytest.fixture(scope="module")
def worker(stack: RunningStack, proxy: Proxy, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnProcess]:
    """Yield a second worker, which reaches Postgres through the proxy and waits 2 s for a transaction."""
    through = dsn_through(stack, "persistence", f"127.0.0.1:{proxy.port}")
    folder = tmp_path_factory.mktemp("worker")
    with own_process(stack, folder, variant="impatient", environ={"TIDEGATE_POSTGRES": through}) as running:
        running.wait_ready()
        yield running


def test_a_lost_reply_to_commit_is_tried_again_and_gives_one_row(
    stack: RunningStack, proxy: Proxy, worker: OwnProcess, tmp_path: Path
) -> None:
    before = retries(worker)
    with nothing_dead_lettered(stack), sending(stack, tmp_path / "ledger.jsonl") as load:
        proxy.rules.cut_at, proxy.rules.cuts_left = COMMITTED, 3
        wait_until(lambda: proxy.rules.cuts_left == 0, timeout_s=GOES_ON_S, what="three replies to be cut")
        load.wait_for()
    check(stack, [load.ledger])
    assert retries(worker) >= before + 3
    assert worker.metric("tidegate_records_total", outcome="redelivery") > 0


def test_reset_connections_are_replaced(stack: RunningStack, proxy: Proxy, worker: OwnProcess, tmp_path: Path) -> None:
    before = retries(worker)
    with nothing_dead_lettered(stack), sending(stack, tmp_path / "ledger.jsonl") as load:

        def enough_broken() -> bool:
            proxy.reset()
            return retries(worker) >= before + 3

        wait_until(enough_broken, timeout_s=GOES_ON_S, what="slices to be broken")
        load.wait_for()
    check(stack, [load.ledger])


@pytest.mark.parametrize("hang", [Proxy.stall, Proxy.half_open])
def test_a_connection_that_hangs_is_given_up_and_replaced(
    stack: RunningStack, proxy: Proxy, worker: OwnProcess, tmp_path: Path, hang: Callable[[Proxy], None]
) -> None:
    """The hanging connections hang for ever: only new ones can bring the events in."""
    before = retries(worker)
    with nothing_dead_lettered(stack), sending(stack, tmp_path / "ledger.jsonl") as load:
        hang(proxy)
        wait_until(lambda: retries(worker) > before, timeout_s=GOES_ON_S, what="the worker to give up waiting")
        check_committed_is_applied(stack)
        load.wait_for()
    check(stack, [load.ledger])


@pytest.mark.usefixtures("worker")
def test_a_session_that_hangs_in_the_middle_of_a_copy_is_ended_by_who_waits_for_it(stack: RunningStack) -> None:
    """What a worker that was cut off leaves behind: it holds its runs, and Postgres would let it for ever."""
    run_id = new_run()
    settings = settings_file.read(stack.folder)
    assert settings
    with held_down(stack, "persistence"):  # the worker of the test has everything then
        produce(stack, run_id, [good(stack, run_id, 1)], partition=0)
        wait_until(lambda: stored(stack, run_id) == [1], timeout_s=GOES_ON_S, what="the run to be there")
        left_behind = psycopg.connect(settings["persistence"]["TIDEGATE_POSTGRES"], application_name=APPLICATION)
        left_behind.execute("SELECT FROM runs WHERE run_id = %s FOR UPDATE", (run_id,))
        copying = left_behind.cursor().copy("COPY duplicate_events FROM STDIN")
        copying.__enter__()
        produce(stack, run_id, [good(stack, run_id, 2)], partition=0)
        wait_until(lambda: stored(stack, run_id) == [1, 2], timeout_s=GOES_ON_S, what="the run to go on")
        with pytest.raises(psycopg.OperationalError):
            copying.__exit__(None, None, None)
        left_behind.close()


def test_a_run_that_takes_longer_to_sum_up_than_a_transaction_has_for_a_step_is_finalized(
    stack: RunningStack, tmp_path: Path
) -> None:
    run_id, events = new_run(), 100
    end = RunFinalized(
        tenant=TENANT, run_id=run_id, status=RunStatus.SUCCEEDED, event_count=events, finalized_at=datetime.now(UTC)
    )
    records = [(run_event(event(seq, run_id=run_id)), seq) for seq in range(1, events + 1)]
    with (
        held_down(stack, "persistence"),
        own_process(stack, tmp_path, variant="slow_summary"),
        psycopg.connect(stack.addresses.postgres, autocommit=True) as database,
    ):
        write_as_a_gateway(stack, *records, (end, "finalized"))
        wait_until(
            lambda: database.execute(SUMMED_UP, (run_id,)).fetchone() == (events,),
            timeout_s=GOES_ON_S,
            what="the run to be summed up",
        )


def check_status(stack: RunningStack, expected: str) -> None:
    """Wait until the stack's own worker says of itself that it is *expected*."""
    management = stack.addresses.management["persistence"]
    wait_until(
        lambda: expected in page(management, "/readyz"), timeout_s=GOES_ON_S, what=f"the worker to be {expected}"
    )


def retries(worker: OwnProcess) -> float:
    return worker.metric("tidegate_slice_retries_total")
