"""Sinks of the running stack that only a test has, and receivers of batches that do as the test says."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from secrets import token_hex
from threading import Lock, Thread
from typing import Any

import tomlkit
from confluent_kafka.admin import AdminClient

from deploy.admin import topics
from processors.sinks.kinds.jsonl_files import zstd
from schemas.catalogue import all_topics
from schemas.events.topics import USER_EVENTS
from schemas.kafka.topics import Group, Topic
from schemas.sinks.topics import SINK
from tests.faults.processes import OwnProcess, own_process
from tests.support.stack import RunningStack

GONE_S = 30.0


class BatchReceiver:
    """Listens on loopback; `status` and `body` may be changed while it runs."""

    def __init__(self) -> None:
        self.status = 200
        self.body: dict[str, object] = {}
        self.asked: list[str] = []  # the token of each request
        self.taken: list[tuple[str, list[dict[str, Any]]]] = []  # token and events of those answered 2xx
        self._lock = Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/in"

    @contextmanager
    def listening(self) -> Iterator["BatchReceiver"]:
        """Serve meanwhile."""
        Thread(target=self._server.serve_forever, daemon=True).start()
        try:
            yield self
        finally:
            self._server.shutdown()
            self._server.server_close()

    def ids(self) -> list[str]:
        """Return the ids of the events that were taken, in order, each as often as it came."""
        with self._lock:
            return [event["event_id"] for _, events in self.taken for event in events]

    def _take(self, token: str, body: bytes) -> tuple[int, bytes]:
        with self._lock:
            self.asked.append(token)
            if self.status == 200:
                self.taken.append((token, json.loads(body)))
            return self.status, json.dumps(self.body).encode()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                status, answer = receiver._take(self.headers["Idempotency-Key"], body)
                self.send_response(status)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_arguments: object) -> None:
                """Say nothing."""

        return Handler


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnSink:
    """A sink that only the test has; `type` is that of the events that it asks for."""

    name: str
    type: str
    file: Path
    group: Group

    @property
    def environ(self) -> Mapping[str, str]:
        """Return what its process, and commands, are told."""
        return {"TIDEGATE_SINKS": str(self.file), "TIDEGATE_SINKS_INTERNAL": "true"}

    @contextmanager
    def running(self, stack: RunningStack, folder: Path, **environ: str) -> Iterator[OwnProcess]:
        """Run its process, ready when this is entered."""
        with self.started(stack, folder, **environ) as process:
            process.wait_ready()
            yield process

    def started(self, stack: RunningStack, folder: Path, **environ: str) -> AbstractContextManager[OwnProcess]:
        """Run its process, which may end before it is ready."""
        return own_process(stack, folder, "sink", "--name", self.name, environ={**self.environ, **environ})

    def committed(self, stack: RunningStack) -> Sequence[int]:
        """Return the group's offset in each partition of its source."""
        return [place.offset for place in topics.committed(stack.kafka, self.group, self.group.source)]


@contextmanager
def own_sink(
    stack: RunningStack, beside: Path, /, *, source: Topic = USER_EVENTS, wanted: str | None = None, **options: Any
) -> Iterator[OwnSink]:
    """Make a sink with topics of its own, gone again afterwards; *options* as in the sinks file."""
    name = f"t{token_hex(4)}"
    sink = OwnSink(
        name=name,
        type=wanted or f"sink_{token_hex(6)}",
        file=beside / f"{name}.toml",
        group=SINK.group(name, source=source),
    )
    sink.file.touch(mode=0o600)
    sink.file.write_text(tomlkit.dumps({"sinks": {name: {"source": source.name, "types": [sink.type], **options}}}))
    topics.create(stack.kafka, [sink.group])
    topics.commit_first_offsets(stack.kafka, [sink.group])
    try:
        yield sink
    finally:
        own = [topic.name for topic in all_topics([sink.group]) if sink.group.name in topic.name]
        admin = AdminClient({"bootstrap.servers": stack.addresses.kafka})
        for gone in admin.delete_topics(own, operation_timeout=GONE_S).values():
            gone.result(GONE_S)


def file_events(folder: Path) -> Mapping[str, list[dict[str, Any]]]:
    """Return the events in the files of a sink by partition, in the order of the files."""
    found: dict[str, list[dict[str, Any]]] = {}
    for partition in sorted(folder.glob("*@*/*")):
        found[partition.name] = [json.loads(line) for line in _content(partition).splitlines()]
    return found


def _content(partition: Path) -> bytes:
    """Return what the files of a partition have; one that is closed while it is read is read again."""
    while True:
        closed = sorted(partition.glob("*.jsonl*"))
        files = [path for path in closed if path.suffix != ".part"] + sorted(partition.glob("*.open"))
        try:
            return b"".join(_whole_lines(path) for path in files)
        except FileNotFoundError:
            continue


def _whole_lines(path: Path) -> bytes:
    content = path.read_bytes()
    whole = zstd.decompress(content) if path.suffix == ".zst" else content
    return whole[: whole.rfind(b"\n") + 1]  # the rest is being written
