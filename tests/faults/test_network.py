"""The way to Kafka is cut, stalls, goes half-open or resets: no 202 is lost, no row is doubled, and all goes on."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.faults.broker import listening_also
from tests.faults.checker import check, check_committed_is_applied, wait_for_progress
from tests.faults.load import sending
from tests.faults.processes import free_port, held_down, own_process
from tests.faults.proxy import Proxy, proxied
from tests.faults.severed import sever_in_a_transaction
from tests.support.stack import RunningStack, wait_until

NOTICED_WITHIN_S = 30.0
BACK_WITHIN_S = 25.0  # what hangs is given up and replaced
GOES_ON_S = 90.0
RESETS = 3
SLOW_S = 0.1  # each way: a broker on another continent


@pytest.fixture(scope="module")
def proxy(stack: RunningStack) -> Iterator[Proxy]:
    """Yield a proxy before Kafka, to which Kafka sends the clients that come through it."""
    port = free_port()
    with (
        proxied("127.0.0.1", port) as running,
        listening_also(stack, "127.0.0.1", port, advertised=f"127.0.0.1:{running.port}"),
    ):
        yield running


@pytest.fixture
def through(proxy: Proxy) -> Iterator[dict[str, str]]:
    """Yield the settings of a process that reaches Kafka through the proxy; the way is fast again in the end."""
    yield {"TIDEGATE_KAFKA": f"127.0.0.1:{proxy.port}"}
    proxy.rules.delay_s = 0.0


@pytest.mark.parametrize(
    "part",
    [Proxy.reset, *(pytest.param(part, marks=pytest.mark.soak) for part in (Proxy.stall, Proxy.half_open))],
    ids=lambda f: f.__name__,
)
def test_a_gateway_cut_off_from_kafka_refuses_and_goes_on_when_the_way_is_free(
    stack: RunningStack, proxy: Proxy, through: dict[str, str], tmp_path: Path, part: Callable[[Proxy], None]
) -> None:
    with own_process(stack, tmp_path, "gateway", environ=through) as gateway:
        gateway.wait_ready()
        with sending(stack, tmp_path / "ledger.jsonl", url=gateway.url, retry_for_s=GOES_ON_S) as load:
            with cut_off(proxy, part):
                wait_until(lambda: not gateway.is_ready(), timeout_s=NOTICED_WITHIN_S, what="the gateway to notice")
                load.demand_none(for_s=2.0)
            wait_until(gateway.is_ready, timeout_s=BACK_WITHIN_S, what="the gateway to be back")
            load.wait_for()
    check(stack, [load.ledger])
    assert load.summary["errors"].keys() <= {"LOG_UNAVAILABLE", "TIMEOUT"}


def test_a_worker_whose_connections_to_kafka_are_reset_again_and_again_loses_and_doubles_nothing(
    stack: RunningStack, proxy: Proxy, through: dict[str, str], tmp_path: Path
) -> None:
    with (
        sending(stack, tmp_path / "ledger.jsonl") as load,
        own_process(stack, tmp_path, environ=through) as worker,
    ):
        worker.wait_ready()
        for _ in range(RESETS):
            proxy.reset()
            load.wait_for(100)
            check_committed_is_applied(stack)
        wait_for_progress(stack)
        worker.wait_ready()
    check(stack, [load.ledger])


@pytest.mark.soak
@pytest.mark.timeout(600)
@pytest.mark.parametrize("part", [Proxy.stall, Proxy.half_open], ids=lambda f: f.__name__)
def test_a_worker_cut_off_from_kafka_in_its_transaction_changes_nothing_when_it_is_back(
    stack: RunningStack, proxy: Proxy, through: dict[str, str], tmp_path: Path, part: Callable[[Proxy], None]
) -> None:
    """The other worker has taken over by then. What the old one had sent before the cut arrives late, or never."""
    with (
        sending(stack, tmp_path / "ledger.jsonl") as load,
        own_process(stack, tmp_path, environ=through) as severed,
    ):
        sever_in_a_transaction(stack, load, severed, cut_off(proxy, part))
    check(stack, [load.ledger])


@pytest.mark.soak
def test_a_slow_way_to_kafka_makes_all_slower_and_nothing_else(
    stack: RunningStack, proxy: Proxy, through: dict[str, str], tmp_path: Path
) -> None:
    with (
        own_process(stack, tmp_path, "gateway", environ=through) as gateway,
        own_process(stack, tmp_path, environ=through) as worker,
    ):
        gateway.wait_ready()
        worker.wait_ready()
        with held_down(stack, "persistence"):
            proxy.rules.delay_s = SLOW_S
            with sending(stack, tmp_path / "ledger.jsonl", url=gateway.url) as load:
                load.wait_for()
                wait_for_progress(stack)
                check_committed_is_applied(stack)
            check(stack, [load.ledger])
            assert load.summary["errors"] == {}
            assert load.summary["latency_ms"]["p50"] > 2 * SLOW_S * 1000
            assert worker.is_running()


@contextmanager
def cut_off(proxy: Proxy, part: Callable[[Proxy], None]) -> Iterator[None]:
    """Let *part* befall the connections of this moment, and allow no others."""
    proxy.rules.refuses = True
    part(proxy)
    try:
        yield
    finally:
        proxy.rules.refuses = False
        proxy.resume()
