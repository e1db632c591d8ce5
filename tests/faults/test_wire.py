"""Processes on another machine, as far as the network can tell: packets are lost and late, and the link goes down."""

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import inf
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.faults.broker import listening_also
from tests.faults.checker import check, check_committed_is_applied, wait_for_progress
from tests.faults.database import dsn_through
from tests.faults.load import sending
from tests.faults.processes import OwnProcess, free_port, held_down, own_process
from tests.faults.proxy import proxied
from tests.faults.severed import sever_in_a_transaction
from tests.faults.wire import Wire, wired
from tests.support.stack import RunningStack

LOSS = 0.05
CONNECT = """
import socket, sys, time
started_s = time.monotonic()
try:
    socket.create_connection((sys.argv[1], int(sys.argv[2])), float(sys.argv[3]))
except TimeoutError:
    print("inf")
else:
    print(time.monotonic() - started_s)
"""
DELAY_S = 0.1  # each way


@dataclass(frozen=True, slots=True, kw_only=True)
class Remote:
    """Addresses at this end of the wire, for the other end."""

    kafka: str
    postgres: str


@pytest.fixture(scope="module")
def wire() -> Iterator[Wire]:
    """Yield a wire to a namespace."""
    with wired() as made:
        yield made


@pytest.fixture(scope="module")
def remote(stack: RunningStack, wire: Wire) -> Iterator[Remote]:
    """Kafka and Postgres, to be reached over the wire."""
    kafka_port, postgres = free_port(), urlsplit(stack.addresses.postgres)
    with (
        proxied("127.0.0.1", kafka_port, listening=wire.outside) as kafka,
        proxied("127.0.0.1", postgres.port or 0, listening=wire.outside) as database,
        listening_also(stack, "127.0.0.1", kafka_port, advertised=f"{wire.outside}:{kafka.port}"),
    ):
        yield Remote(kafka=f"{wire.outside}:{kafka.port}", postgres=f"{wire.outside}:{database.port}")


def test_a_wire_carries_delays_and_loses(wire: Wire) -> None:
    """How long a connection takes to be there says what the wire does to packets."""
    with socket.create_server((wire.outside, 0)) as server:
        port = server.getsockname()[1]

        def seconds_to_connect(timeout_s: float = 5.0) -> float:
            command = [*wire.command, sys.executable, "-c", CONNECT, wire.outside, str(port), str(timeout_s)]
            return float(subprocess.run(command, check=True, capture_output=True).stdout)

        assert seconds_to_connect() < DELAY_S
        wire.condition.delay_s = DELAY_S
        assert seconds_to_connect() >= 2 * DELAY_S
        wire.condition.delay_s = 0.0
        with link_down(wire):
            assert seconds_to_connect(0.5) == inf


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_lost_and_late_packets_make_all_slower_and_nothing_else(
    stack: RunningStack, wire: Wire, remote: Remote, tmp_path: Path
) -> None:
    with (
        far_process(stack, tmp_path, "gateway", wire, remote) as gateway,
        far_process(stack, tmp_path, "persistence", wire, remote) as worker,
    ):
        gateway.wait_ready()
        worker.wait_ready()
        with held_down(stack, "persistence"):
            wire.condition.loss, wire.condition.delay_s = LOSS, DELAY_S
            try:
                with sending(stack, tmp_path / "ledger.jsonl", url=gateway.url) as load:
                    load.wait_for(1000)
                    wait_for_progress(stack)
                    check_committed_is_applied(stack)
                check(stack, [load.ledger])
            finally:
                wire.condition.loss = wire.condition.delay_s = 0.0
            assert load.summary["errors"] == {}
            assert load.summary["latency_ms"]["p50"] > 2 * DELAY_S * 1000
            assert worker.is_running()


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_a_worker_whose_link_goes_down_in_its_transaction_changes_nothing_when_it_is_back(
    stack: RunningStack, wire: Wire, remote: Remote, tmp_path: Path
) -> None:
    """Another worker takes over, its database session included; what the old one wrote comes late, or never."""
    with (
        sending(stack, tmp_path / "ledger.jsonl") as load,
        far_process(stack, tmp_path, "persistence", wire, remote) as severed,
    ):
        sever_in_a_transaction(stack, load, severed, link_down(wire))
    check(stack, [load.ledger])


@contextmanager
def link_down(wire: Wire) -> Iterator[None]:
    """Pull the wire out, and put it back."""
    wire.condition.is_up = False
    try:
        yield
    finally:
        wire.condition.is_up = True


@contextmanager
def far_process(stack: RunningStack, folder: Path, service: str, wire: Wire, remote: Remote) -> Iterator[OwnProcess]:
    """Yield a process at the other end of the wire."""
    environ = {
        "TIDEGATE_KAFKA": remote.kafka,
        "TIDEGATE_POSTGRES": dsn_through(stack, service, remote.postgres),
        "TIDEGATE_MANAGEMENT_HOST": wire.inside,
        "TIDEGATE_GATEWAY_HOST": wire.inside,
    }
    with own_process(stack, folder, service, environ=environ, within=wire.command) as process:
        yield process
