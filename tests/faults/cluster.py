"""Three nodes of Kafka on loopback, each broker and controller, for what one cannot show: leaders that move."""

import os
import signal
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from confluent_kafka import ElectionType

from deploy.admin.reach import kafka_answers
from deploy.local import folders, kafka, logs, ports
from schemas.kafka.connection import KafkaSettings
from schemas.kafka.lookups import admin_client
from schemas.runs.topics import RUN_EVENTS
from tests.faults.processes import END_S, paused
from tests.support.stack import wait_until

NODES = 3
HEAP_MIB = 256
ASK_S = 30.0
WITHIN_S = 120.0
SETTINGS = {
    "min.insync.replicas": "2",
    "offsets.topic.replication.factor": str(NODES),
    "auto.leader.rebalance.enable": "false",  # leaders move when a test says so
}


class Node:
    """One node, which nothing but its test starts again."""

    def __init__(self, node_id: int, command: tuple[str, ...], *, port: int, log: Path) -> None:
        """Describe the node; `start` starts it."""
        self.id = node_id
        self.address = f"{ports.HOST}:{port}"
        self._command = command
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Return the pid of its process."""
        assert self._process, "started"
        return self._process.pid

    def start(self) -> None:
        """Start it; `wait_ready` waits until it answers."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log)

    def wait_ready(self) -> None:
        """Wait until it answers."""

        def answers() -> bool:
            assert self._process, "started"
            code = self._process.poll()
            assert code is None, f"node {self.id} ended with {code}: {logs.cause(self._log)}"
            return kafka_answers(KafkaSettings(bootstrap=self.address))

        wait_until(answers, timeout_s=WITHIN_S, what=f"node {self.id} to answer")

    def end(self, number: signal.Signals = signal.SIGKILL) -> None:
        """Send it a signal and wait until it has ended."""
        assert self._process, "started"
        self._process.send_signal(number)
        try:
            self._process.wait(END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class Cluster:
    """Three nodes that hold every partition three times and take a record when two of them have it."""

    def __init__(self, nodes: Iterable[Node]) -> None:
        """Take the nodes, started or not."""
        self.nodes = tuple(nodes)
        self.bootstrap = ",".join(node.address for node in self.nodes)
        self._admin = admin_client(KafkaSettings(bootstrap=self.bootstrap))

    def led_by(self, node: Node) -> list[int]:
        """Return the partitions of run.events that *node* leads."""
        return [place.id for place in self._partitions(RUN_EVENTS.name) if place.leader == node.id]

    @contextmanager
    def without(self, node: Node) -> Iterator[None]:
        """Kill *node*, let the others take over what it led, and bring it back to where they are in the end."""
        node.end()
        try:
            wait_until(
                lambda: node.id not in self._leaders(), timeout_s=WITHIN_S, what=f"others to lead in place of {node.id}"
            )
            yield
        finally:
            node.start()
            self.wait_whole()

    @contextmanager
    def resting_beside(self, node: Node) -> Iterator[None]:
        """Let the others rest, so that *node* alone has what it takes."""
        with paused([other.pid for other in self.nodes if other is not node]):
            yield

    def wait_whole(self) -> None:
        """Wait until every node has all that there is."""
        for node in self.nodes:
            node.wait_ready()
        wait_until(
            lambda: all(len(place.isrs) == NODES for place in self._partitions()),
            timeout_s=WITHIN_S,
            what="every partition to be in sync on each node",
        )

    def move_leaders_back(self) -> None:
        """Let each partition be led by the node that led it first, as an operator does after an outage."""
        self._admin.elect_leaders(ElectionType.PREFERRED).result(ASK_S)  # the client (2.16) fails on any timeout given
        wait_until(
            lambda: all(place.leader == place.replicas[0] for place in self._partitions()),
            timeout_s=WITHIN_S,
            what="every leader to be the preferred one",
        )

    def gather_leaders(self, node: Node) -> None:
        """Let *node* lead every partition: the others hand theirs over when they are told to end, and come back."""
        others = [other for other in self.nodes if other is not node]
        for other in others:
            other.end(signal.SIGTERM)
        for other in others:
            other.start()
        self.wait_whole()
        assert self._leaders() == {node.id}

    def _leaders(self) -> set[int]:
        return {place.leader for place in self._partitions()}

    def _partitions(self, topic: str | None = None) -> list[Any]:
        found = self._admin.list_topics(topic, timeout=ASK_S).topics
        return [place for each in found.values() for place in each.partitions.values()]


@contextmanager
def three_nodes(folder: Path, environ: Mapping[str, str] = os.environ) -> Iterator[Cluster]:
    """Start a cluster whose data lies in *folder*, and stop it."""
    names = [f"{part} {node_id}" for part in ("broker", "controller") for node_id in range(1, NODES + 1)]
    chosen = ports.choose(dict.fromkeys(names, 0), ports.Choice.AUTO, print)
    run = kafka.java_command(heap_mib=HEAP_MIB, cache=folders.cache(environ), environ=environ, say=print)
    cluster_id = kafka.new_cluster_id()
    voters = ",".join(f"{each}@{ports.HOST}:{chosen[f'controller {each}']}" for each in range(1, NODES + 1))
    with ExitStack() as ending:
        nodes = []
        for node_id in range(1, NODES + 1):
            port = chosen[f"broker {node_id}"]
            text = kafka.server_properties(
                data=folder / str(node_id), port=port, controller_port=chosen[f"controller {node_id}"]
            )
            given = dict(line.split("=", 1) for line in text.splitlines())
            given |= SETTINGS | {"node.id": str(node_id), "controller.quorum.voters": voters}
            properties = folder / f"{node_id}.properties"
            properties.write_text("".join(f"{name}={value}\n" for name, value in given.items()))
            kafka.format_log_folder(run, properties, cluster_id=cluster_id)
            node = Node(node_id, (*run, kafka.SERVER, str(properties)), port=port, log=folder / f"{node_id}.log")
            node.start()
            ending.callback(node.end)
            nodes.append(node)
        cluster = Cluster(nodes)
        for node in nodes:
            node.wait_ready()
        yield cluster
