"""A receiver of webhooks that does as the test says, and an endpoint of the stack that sends to it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from secrets import token_hex
from threading import Event, Lock, Thread
from time import monotonic

import tomlkit
from confluent_kafka.admin import AdminClient
from standardwebhooks import Webhook

from deploy.admin import topics
from schemas.catalogue import all_topics
from schemas.kafka.topics import Group
from schemas.runs.endpoints import new_secret
from schemas.runs.topics import EVALUATION
from tests.faults.processes import OwnProcess, own_process
from tests.support.stack import RunningStack

GONE_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One verified request."""

    id: str
    run_id: str
    seq: int | None  # None: the end of the run
    status: int  # that it was answered with
    at_s: float  # monotonic
    headers: dict[str, str]
    document: dict[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """How a request is answered."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    after_s: float = 0.0  # how long it takes
    drip: bool = False  # a byte now and then, without end


Behaviour = Callable[[str, int | None], Answer]  # of a run and a seq


def takes_all(_run_id: str, _seq: int | None) -> Answer:
    """Take everything."""
    return Answer()


class Receiver:
    """Listens on loopback; `behaviour` may be changed while it runs."""

    def __init__(self) -> None:
        self.secrets = [new_secret()]
        self.behaviour: Behaviour = takes_all
        self.requests: list[Delivery] = []  # answered, whatever with
        self.unverified = 0
        self._lock = Lock()
        self._closing = Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/hook"

    @property
    def taken(self) -> list[Delivery]:
        """Return what was answered with 2xx, in order."""
        with self._lock:
            return [each for each in self.requests if 200 <= each.status < 300]

    def seqs(self, run_id: str) -> list[int | None]:
        """Return the seqs of one run that were taken, in order, each as often as it came."""
        return [each.seq for each in self.taken if each.run_id == run_id]

    def firsts(self, run_id: str) -> list[int | None]:
        """Return the same without repetitions."""
        return list(dict.fromkeys(self.seqs(run_id)))

    @contextmanager
    def listening(self) -> Iterator["Receiver"]:
        """Serve meanwhile."""
        thread = Thread(target=self._server.serve_forever, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._closing.set()
            self._server.shutdown()
            self._server.server_close()

    def _take(self, body: bytes, headers: dict[str, str]) -> Answer:
        try:
            document = Webhook(self.secrets[0]).verify(body, headers)
        except Exception:  # noqa: BLE001 - whatever it is, the request is not one of ours
            self.unverified += 1
            return Answer(status=400)
        data = document["data"]
        about = data.get("event") or data["run"]
        answer = self.behaviour(about["run_id"], about.get("seq"))
        self._closing.wait(answer.after_s)
        delivery = Delivery(
            id=headers["webhook-id"],
            run_id=about["run_id"],
            seq=about.get("seq"),
            status=0 if answer.drip else answer.status,
            at_s=monotonic(),
            headers=headers,
            document=document,
        )
        with self._lock:
            self.requests.append(delivery)
        return answer

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                answer = receiver._take(body, {name.lower(): value for name, value in self.headers.items()})
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", "1000000" if answer.drip else "0")
                self.end_headers()
                with suppress(OSError):  # whoever was sent it has had enough
                    while answer.drip and not receiver._closing.wait(0.05):
                        self.wfile.write(b".")
                self.close_connection = answer.drip

            def log_message(self, *_arguments: object) -> None:
                """Say nothing."""

        return Handler


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnEndpoint:
    """An endpoint that only the test has."""

    name: str
    file: Path
    group: Group
    environ: dict[str, str]

    def write(self, receiver: Receiver, **options: object) -> None:
        """Change how *receiver* is treated."""
        endpoint = {"url": receiver.url, "secrets": receiver.secrets, **options}
        self.file.touch(mode=0o600)
        self.file.write_text(tomlkit.dumps({"endpoints": {self.name: endpoint}}))


@contextmanager
def own_endpoint(stack: RunningStack, folder: Path, receiver: Receiver, **options: object) -> Iterator[OwnEndpoint]:
    """Make an endpoint with topics of its own, gone again afterwards; *options* as in the endpoints file."""
    name = f"t{token_hex(4)}"
    group = EVALUATION.group(name, delays=options.get("delays", ["1s", "2s"]))  # type: ignore[arg-type]  # as the file has them
    file = folder / f"{name}.toml"
    environ = {"TIDEGATE_ENDPOINTS": str(file), "TIDEGATE_EVALUATION_URL": ""}
    endpoint = OwnEndpoint(name=name, file=file, group=group, environ=environ)
    endpoint.write(receiver, **options)
    topics.create(stack.kafka, [group])
    topics.commit_first_offsets(stack.kafka, [group])
    try:
        yield endpoint
    finally:
        own = [topic.name for topic in all_topics([group]) if group.name in topic.name]
        admin = AdminClient({"bootstrap.servers": stack.addresses.kafka})
        for gone in admin.delete_topics(own, operation_timeout=GONE_S).values():
            gone.result(GONE_S)


@contextmanager
def forwarding(
    stack: RunningStack, folder: Path, endpoint: OwnEndpoint, *, environ: dict[str, str] | None = None
) -> Iterator[OwnProcess]:
    """Run a worker of *endpoint*, ready when this is entered."""
    told = {**endpoint.environ, **(environ or {})}
    with own_process(stack, folder, "evaluation", "--endpoint", endpoint.name, environ=told) as worker:
        worker.wait_ready()
        yield worker
