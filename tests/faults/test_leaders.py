"""Three brokers whose leaders move, by an election or because they die, under load: nothing accepted is lost."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.checker import check, check_committed_is_applied, examine, wait_for_no_lag, wait_for_progress
from tests.faults.cluster import NODES, Cluster, three_nodes
from tests.faults.load import sending
from tests.faults.processes import own_process
from tests.support.stack import RunningStack, running, tidegate

pytestmark = [pytest.mark.soak, pytest.mark.timeout(900)]

RETRY_S = 180.0


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with three_nodes(tmp_path_factory.mktemp("cluster")) as started:
        yield started


@pytest.fixture(scope="module")
def stack(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    """Yield a stack on the three nodes, with every topic on each of them."""
    folder = tmp_path_factory.mktemp("stack")
    environ = {**os.environ, "TIDEGATE_KAFKA": cluster.bootstrap}
    try:
        tidegate("topics", "create", "--replication", str(NODES), "--dir", str(folder), environ=environ)
        cluster.wait_whole()
        with running(folder, environ=environ) as started:
            yield started
    finally:
        tidegate("down", "--purge", "--dir", str(folder))


def test_leaders_that_die_and_are_moved_back_cost_nothing_that_was_accepted(
    cluster: Cluster, stack: RunningStack, tmp_path: Path
) -> None:
    with sending(stack, tmp_path / "ledger.jsonl", retry_for_s=RETRY_S) as load:
        for node in cluster.nodes:
            assert cluster.led_by(node)
            with cluster.without(node):
                load.wait_for()
                wait_for_progress(stack)
                check_committed_is_applied(stack)
            assert not cluster.led_by(node)
            cluster.move_leaders_back()
            load.wait_for()
            check_committed_is_applied(stack)
    found = check(stack, [load.ledger])
    assert found.stored == found.sent
    assert found.rejected == 0


def test_what_only_a_leader_has_when_it_dies_was_not_answered_202(
    cluster: Cluster, stack: RunningStack, tmp_path: Path
) -> None:
    leader = cluster.nodes[0]
    cluster.gather_leaders(leader)
    with sending(stack, tmp_path / "ledger.jsonl", retry_for_s=RETRY_S) as load:
        with cluster.resting_beside(leader):
            load.demand_none(for_s=2.0)
            leader.end()
        with cluster.without(leader):
            load.wait_for()
        load.wait_for()
    found = check(stack, [load.ledger])
    assert found.stored == found.sent
    assert found.rejected == 0


def test_a_202_on_the_word_of_the_leader_alone_is_seen_to_promise_what_is_lost(
    cluster: Cluster, stack: RunningStack, tmp_path: Path
) -> None:
    """Comes last: what the mutation loses stays lost."""
    leader = cluster.nodes[0]
    cluster.gather_leaders(leader)
    with (
        own_process(stack, tmp_path, "gateway", variant="acks_of_the_leader") as gateway,
        sending(stack, tmp_path / "ledger.jsonl", url=gateway.url) as load,
    ):
        with cluster.resting_beside(leader):
            load.wait_for()
            leader.end()
        with cluster.without(leader):
            load.wait_for()
    wait_for_no_lag(stack)
    assert examine(stack, [load.ledger]).lost
