"""The life of an embedded stack: start everything in order, keep it running, stop it in reverse."""

import asyncio
from collections.abc import Callable, Container, Coroutine, Mapping
from datetime import UTC, datetime
from pathlib import Path
from signal import SIGINT, SIGTERM
from time import monotonic
from typing import Any

import msgspec

from deploy.admin import migrate, topics
from deploy.admin.reach import need_kafka, postgres_answers
from deploy.errors import CommandFailed, NotReachable
from deploy.local import (
    development,
    documents,
    folders,
    given,
    kafka,
    lock,
    logs,
    made,
    ports,
    postgres,
    services,
    settings_file,
    stack_file,
)
from deploy.local.child import Child
from deploy.local.development import Development
from deploy.local.ports import HOST, Choice
from deploy.local.program import Program
from deploy.local.stack_file import RunningProcess, Stack
from schemas.archive.topics import archived_topic
from schemas.catalogue import GROUPS
from schemas.kafka.connection import KafkaSettings
from schemas.process.settings import load
from schemas.process.specs import DOCUMENTS, ProcessSpec
from schemas.runs import endpoints
from schemas.runs.endpoints import DEFAULT, EndpointsSettings
from schemas.runs.topics import EVALUATION
from schemas.sinks import sinks_file
from schemas.sinks.sinks_file import SinksSettings

START_TIMEOUT_S = 120.0
KAFKA_PORTS = {"kafka": 9092, "kafka controller": 9093}
POSTGRES_PORTS = {"postgres": 5432}
SERVICE_PORTS = {"gateway": services.GATEWAY_PORT, "fanout": services.FANOUT_PORT}
ENGINE_PORTS = {services.ENGINE: services.ENGINE_PORT}
DEFAULT_PORTS = {
    **KAFKA_PORTS,
    **POSTGRES_PORTS,
    **SERVICE_PORTS,
    **ENGINE_PORTS,
    **services.management_ports(services.services([DEFAULT], optional=["processing"])),
}


