"""Tidegate's own processes, in the order in which they start. A new one is a line here."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from deploy.admin.reach import is_ready
from deploy.local.ports import HOST
from deploy.local.program import Program
from schemas.interpreter import module_command, module_environment


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """One process and what it may do in Postgres."""

    name: str
    arguments: tuple[str, ...]  # of `python -m`
    database_role: str | None  # None: it has no business in Postgres, and is not told where it is

    @property
    def login(self) -> str:
        """Its login role in Postgres."""
        return f"tidegate_{self.name}"


SERVICES = (
    Service(name="gateway", arguments=("gateway",), database_role="tidegate_read"),
    Service(name="persistence", arguments=("processors", "persistence"), database_role="tidegate_write"),
    Service(name="fanout", arguments=("processors", "fanout"), database_role=None),
    Service(name="maintenance", arguments=("processors", "maintenance"), database_role="tidegate_maintain"),
)

ENGINE = "engine"
EVALUATION = "evaluation"

GATEWAY_PORT = 8080
FANOUT_PORT = 8081
ENGINE_PORT = 8090
MANAGEMENT_PORT_FIRST = 9080


def services(endpoints: Iterable[str]) -> tuple[Service, ...]:
    """The services of a stack with these webhook endpoints: a process for each."""
    names = list(endpoints)
    return SERVICES + tuple(
        Service(
            name=EVALUATION if len(names) == 1 else f"{EVALUATION}.{name}",
            arguments=("processors", EVALUATION, "--endpoint", name),
            database_role=None,
        )
        for name in names
    )


def management_ports(running: Iterable[Service]) -> Mapping[str, int]:
    """The known port of each service's probes and metrics."""
    return {f"{service.name} management": MANAGEMENT_PORT_FIRST + place for place, service in enumerate(running)}


# Who tries the stack under load has one agent; the environment may set these as anywhere else.
UNLIMITED = ("TIDEGATE_LIMIT_RUN_PER_MIN", "TIDEGATE_LIMIT_AGENT_PER_MIN")


def settings(
    *,
    kafka: str,
    postgres: str | None,
    objects: str,
    credentials: Path,
    limits: Path,
    retention: Path,
    gateway_port: int,
    fanout_port: int,
    management_port: int,
    evaluation: Mapping[str, str],
) -> dict[str, str]:
    """The settings of one service of the stack; *evaluation* says where webhooks go."""
    return ({} if postgres is None else {"TIDEGATE_POSTGRES": postgres}) | {
        "TIDEGATE_KAFKA": kafka,
        "TIDEGATE_OBJECTS": objects,
        "TIDEGATE_CREDENTIALS": str(credentials),
        "TIDEGATE_LIMITS": str(limits),
        "TIDEGATE_RETENTION": str(retention),
        "TIDEGATE_GATEWAY_HOST": HOST,
        "TIDEGATE_GATEWAY_PORT": str(gateway_port),
        "TIDEGATE_FANOUT_HOST": HOST,
        "TIDEGATE_FANOUT_PORT": str(fanout_port),
        # Pages that the gateway serves, under both of its names.
        "TIDEGATE_FANOUT_ORIGINS": f"http://{HOST}:{gateway_port},http://localhost:{gateway_port}",
        "TIDEGATE_MANAGEMENT_HOST": HOST,
        "TIDEGATE_MANAGEMENT_PORT": str(management_port),
        "TIDEGATE_EVALUATION_INTERNAL": "true",
        **evaluation,
    }


def program(service: Service, settings: dict[str, str]) -> Program:
    """How to run *service* with *settings*."""
    management = f"http://{HOST}:{settings['TIDEGATE_MANAGEMENT_PORT']}"
    return Program(
        name=service.name,
        command=module_command(*service.arguments),
        environment=module_environment() | settings,
        is_ready=lambda: is_ready(management),
    )


def engine_program(*, port: int, secret: str) -> Program:
    """The example of an evaluation engine, for a stack that is told of no other."""
    return Program(
        name=ENGINE,
        command=module_command("deploy.examples.engine", "--port", str(port)),
        environment=module_environment() | {"ENGINE_SECRET": secret},
        is_ready=lambda: is_ready(f"http://{HOST}:{port}"),
    )
