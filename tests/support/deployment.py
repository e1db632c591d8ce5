"""docker-compose.yml as it would run, on native servers: every service in a container of its own; see `container`."""

import os
import secrets
import socket
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import mkdtemp

import psycopg
import pytest

from deploy.admin.reach import kafka_answers, postgres_answers
from deploy.local import folders, kafka, ports, postgres
from schemas.kafka.connection import KafkaSettings
from tests.support import container
from tests.support.compose import COMPLETED, STARTED, Mount, Service, in_order, services
from tests.support.container import Bind, Image, build
from tests.support.stack import wait_until

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "docker-compose.yml"
PORTS = {"kafka": (19092,), "postgres": (5432,), "gateway": (8080, 9080), "fanout": (8081, 9080)}
WITHIN_S = 90.0
LOCALHOST = "127.0.0.1"
# Each with its name as its password.
LOGINS = (
    *("gateway", "persistence", "events", "processing", "maintenance", "jobs_intake", "executor"),
    *("documents_intake", "documents_embed", "documents_store"),
)
PASSWORD = "tidegate"  # of the owner, as the Compose file has it where nothing is set


@dataclass(kw_only=True)
class Deployment:
    """One run of the Compose file."""

    folder: Path
    image: Image
    services: Mapping[str, Service]
    addresses: Mapping[str, str]  # of each service
    running: dict[str, "subprocess.Popen[bytes]"] = field(default_factory=dict)

    def log(self, name: str) -> str:
        """Return what the service called *name* has printed."""
        return self._log(name).read_text(errors="replace")

    def run(self, name: str, *arguments: str, mounts: Sequence[Mount] | None = None) -> str:
        """`docker compose run --rm NAME ARGUMENT...`; return what it printed. Other *mounts* replace its own."""
        service = self.services[name]
        if mounts is not None:
            service = replace(service, mounts=mounts)
        log = self.folder / f"run-{secrets.token_hex(4)}.log"
        with self._started(service, log, arguments) as process:
            code = process.wait(WITHIN_S)
        said = log.read_text()
        if code:
            raise ContainerFailed(f"{name} {' '.join(arguments)}: exit {code}\n{said}")
        return said

    def volume(self, name: str) -> Path:
        """Return where the machine has the volume called *name*."""
        return self.folder / "volumes" / name

    @contextmanager
    def up(self, *names: str) -> Iterator[None]:
        """Start the services *names*, after what they depend on, and wait until each is healthy."""
        with ExitStack() as ending:
            for service in in_order(self.services, names):
                for other, condition in service.depends_on.items():
                    self._await(other, condition)
                started = self._started(service, self._log(service.name))
                self.running[service.name] = ending.enter_context(started)
            for name in names:
                self._await(name, "service_healthy")
            yield

    def _await(self, name: str, condition: str) -> None:
        if name not in self.running:  # a server, which is ready before anything else is started
            return
        process = self.running[name]
        if condition == COMPLETED:
            code = process.wait(WITHIN_S)
            assert code == 0, f"{name} ended with {code}:\n{self.log(name)}"
        elif condition != STARTED:
            assert self.services[name].has_healthcheck, f"{name} has no health check"
            wait_until(lambda: self._is_healthy(name), timeout_s=WITHIN_S, what=f"{name} to be healthy")

    def _is_healthy(self, name: str) -> bool:
        code = self.running[name].poll()
        assert code is None, f"{name} ended with {code}:\n{self.log(name)[-3000:]}"
        command = [word.replace(LOCALHOST, self.addresses[name]) for word in self.image.healthcheck]
        log = self.folder / "health.log"
        with self._started(self.services[name], log, command, entrypoint=[]) as check:
            return check.wait(WITHIN_S) == 0

    def _log(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    @contextmanager
    def _started(
        self, service: Service, log: Path, command: Sequence[str] = (), *, entrypoint: Sequence[str] | None = None
    ) -> Iterator["subprocess.Popen[bytes]"]:
        first = service.entrypoint if entrypoint is None else entrypoint
        everywhere = {
            name: self.addresses[service.name]
            for name, value in self.image.environment.items()
            if name.endswith("_HOST") and value == "0.0.0.0"
        }
        with container.started(
            self.image,
            [*first, *(command or service.command or self.image.command)],
            environment={**everywhere, **service.environment},
            log=log,
            mounts=[*(self._bind(mount) for mount in service.mounts), *self._temporary(service)],
            read_only=service.read_only,
        ) as process:
            yield process

    def _temporary(self, service: Service) -> Iterator[Bind]:
        for target in service.tmpfs:
            folder = Path(mkdtemp(dir=self.folder))
            folder.chmod(0o1777)
            yield Bind(source=str(folder), target=target, read_only=False)

    def _bind(self, mount: Mount) -> Bind:
        if not mount.is_volume:
            source = ROOT / mount.source
            if not source.exists():
                source.mkdir()  # as the engine does, for root
            return Bind(source=str(source), target=mount.target, read_only=mount.read_only)
        source = self.volume(mount.source)
        if not source.exists():
            source.mkdir(parents=True)
            known = self.image.root / mount.target[1:]
            if known.exists():
                os.chown(source, known.stat().st_uid, known.stat().st_gid)
                source.chmod(known.stat().st_mode & 0o7777)
        return Bind(source=str(source), target=mount.target, read_only=mount.read_only)


class ContainerFailed(AssertionError):
    """A command in a container did not end with 0; the text has what it printed."""


@contextmanager
def deployment(folder: Path, environ: Mapping[str, str]) -> Iterator[Deployment]:
    """Build the image, start Kafka and Postgres, and read the Compose file with the variables in *environ*."""
    found = services(COMPOSE, environ)
    addresses = _addresses(found)
    image = build(
        ROOT / "deploy/docker/Dockerfile", context=ROOT, folder=_made(folder / "image"), cache=folders.cache(os.environ)
    )
    hosts = "".join(f"{address} {name}\n" for name, address in addresses.items())
    (image.root / "etc/hosts").write_text(f"{LOCALHOST} localhost\n{hosts}")
    with _kafka(folder, addresses["kafka"]), _postgres(folder, addresses["postgres"]):
        yield Deployment(folder=folder, image=image, services=found, addresses=addresses)


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def _addresses(found: Mapping[str, Service]) -> dict[str, str]:
    """Return an address on loopback for each service: the whole of 127/8 is this machine."""
    network = f"127.{1 + secrets.randbelow(250)}.{secrets.randbelow(250)}"
    addresses = {name: f"{network}.{number}" for number, name in enumerate(("kafka", "postgres", *found), 2)}
    for name, wanted in PORTS.items():
        for port in wanted:
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind((addresses[name], port))
                except OSError:
                    pytest.skip(f"something on this machine listens on port {port} of every address")
    return addresses


@contextmanager
def _kafka(folder: Path, address: str) -> Iterator[None]:
    [port] = PORTS["kafka"]
    data = _made(folder / "kafka")
    chosen = ports.choose({"controller": 0}, ports.Choice.AUTO, print)
    program = kafka.prepare(
        data,
        port=port,
        controller_port=chosen["controller"],
        cache=folders.cache(os.environ),
        environ=os.environ,
        say=print,
    )
    properties = data / "server.properties"
    properties.write_text(properties.read_text().replace(f"{LOCALHOST}:{port}", f"{address}:{port}"))
    with _server(
        program.command, folder / "kafka.log", lambda: kafka_answers(KafkaSettings(bootstrap=f"{address}:{port}"))
    ):
        yield


@contextmanager
def _postgres(folder: Path, address: str) -> Iterator[None]:
    [port] = PORTS["postgres"]
    data = folder / "postgres"
    program = postgres.prepare(data, port=port, password=PASSWORD)
    command = [word.replace(f"={LOCALHOST}", f"={address}") for word in program.command]
    owner = {"host": address, "port": str(port), "user": postgres.OWNER, "password": PASSWORD}
    account = {"user": program.account.uid, "group": program.account.gid} if program.account else {}
    known = psycopg.conninfo.make_conninfo(**owner, dbname="postgres")
    with _server(command, folder / "postgres.log", lambda: postgres_answers(known), cwd=data, **account):
        with psycopg.connect(known, autocommit=True) as session:
            session.execute("CREATE DATABASE tidegate")
        # What the image of Postgres does at its first start, with the variables that the Compose file gives it.
        programs = Path(program.command[0]).parent
        subprocess.run(
            [str(ROOT / "deploy/docker/roles.sh")],
            check=True,
            env={
                "PATH": f"{programs}:{os.environ['PATH']}",
                "PGHOST": address,
                "PGPORT": str(port),
                "PGPASSWORD": PASSWORD,
                "POSTGRES_USER": postgres.OWNER,
                "POSTGRES_DB": postgres.DATABASE,
                **{f"TIDEGATE_{name.upper()}_PASSWORD": name for name in LOGINS},
            },
        )
        yield


@contextmanager
def _server(command: Sequence[str], log: Path, answers: Callable[[], bool], **options: object) -> Iterator[None]:
    with log.open("ab") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, **options)  # type: ignore[call-overload]

    def is_up() -> bool:
        assert process.poll() is None, log.read_text()[-3000:]
        return answers()

    try:
        wait_until(is_up, timeout_s=WITHIN_S, what=f"{log.stem} to answer")
        yield
    finally:
        process.kill()
        process.wait()
