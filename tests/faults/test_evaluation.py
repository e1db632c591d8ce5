"""Webhooks under faults: receivers that do everything wrong, workers that die at each step, addresses of our own."""

import secrets
import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from pathlib import Path
from statistics import median
from threading import Event, Thread

import pytest

from processors.runtime.failpoints import EXIT_KILLED, Failpoint
from tests.faults.processes import for_a_while, own_process
from tests.integration.test_receipts import Client
from tests.support import builders
from tests.support.receiver import Answer, OwnEndpoint, Receiver, forwarding, own_endpoint
from tests.support.stack import RunningStack, wait_until

WITHIN_S = 90.0
QUICK = {"retries_s": [0.1, 0.2], "breaker_open_s": 1.0, "timeout_s": 1.0}
# Tries enough in place that an outage opens the breaker, by one run's failures alone, before a record is put aside.
STEADY = {**QUICK, "retries_s": [0.1, 0.2, 0.2, 0.2, 0.2, 0.2]}
RUNS = 6
STEPS = [
    Failpoint.AFTER_POLL,
    Failpoint.BEFORE_POST,
    Failpoint.AFTER_POST,
    Failpoint.BEFORE_DLQ_ACK,
    Failpoint.AFTER_COMMIT_BEFORE_OFFSET,
    Failpoint.AFTER_OFFSET,
]
TLS_PORT = 8443
OPENED = ("open", "half_open")
FAILING = [
    Answer(status=500),
    Answer(status=503, headers={"Retry-After": "3600"}),
    Answer(status=429, headers={"Retry-After": "1"}),
    Answer(after_s=3.0),
    Answer(drip=True),
    Answer(status=302, headers={"Location": "http://127.0.0.1:1/"}),
]


class Load:
    """Events of some runs, one after the other, for as long as it is entered."""

    def __init__(self, stack: RunningStack) -> None:
        self._client = Client(stack)
        self.runs = [f"load-{secrets.token_hex(6)}" for _ in range(RUNS)]
        self.sent = dict.fromkeys(self.runs, 0)
        self._stop = Event()

    @contextmanager
    def sending(self) -> Iterator[None]:
        thread = Thread(target=self._send)
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            thread.join()

    def send_one_each(self) -> None:
        for run_id in self.runs:
            self._client.send(builders.event(self.sent[run_id] + 1, run_id=run_id))
            self.sent[run_id] += 1

    def _send(self) -> None:
        while not self._stop.wait(0.05):
            self.send_one_each()


@contextmanager
def two_endpoints(stack: RunningStack, folder: Path) -> Iterator[tuple[Receiver, OwnEndpoint, Receiver, OwnEndpoint]]:
    """Yield one whose receiver the test makes fail, and a good one beside it; both are sent to."""
    with ExitStack() as running:
        bad, good = (running.enter_context(Receiver().listening()) for _ in range(2))
        endpoints = [running.enter_context(own_endpoint(stack, folder, each, **STEADY)) for each in (bad, good)]
        for endpoint in endpoints:
            running.enter_context(forwarding(stack, folder, endpoint))
        yield bad, endpoints[0], good, endpoints[1]


def wait_all_taken(receiver: Receiver, load: Load, *, but: Sequence[tuple[str, int]] = ()) -> None:
    """Wait until the receiver has taken every event of the load; each run's in order, repetitions left out."""

    def is_taken() -> bool:
        return all(len(receiver.firsts(run_id)) >= load.sent[run_id] for run_id in load.runs)

    wait_until(is_taken, timeout_s=WITHIN_S, what="every event to be taken")
    for run_id in load.runs:
        moved = {seq for run, seq in but if run == run_id}
        in_order = [seq for seq in receiver.firsts(run_id) if seq not in moved]
        assert in_order == [seq for seq in range(1, load.sent[run_id] + 1) if seq not in moved]


def latencies_s(receiver: Receiver, runs: Sequence[str]) -> list[float]:
    """Between two deliveries of one run: what a stall of the other endpoint would stretch."""
    found = []
    for run_id in runs:
        at_s = [each.at_s for each in receiver.taken if each.run_id == run_id]
        found += [later - earlier for earlier, later in pairwise(at_s)]
    return found


