"""One Kafka node that is broker and controller at once (KRaft), with its data in the stack's folder."""

import subprocess
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from deploy.admin.reach import kafka_answers
from deploy.errors import CommandFailed
from deploy.local import jars, java, ports
from deploy.local.program import Program
from schemas.catalogue import all_topics
from schemas.kafka.connection import KafkaSettings
from schemas.kafka.topics import RECORD_BYTES_MAX

SERVER = "kafka.Kafka"  # the class to run
HEAP_MIB = 384
FORMAT_TIMEOUT_S = 60
TRANSACTION_MAX_S = 60


def prepare(
    folder: Path,
    *,
    port: int,
    controller_port: int,
    cache: Path,
    environ: Mapping[str, str],
    say: Callable[[str], None],
) -> Program:
    """
    Make what a start needs (jars, settings, a formatted log folder) and say how to start it.

    Raises:
        CommandFailed: no Java, no jars, or the log folder cannot be formatted.
    """
    folder.mkdir(exist_ok=True)
    properties = folder / "server.properties"
    text = server_properties(data=folder / "data", port=port, controller_port=controller_port)
    properties.write_text(text, encoding="latin-1", errors="backslashreplace")  # what Java reads there
    run = java_command(heap_mib=HEAP_MIB, cache=cache, environ=environ, say=say)
    if not (folder / "data" / "meta.properties").exists():
        format_log_folder(run, properties, cluster_id=new_cluster_id())
    return Program(
        name="kafka",
        command=(*run, SERVER, str(properties)),
        # The port first: a client that finds it closed waits before it tries again.
        is_ready=lambda: ports.is_taken(port) and kafka_answers(KafkaSettings(bootstrap=f"127.0.0.1:{port}")),
    )


def java_command(
    *, heap_mib: int, cache: Path, environ: Mapping[str, str], say: Callable[[str], None]
) -> tuple[str, ...]:
    """
    Return the Java command with Kafka's jars; the class to run follows.

    Raises:
        CommandFailed: no Java, or no jars.
    """
    return (
        str(java.find(environ)),
        f"-Xmx{heap_mib}m",
        f"-Dlog4j2.configurationFile={Path(__file__).with_name('log4j2.properties')}",
        "-cp",
        ":".join(str(path) for path in jars.class_path(cache, say, jars=jars.pinned())),
    )


def server_properties(*, data: Path, port: int, controller_port: int) -> str:
    """Return the broker's settings file."""
    settings = {
        "process.roles": "broker,controller",
        "node.id": "1",
        "listeners": f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{port}",
        "controller.listener.names": "CONTROLLER",
        "controller.quorum.voters": f"1@127.0.0.1:{controller_port}",
        "log.dirs": str(data),
        "auto.create.topics.enable": "false",
        "group.initial.rebalance.delay.ms": "0",
        "message.max.bytes": str(max(RECORD_BYTES_MAX, *(topic.record_bytes_max for topic in all_topics()))),
        # One node cannot hold more than one copy; few partitions, for a quick start.
        "offsets.topic.replication.factor": "1",
        "offsets.topic.num.partitions": "4",
        # Records behind an open transaction are seen by no group: one that its producer left is aborted after this.
        "transaction.max.timeout.ms": str(TRANSACTION_MAX_S * 1000),
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "transaction.state.log.num.partitions": "4",
        "share.coordinator.state.topic.replication.factor": "1",
        "share.coordinator.state.topic.min.isr": "1",
    }
    return "".join(f"{name}={value}\n" for name, value in settings.items())


def new_cluster_id() -> str:
    """Return an id that no other cluster has."""
    return urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")


def format_log_folder(run: tuple[str, ...], properties: Path, *, cluster_id: str, options: Sequence[str] = ()) -> None:
    """
    Make the log folder that *properties* names one of the cluster's; *run* is `java_command`'s, *options* the tool's.

    Raises:
        CommandFailed: it cannot be formatted.
    """
    tool = (*run, "kafka.tools.StorageTool")
    done = subprocess.run(
        [*tool, "format", f"--cluster-id={cluster_id}", "--config", str(properties), *options],
        capture_output=True,
        text=True,
        timeout=FORMAT_TIMEOUT_S,
        check=False,
    )
    if done.returncode != 0:
        last = (done.stderr or done.stdout).strip().splitlines()[-1:]
        raise CommandFailed(f"kafka: its log folder {properties.parent} cannot be formatted: {' '.join(last)}")