class Supervisor:
    """One stack in one folder."""

    def __init__(
        self,
        folder: Path,
        *,
        choice: Choice,
        environ: Mapping[str, str],
        say: Callable[[str], None],
        without: Container[str] = frozenset(),
    ) -> None:
        """
        Describe the stack; `run` starts it. Each setting in *environ* replaces what the stack would choose.

        Services named in *without* are not started.

        Raises:
            SettingsInvalid: the endpoints, sinks, event types, archived topics or a port that *environ* names cannot be
                used.
        """
        self._folder = folder.absolute()
        self._endpoints_given = endpoints.watch(load(EndpointsSettings, environ))()
        has_own_engine = not self._endpoints_given.endpoints
        self._optional_groups = topics.optional_groups(environ)
        self._sinks = sinks_file.watch(load(SinksSettings, environ))()
        declared = services.services(
            [DEFAULT] if has_own_engine else self._endpoints_given.endpoints,
            sinks=self._sinks.sinks,
            archived=[topic for group in self._optional_groups if (topic := archived_topic(group)) is not None],
            optional=[group.name for group in self._optional_groups],
        )
        wanted = [service for service in declared if service.name not in without]
        lacking = documents.missing()
        self._services = [service for service in wanted if service.extra != DOCUMENTS or not lacking]
        if len(self._services) < len(wanted):
            say(f"documents are left out: {', '.join(lacking)} not installed: {documents.REMEDY}")
        self._has_documents = any(service.extra == DOCUMENTS for service in self._services)
        self._has_engine = has_own_engine and any(service.name == services.EVALUATION for service in self._services)
        self._kafka_given = given.kafka(environ)
        self._postgres_given = environ.get("TIDEGATE_POSTGRES")
        self._management_port_first = given.port(environ, given.MANAGEMENT_PORT) or services.MANAGEMENT_PORT_FIRST
        self._fixed_ports = given.fixed_ports(environ, self._services)
        self._choice = choice
        self._environ = environ
        self._say = say
        self._children: list[Child] = []  # in the order of their start
        self._stack: Stack | None = None  # None until everything is ready

    async def run(self, on_ready: Callable[[], None]) -> None:
        """
        Start everything, call *on_ready*, and stay until SIGINT or SIGTERM; then stop everything.

        Raises:
            CommandFailed: the folder has a stack already, or something does not start.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        made.claim(self._folder)
        (self._folder / logs.FOLDER).mkdir(exist_ok=True)
        with lock.hold(self._folder) as keep_open:
            stack_file.remove(self._folder)
            life = asyncio.create_task(self._live(keep_open, on_ready))
            for number in (SIGINT, SIGTERM):
                asyncio.get_running_loop().add_signal_handler(number, life.cancel)
            try:
                await asyncio.wait((life,))
            finally:
                await self._stop()
            if not life.cancelled():
                life.result()

    async def _live(self, keep_open: int, on_ready: Callable[[], None]) -> None:
        began_s = monotonic()
        hosts = given.hosts(self._environ)
        chosen = ports.choose(
            {
                **({} if self._kafka_given else KAFKA_PORTS),
                **({} if self._postgres_given else POSTGRES_PORTS),
                **SERVICE_PORTS,
                **(ENGINE_PORTS if self._has_engine else {}),
                **services.management_ports(self._services, self._management_port_first),
            },
            self._choice,
            self._say,
            lambda port: all(ports.can_listen(port, host) for host in hosts),
            fixed=self._fixed_ports,
        )
        tenant = development.prepare(
            self._folder,
            logins=[postgres.OWNER, *(service.login for service in self._services if service.database_role)],
            now=datetime.now(UTC),
            environ=self._environ,
        )
        log: KafkaSettings
        database: str
        model: Path | None
        log, database, model = await _together(
            self._start_kafka(chosen, keep_open),
            self._start_postgres(chosen, tenant, keep_open),
            asyncio.to_thread(self._model),
        )
        await self._start_services(chosen, tenant, keep_open, kafka=log, model=model)
        self._stack = Stack(
            gateway=self._url("TIDEGATE_GATEWAY_HOST", chosen["gateway"]),
            websocket=self._websocket(chosen),
            management=self._management(chosen),
            kafka=log.bootstrap,
            postgres=database,
            api_key=tenant.api_key,
            agent_id=tenant.agent_id,
            agent_secret=tenant.agent_secret,
            processes=[],
        )
        self._tell()
        self._say(f"ready in {monotonic() - began_s:.1f} s: {self._stack.gateway} (`tidegate status` shows the rest)")
        on_ready()
        await asyncio.gather(*(child.kept() for child in self._children))

    async def _start_kafka(self, chosen: Mapping[str, int], keep_open: int) -> KafkaSettings:
        if self._kafka_given:
            connection = self._kafka_given
            await asyncio.to_thread(need_kafka, connection)
        else:
            connection = KafkaSettings(bootstrap=f"{HOST}:{chosen['kafka']}")
            program = await asyncio.to_thread(
                kafka.prepare,
                self._folder / "kafka",
                port=chosen["kafka"],
                controller_port=chosen["kafka controller"],
                cache=folders.cache(self._environ),
                environ=self._environ,
                say=self._say,
            )
            await self._child(program, keep_open).start(timeout_s=START_TIMEOUT_S)
        of_endpoints = (EVALUATION.group(DEFAULT),) if self._has_engine else endpoints.groups(self._endpoints_given)
        groups = (*GROUPS, *self._optional_groups, *of_endpoints, *sinks_file.groups(self._sinks))
        await asyncio.to_thread(topics.create, connection, groups)
        await asyncio.to_thread(topics.commit_first_offsets, connection, groups)
        self._say(f"kafka is ready at {connection}")
        return connection

    async def _start_postgres(self, chosen: Mapping[str, int], tenant: Development, keep_open: int) -> str:
        if self._postgres_given:
            owner = self._postgres_given
            if not await asyncio.to_thread(postgres_answers, owner):
                raise NotReachable("no Postgres answers at the address in TIDEGATE_POSTGRES")
            await asyncio.to_thread(migrate.apply, owner)
            return owner
        port, password = chosen["postgres"], tenant.postgres_passwords[postgres.OWNER]
        program = await asyncio.to_thread(postgres.prepare, self._folder / "postgres", port=port, password=password)
        await self._child(program, keep_open).start(timeout_s=START_TIMEOUT_S)
        await asyncio.to_thread(postgres.create_database, port=port, password=password)
        owner = postgres.dsn(port=port, user=postgres.OWNER, password=password)
        await asyncio.to_thread(migrate.apply, owner)
        for service in self._services:
            if service.database_role:
                await asyncio.to_thread(
                    postgres.create_login,
                    owner,
                    user=service.login,
                    password=tenant.postgres_passwords[service.login],
                    member_of=service.database_role,
                )
        self._say(f"postgres is ready at {HOST}:{port}")
        return owner

    async def _start_services(
        self,
        chosen: Mapping[str, int],
        tenant: Development,
        keep_open: int,
        *,
        kafka: KafkaSettings,
        model: Path | None,
    ) -> None:
        def database(service: ProcessSpec) -> str | None:
            if service.database_role is None:
                return None
            return self._postgres_given or postgres.dsn(
                port=chosen["postgres"], user=service.login, password=tenant.postgres_passwords[service.login]
            )

        def settings(service: ProcessSpec) -> dict[str, str]:
            return services.settings(
                self._environ,
                folder=self._folder,
                kafka=kafka if service.has_log else None,
                postgres=database(service),
                credentials=tenant.credentials if service.has_log else None,
                gateway_port=chosen["gateway"],
                fanout_port=chosen["fanout"],
                management_port=chosen[services.management(service)],
                evaluation=engine if service.has_log else {},
                model=model,
            )

        engine: dict[str, str] = {}
        programs = []
        if self._has_engine:
            port, secret = chosen[services.ENGINE], tenant.evaluation_secret
            engine = {"TIDEGATE_EVALUATION_URL": f"http://{HOST}:{port}/", "TIDEGATE_EVALUATION_SECRET": secret}
            programs = [services.engine_program(port=port, secret=secret)]
        by_service = {service.name: settings(service) for service in self._services}
        settings_file.write(self._folder, by_service, self._environ)
        programs += [services.program(service, by_service[service.name]) for service in self._services]
        children = [self._child(program, keep_open) for program in programs]
        await _together(*(child.start(timeout_s=START_TIMEOUT_S) for child in children))

    def _model(self) -> Path | None:
        return documents.model(self._environ, self._say) if self._has_documents else None

    def _websocket(self, chosen: Mapping[str, int]) -> str | None:
        """Return where live streams are served, if they are."""
        has_fanout = any(service.name == "fanout" for service in self._services)
        return self._url("TIDEGATE_FANOUT_HOST", chosen["fanout"], scheme="ws") if has_fanout else None

    def _management(self, chosen: Mapping[str, int]) -> dict[str, str]:
        """Return where each process says whether it is ready."""
        addresses = {
            service.name: self._url("TIDEGATE_MANAGEMENT_HOST", chosen[services.management(service)])
            for service in self._services
        }
        if self._has_engine:
            addresses[services.ENGINE] = services.url(HOST, chosen[services.ENGINE])
        return addresses

    def _url(self, host_setting: str, port: int, *, scheme: str = "http") -> str:
        return services.url(self._environ.get(host_setting) or HOST, port, scheme=scheme)

    def _child(self, program: Program, keep_open: int) -> Child:
        child = Child(
            program,
            log=logs.path(self._folder, program.name),
            keep_open=keep_open,
            say=self._say,
            on_start=self._tell,
        )
        self._children.append(child)
        return child

    def _tell(self) -> None:
        """Make `stack.json` true; until everything is ready there is none."""
        if self._stack:
            processes = [
                RunningProcess(name=child.program.name, pid=child.pid, log=str(child.log)) for child in self._children
            ]
            stack_file.write(self._folder, msgspec.structs.replace(self._stack, processes=processes))

    async def _stop(self) -> None:
        for child in reversed(self._children):
            await child.stop()
        stack_file.remove(self._folder)
        self._say("stopped")


async def _together(*starts: Coroutine[Any, Any, Any]) -> list[Any]:
    """Run *starts* side by side; when one fails the others are cancelled and its error is raised."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(start) for start in starts]
    except BaseExceptionGroup as group_error:
        failures = group_error.exceptions
        raise next((error for error in failures if isinstance(error, CommandFailed)), failures[0]) from None
    return [task.result() for task in tasks]