def test_an_endpoint_that_fails_loses_nothing_keeps_its_order_and_holds_up_nobody(
    stack: RunningStack, tmp_path: Path
) -> None:
    client, load = Client(stack), Load(stack)

    def breaker(endpoint: OwnEndpoint) -> str | None:
        groups = client.ask("GET", "/api/wal/status")[1].get("groups", [])
        [group] = [each for each in groups if each["group"] == endpoint.group.name] or [{}]
        return (group.get("endpoint") or {}).get("breaker")

    with two_endpoints(stack, tmp_path) as (bad, bad_endpoint, good, good_endpoint):
        with load.sending():
            wait_until(lambda: len(bad.taken) > RUNS, timeout_s=WITHIN_S, what="deliveries")
            for failing in FAILING:
                bad.behaviour = lambda *_, answer=failing: answer  # type: ignore[misc]
                wait_until(
                    lambda: breaker(bad_endpoint) in OPENED, timeout_s=WITHIN_S, what=f"{failing} to open the breaker"
                )
                before = len(good.taken)
                for_a_while(2.0)
                assert len(good.taken) > before + RUNS
                assert breaker(good_endpoint) == "closed"
                bad.behaviour = lambda *_: Answer()
                wait_until(lambda: breaker(bad_endpoint) == "closed", timeout_s=WITHIN_S, what="the breaker to close")
        wait_all_taken(bad, load)
        wait_all_taken(good, load)
    assert median(latencies_s(good, load.runs)) < QUICK["timeout_s"]  # type: ignore[operator]
    for receiver in (bad, good):
        by_event = {(each.run_id, each.seq): set[str]() for each in receiver.requests}
        for each in receiver.requests:
            by_event[each.run_id, each.seq].add(each.id)
        assert all(len(ids) == 1 for ids in by_event.values())


def test_a_worker_that_dies_at_each_step_leaves_nothing_undelivered(stack: RunningStack, tmp_path: Path) -> None:
    load = Load(stack)
    with Receiver().listening() as receiver, own_endpoint(stack, tmp_path, receiver, **QUICK) as endpoint:
        bad = (load.runs[0], 1)
        receiver.behaviour = lambda run_id, seq: Answer(status=500 if (run_id, seq) == bad else 200)
        for point in STEPS:
            environ = {"TIDEGATE_FAILPOINT": f"{point}:1"}
            arguments = ("--endpoint", endpoint.name)
            with own_process(stack, tmp_path, "evaluation", *arguments, environ=endpoint.environ | environ) as worker:
                wait_until(
                    lambda worker=worker: not worker.is_running() or worker.is_ready(),  # type: ignore[misc]
                    timeout_s=WITHIN_S,
                    what="the worker to be ready",
                )
                with load.sending():
                    assert worker.wait_end() == EXIT_KILLED, worker.log[-3000:]
            load = _gone_on(stack, load)
        receiver.behaviour = lambda *_: Answer()
        with forwarding(stack, tmp_path, endpoint):
            load.send_one_each()
            wait_all_taken(receiver, load, but=[bad])


def _gone_on(stack: RunningStack, load: Load) -> Load:
    """Return the same runs, to be sent on."""
    further = Load(stack)
    further.runs, further.sent = load.runs, load.sent
    return further


def test_two_workers_of_an_endpoint_that_come_and_go_deliver_everything(stack: RunningStack, tmp_path: Path) -> None:
    load = Load(stack)
    with Receiver().listening() as receiver, own_endpoint(stack, tmp_path, receiver, **QUICK) as endpoint:
        with forwarding(stack, tmp_path, endpoint), load.sending():
            for _ in range(2):
                with forwarding(stack, tmp_path, endpoint):
                    for_a_while(2.0)
                for_a_while(1.0)
        with forwarding(stack, tmp_path, endpoint):
            wait_all_taken(receiver, load)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]"])
def test_an_endpoint_at_an_internal_address_is_never_connected_to(
    stack: RunningStack, tmp_path: Path, host: str
) -> None:
    """Its breaker says why, and its events wait."""
    with Receiver().listening() as receiver, canary(TLS_PORT) as connections:
        receiver.url = f"https://{host}:{TLS_PORT}/hook"
        environ = {"TIDEGATE_EVALUATION_INTERNAL": "false"}
        with (
            own_endpoint(stack, tmp_path, receiver, **QUICK) as endpoint,
            forwarding(stack, tmp_path, endpoint, environ=environ) as worker,
        ):
            load = Load(stack)
            load.send_one_each()
            wait_until(
                lambda: worker.metric("tidegate_webhooks_total", verdict="failed") >= RUNS,
                timeout_s=WITHIN_S,
                what="attempts that fail",
            )
            assert "is an internal address" in worker.log
        assert connections == []


@contextmanager
def canary(port: int) -> Iterator[list[object]]:
    """Yield who connected to *port* on loopback."""
    connections: list[object] = []
    with socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True) as server:
        server.settimeout(0.2)
        closing = Event()

        def accept() -> None:
            while not closing.is_set():
                try:
                    connection, peer = server.accept()
                except TimeoutError:
                    continue
                connections.append(peer)
                connection.close()

        thread = Thread(target=accept)
        thread.start()
        try:
            yield connections
        finally:
            closing.set()
            thread.join()


def test_the_canary_counts_who_connects() -> None:
    """The test above can fail."""
    with canary(TLS_PORT) as connections:
        socket.create_connection(("127.0.0.1", TLS_PORT)).close()
        wait_until(lambda: len(connections) == 1, timeout_s=5, what="the canary to see it")
