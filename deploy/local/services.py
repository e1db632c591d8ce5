"""Tidegate's own processes in a local stack: their settings and ports, and how to start them."""

from collections.abc import Container, Iterable, Mapping
from pathlib import Path

from deploy.admin.reach import is_ready
from deploy.local import development, documents, folders
from deploy.local.ports import HOST
from deploy.local.program import STOP_TIMEOUT_S, Program
from schemas.kafka.connection import KafkaSettings
from schemas.process.interpreter import module_command, module_environment
from schemas.process.settings import as_environ, declarations
from schemas.process.specs import PROCESSES, ProcessSpec

ENGINE = "engine"
EVALUATION = "evaluation"
SINK = "sink"
ARCHIVE = "archive"
EXECUTOR = "executor"

GATEWAY_PORT = 8080
FANOUT_PORT = 8081
ENGINE_PORT = 8090
MANAGEMENT_PORT_FIRST = 9080

EXECUTOR_DRAIN = "TIDEGATE_EXECUTOR_DRAIN_S"
EXECUTOR_DRAIN_S = "5"  # who stops a stack on a developer's machine waits for it
EXECUTOR_MARGIN_S = 15.0  # after the drain, for tasks that do not stop by themselves


def services(
    endpoints: Iterable[str],
    *,
    sinks: Iterable[str] = (),
    archived: Iterable[str] = (),
    optional: Container[str] = (),
) -> tuple[ProcessSpec, ...]:
    """
    Return the processes of a stack with these webhook endpoints, *sinks* and *archived* topics; of *optional* ones
    those named.
    """
    names = list(endpoints)
    found: list[ProcessSpec] = []
    for spec in PROCESSES:
        if spec.name == EVALUATION:
            found += [spec.of_member(name, is_only=len(names) == 1) for name in names]
        elif spec.name == SINK:
            found += [spec.of_member(name) for name in sinks]
        elif spec.name == ARCHIVE:
            found += [spec.of_member(topic) for topic in archived]
        elif not spec.is_optional or spec.name in optional:
            found.append(spec)
    return tuple(found)


def management_ports(running: Iterable[ProcessSpec], first: int = MANAGEMENT_PORT_FIRST) -> Mapping[str, int]:
    """Return the known port of each service's probes and metrics: they count up from *first*."""
    return {management(service): first + place for place, service in enumerate(running)}


def management(service: ProcessSpec) -> str:
    """Return what the port of a service's probes and metrics is called."""
    return f"{service.name} management"


KAFKA_SETTINGS = tuple(each.metadata["env"] for each in declarations(KafkaSettings))

# Files and folders: a process may be started with another working directory.
PATHS = (
    *("TIDEGATE_EVENT_TYPES", "TIDEGATE_LIMITS", "TIDEGATE_RETENTION", "TIDEGATE_OBJECTS", "TIDEGATE_SINKS"),
    "TIDEGATE_ARCHIVE_SPOOL",
    documents.MINILM_JAR,
)


