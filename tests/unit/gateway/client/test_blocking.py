"""The client without `await`: a gateway on another thread's loop, and programs of their own."""

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.client import Bounds, SyncClient, Undelivered, traced
from tests.unit.gateway.client.fake_gateway import LOG_AWAY, FakeGateway
from tests.unit.gateway.client.test_client import IMPATIENT, QUICK, RUN

ROOT = Path(__file__).parents[4]


@pytest.fixture
def served() -> Iterator[FakeGateway]:
    """Yield a gateway that runs while this thread blocks."""
    gateway, ready, stop = FakeGateway(), threading.Event(), threading.Event()

    async def serve() -> None:
        async with gateway.running():
            ready.set()
            await asyncio.to_thread(stop.wait)

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    ready.wait()
    yield gateway
    stop.set()
    thread.join()


def connect(gateway: FakeGateway, *, bounds: Bounds = QUICK, **more: Any) -> SyncClient:
    return SyncClient(gateway.url, api_key="k", agent_id="clerk", bounds=bounds, environment=False, **more)


def contents(gateway: FakeGateway, run_id: str = RUN) -> list[object]:
    return [event["payload"] for event in gateway.events.get(run_id, [])]


def test_a_run_without_await(served: FakeGateway) -> None:
    with connect(served) as client:
        with client.run(RUN) as run:
            for number in range(500):
                run.event("message", number)
        assert (run.accepted_count, run.event_count, run.dropped_count) == (500, 500, 0)
        with client.run("run-2") as run:
            run.fail("no")
    assert contents(served) == list(range(500))
    assert served.finalized == {
        RUN: {"status": "succeeded", "event_count": 500},
        "run-2": {"status": "failed", "event_count": 1},
    }


def test_an_exception_ends_the_run_as_failed(served: FakeGateway) -> None:
    with connect(served) as client, pytest.raises(KeyError), client.run(RUN):
        raise KeyError
    assert served.finalized[RUN]["status"] == "failed"
    assert served.events[RUN][0]["payload"]["error"] == "KeyError"


def test_a_full_queue_holds_the_caller_up_instead_of_losing_events(served: FakeGateway) -> None:
    with connect(served, bounds=Bounds(queue_events_max=3)) as client, client.run(RUN) as run:
        for number in range(200):
            run.event("message", number)
    assert contents(served) == list(range(200))


def test_traced_functions_report_to_it(served: FakeGateway) -> None:
    @traced
    def double(number: int) -> int:
        return 2 * number

    with connect(served) as client:
        with client.run(RUN):
            assert double(2) == 4
        assert double(2) == 4
    assert [event["type"] for event in served.events[RUN]] == ["tool_call", "tool_result"]


def test_threads_share_a_client(served: FakeGateway) -> None:
    def work(client: SyncClient, number: int) -> None:
        with client.run(f"run-{number}") as run:
            for count in range(20):
                run.event("message", count)

    with connect(served) as client:
        threads = [threading.Thread(target=work, args=(client, number)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert [contents(served, f"run-{number}") for number in range(4)] == [list(range(20))] * 4


def test_what_is_lost_is_raised_where_the_client_is_strict(served: FakeGateway) -> None:
    served.always = LOG_AWAY
    with connect(served, bounds=IMPATIENT, strict=True) as client, pytest.raises(Undelivered), client.run(RUN) as run:
        run.event("message", 1)


def test_a_client_that_is_not_open_says_so() -> None:
    client = SyncClient("http://127.0.0.1:1", api_key="k", agent_id="a")
    with pytest.raises(RuntimeError, match="not open"):
        client.run()
    client.close()


def test_a_wrong_parameter_is_reported_at_once() -> None:
    with pytest.raises(ValueError, match="agent_id"):
        SyncClient("http://127.0.0.1:1", api_key="k", agent_id="a/b")


def run_program(gateway: FakeGateway, body: str) -> subprocess.CompletedProcess[str]:
    program = (
        "import os, sys\n"
        "from gateway.client import SyncClient\n"
        "client = SyncClient(sys.argv[1], api_key='k', agent_id='a', environment=False)\n" + body
    )
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-c", program, gateway.url],
        env=environ, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_a_program_that_forgets_to_close_loses_nothing(served: FakeGateway) -> None:
    done = run_program(served, "client.open()\nrun = client.run('run-1')\nrun.__enter__()\nrun.event('message', 1)\n")
    assert (done.returncode, done.stderr) == (0, "")
    assert contents(served) == [1]
    assert served.finalized[RUN]["status"] == "cancelled"


def test_a_program_that_exits_within_its_run_ends_it(served: FakeGateway) -> None:
    body = "with client, client.run('run-1') as run:\n    run.event('message', 1)\n    sys.exit(3)\n"
    assert run_program(served, body).returncode == 3
    assert [event["type"] for event in served.events[RUN]] == ["message", "error"]
    assert served.finalized[RUN]["status"] == "failed"


def test_a_forked_child_reports_runs_of_its_own_and_none_of_its_parents(served: FakeGateway) -> None:
    body = """
with client, client.run('run-1') as run:
    run.event('message', 'parent')
    child = os.fork()
    if child == 0:
        run.event('message', 'lost')
        with client.run('run-2') as own:
            own.event('message', 'child')
        client.close()
        os._exit(run.dropped_count)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1
    run.event('message', 'parent again')
"""
    done = run_program(served, body)
    assert done.returncode == 0, done.stderr
    assert contents(served) == ["parent", "parent again"]
    assert contents(served, "run-2") == ["child"]
    assert served.finalized == {
        RUN: {"status": "succeeded", "event_count": 2},
        "run-2": {"status": "succeeded", "event_count": 1},
    }


def test_a_forked_child_that_leaves_its_parents_block_does_not_end_the_run(served: FakeGateway) -> None:
    body = """
with client, client.run('run-1') as run:
    if os.fork() == 0:
        sys.exit(0)
    os.wait()
    run.event('message', 'parent')
"""
    done = run_program(served, body)
    assert done.returncode == 0, done.stderr
    assert contents(served) == ["parent"]
    assert served.finalized == {RUN: {"status": "succeeded", "event_count": 1}}