def settings(
    environ: Mapping[str, str],
    *,
    folder: Path,
    kafka: KafkaSettings | None,
    postgres: str | None,
    credentials: Path | None,
    gateway_port: int,
    fanout_port: int,
    management_port: int,
    evaluation: Mapping[str, str],
    model: Path | None = None,
) -> dict[str, str]:
    """
    Return the settings of one service of the stack in *folder*: what *environ* says, else the stack's own.

    What is passed by name has been decided already, by *environ* too; *evaluation* says where webhooks go. A service
    without *kafka* and *credentials* is not given what *environ* says of them either; without *model* nothing embeds.
    """
    # Pages that the gateway serves, under each of its names.
    names = dict.fromkeys([HOST, "localhost", environ.get("TIDEGATE_GATEWAY_HOST") or HOST])
    origins = dict.fromkeys(url(name, gateway_port) for name in names)
    defaults = {
        "TIDEGATE_OBJECTS": str(folder / folders.OBJECTS),
        "TIDEGATE_LIMITS": str(folder / development.LIMITS),
        "TIDEGATE_RETENTION": str(folder / development.RETENTION),
        "TIDEGATE_GATEWAY_HOST": HOST,
        "TIDEGATE_FANOUT_HOST": HOST,
        "TIDEGATE_MANAGEMENT_HOST": HOST,
        "TIDEGATE_FANOUT_ORIGINS": ",".join(origins),
        "TIDEGATE_EVALUATION_INTERNAL": "true",
        "TIDEGATE_SINKS": "",
        "TIDEGATE_SINKS_INTERNAL": "true",
        "TIDEGATE_JWKS_INTERNAL": "true",
        "TIDEGATE_PLAIN_DOOR_TENANT": development.TENANT,
        "TIDEGATE_PROBE_TARGETS": f"gateway={url(HOST, gateway_port)}/openapi.json",
        EXECUTOR_DRAIN: EXECUTOR_DRAIN_S,
        "TIDEGATE_DOCUMENTS_PRESET": "local",
        **({} if model is None else {documents.MINILM_JAR: str(model)}),
        # Who tries the stack under load has one agent.
        "TIDEGATE_LIMIT_RUN_PER_MIN": "0",
        "TIDEGATE_LIMIT_AGENT_PER_MIN": "0",
        "TIDEGATE_LIMIT_USER_PER_MIN": "0",
    }
    chosen = {name: _chosen(name, environ.get(name)) or default for name, default in defaults.items()}
    return ({} if postgres is None else {"TIDEGATE_POSTGRES": postgres}) | {
        **chosen,
        **(dict.fromkeys(KAFKA_SETTINGS, "") if kafka is None else as_environ(kafka)),
        "TIDEGATE_CREDENTIALS": "" if credentials is None else str(credentials),
        "TIDEGATE_GATEWAY_PORT": str(gateway_port),
        "TIDEGATE_FANOUT_PORT": str(fanout_port),
        "TIDEGATE_MANAGEMENT_PORT": str(management_port),
        **evaluation,
    }


def _chosen(name: str, value: str | None) -> str | None:
    if value and name in PATHS and "://" not in value:
        return str(Path(value).expanduser().absolute())
    return value


def url(host: str, port: int, *, scheme: str = "http") -> str:
    """Return where a process on this machine reaches a server that listens on *host*."""
    reached = {"0.0.0.0": HOST, "::": "::1"}.get(host, host)  # noqa: S104  compared, not listened on
    return f"{scheme}://[{reached}]:{port}" if ":" in reached else f"{scheme}://{reached}:{port}"


def program(service: ProcessSpec, settings: dict[str, str]) -> Program:
    """Return how to run *service* with *settings*."""
    management = url(settings["TIDEGATE_MANAGEMENT_HOST"], int(settings["TIDEGATE_MANAGEMENT_PORT"]))
    return Program(
        name=service.name,
        command=module_command(*service.command),
        environment=module_environment() | settings,
        is_ready=lambda: is_ready(management),
        stop_timeout_s=_stop_timeout_s(service, settings),
    )


def _stop_timeout_s(service: ProcessSpec, settings: Mapping[str, str]) -> float:
    if service.name != EXECUTOR:
        return STOP_TIMEOUT_S
    try:
        return float(settings[EXECUTOR_DRAIN]) + EXECUTOR_MARGIN_S
    except ValueError:  # it does not start, and says why
        return STOP_TIMEOUT_S


def engine_program(*, port: int, secret: str) -> Program:
    """Return the example of an evaluation engine, for a stack that has no other."""
    return Program(
        name=ENGINE,
        command=module_command("deploy.examples.engine", "--port", str(port)),
        environment=module_environment() | {"ENGINE_SECRET": secret},
        is_ready=lambda: is_ready(f"http://{HOST}:{port}"),
    )
