"""
What users and other programs see of Tidegate, as text: topics, metrics, settings, the HTTP API, the commands' help.

A file each in `tests/golden/`. Run as a program (`make golden`), this writes them; review the difference before you
commit it, because each line of it is a change that somebody outside meets.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import MISSING
from pathlib import Path
from typing import Any

import typer
from typer.testing import CliRunner

from deploy.cli.app import build
from gateway.app import CHAPTERS
from gateway.config import Settings
from gateway.http.openapi import openapi_document
from processors.archive.config import ArchiveSettings
from processors.documents.intake.config import DocumentsIntakeSettings
from processors.documents.store.config import StoreSettings
from processors.documents.work.config import EmbedSettings
from processors.events.processing.config import ProcessingSettings
from processors.events.rows.config import EventsSettings
from processors.fanout.config import FanoutSettings
from processors.jobs.executor.config import ExecutorSettings
from processors.jobs.intake.config import IntakeSettings
from processors.jobs.tasks.http_probe import ProbeSettings
from processors.runs.evaluation.config import EvaluationSettings
from processors.runs.persistence.config import PersistenceSettings
from processors.runs.retention.config import MaintenanceSettings
from processors.sinks.config import SinkProcessSettings
from schemas.archive.settings import ArchivedTopicsSettings
from schemas.archive.telemetry import OF_ARCHIVE
from schemas.archive.topics import ARCHIVE
from schemas.catalogue import GROUPS, all_topics
from schemas.documents import telemetry as documents
from schemas.events.telemetry import OF_EVENTS
from schemas.jobs.telemetry import OF_EXECUTORS, OF_INTAKE
from schemas.process import telemetry
from schemas.process.settings import declarations
from schemas.runs.telemetry import OF_EVALUATION, OF_MAINTENANCE, OF_PERSISTENCE
from schemas.runs.topics import EVALUATION
from schemas.sinks.telemetry import OF_SINK
from schemas.sinks.topics import SINK

FOLDER = Path(__file__).parent
HELP_COLUMNS = 120
EXAMPLES = (EVALUATION.group("example"), SINK.group("example"), ARCHIVE.group("user.events"))
SETTINGS: tuple[tuple[str, type[Any]], ...] = (
    ("gateway", Settings),
    ("persistence", PersistenceSettings),
    ("events", EventsSettings),
    ("processing", ProcessingSettings),
    ("fanout", FanoutSettings),
    ("evaluation", EvaluationSettings),
    ("sink", SinkProcessSettings),
    ("maintenance", MaintenanceSettings),
    ("jobs-intake", IntakeSettings),
    ("executor", ExecutorSettings),
    ("executor", ProbeSettings),
    ("documents-intake", DocumentsIntakeSettings),
    ("documents-embed", EmbedSettings),
    ("documents-store", StoreSettings),
    ("archive", ArchiveSettings),
    ("topics", ArchivedTopicsSettings),
)
METRICS = {
    "gateway": (*telemetry.OF_GATEWAY, *documents.OF_SEARCH),
    "persistence": OF_PERSISTENCE,
    "events": OF_EVENTS,
    "processing": telemetry.OF_PROCESSORS,
    "fanout": telemetry.OF_FANOUT,
    "evaluation": OF_EVALUATION,
    "sink": OF_SINK,
    "maintenance": OF_MAINTENANCE,
    "jobs-intake": OF_INTAKE,
    "executor": OF_EXECUTORS,
    "documents-intake": documents.OF_INTAKE,
    "documents-embed": documents.OF_EMBED,
    "documents-store": documents.OF_STORE,
    "archive": OF_ARCHIVE,
}


def surface() -> Mapping[str, str]:
    """Return the content of each golden file by its name."""
    return {
        "openapi.json": openapi(),
        "topics.txt": topics(),
        "groups.txt": groups(),
        "metrics.txt": metrics(),
        "settings.md": settings_table(),
        "help.txt": help_of_commands(),
    }


def openapi() -> str:
    """Return the description of the HTTP API."""
    return json.dumps(json.loads(openapi_document(CHAPTERS, version="golden")), indent=1, sort_keys=True) + "\n"


def topics() -> str:
    """Return a line for each topic, with an endpoint, a sink and an archive among the groups."""
    lines = []
    for topic in all_topics((*GROUPS, *EXAMPLES)):
        records = ",".join(record.cls.__name__ for record in topic.records)
        partitions = "setting" if topic.partitions is None else topic.partitions
        config = " ".join(f"{name}={value}" for name, value in topic.broker_config().items())
        lines.append(f"{topic.name}: key={topic.key!r} records={records} partitions={partitions} {config}")
    return _text(lines)


def groups() -> str:
    """Return a line for each consumer group and for a replay of each."""
    lines = []
    for group in (*GROUPS, *EXAMPLES):
        sources = ",".join(topic.name for topic in group.sources)
        tiers = ",".join(f"{tier.topic.name}={tier.delay_s}s" for tier in group.tiers)
        lines.append(f"{group.id}: name={group.name} start={group.start} sources={sources} tiers={tiers}")
    return _text(lines)


def metrics() -> str:
    """Return a line for each metric of each process."""
    return _text(
        f"{process} {metric.name}: {metric.kind.name.lower()} labels={','.join(metric.labels)} help={metric.help!r}"
        + (f" buckets={','.join(map(str, metric.buckets))}" if metric.kind is telemetry.Kind.HISTOGRAM else "")
        for process, declared in METRICS.items()
        for metric in declared
    )


def settings_table() -> str:
    """Return the reference table of settings, which the documentation carries."""
    rows: dict[tuple[str, str, str], list[str]] = {}
    for process, section in SETTINGS:
        for each in declarations(section):
            known = each.metadata
            default = {MISSING: "required", None: "none", "": "none"}.get(each.default, f"`{each.default}`")
            rows.setdefault((known["env"], default, known["help"]), []).append(process)
    return _text(
        f"| `{env}` | {default} | {text} ({', '.join(of)}) |" for (env, default, text), of in sorted(rows.items())
    )


def help_of_commands() -> str:
    """Return the help of `tidegate` and of each command in it."""
    command = typer.main.get_command(build())
    run = CliRunner(env={"COLUMNS": str(HELP_COLUMNS), "TERM": "dumb", "NO_COLOR": "1"})
    texts = []
    for path in _paths(command, ()):
        shown = run.invoke(build(), [*path, "--help"], prog_name="tidegate", catch_exceptions=False)
        assert shown.exit_code == 0, shown.output
        lines = [line.rstrip() for line in shown.output.strip().split("\n")]
        texts.append(_text([f"$ {' '.join(('tidegate', *path))} --help", "", *lines, ""]))
    return "".join(texts)


def _paths(command: Any, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    yield path
    for name, inner in getattr(command, "commands", {}).items():
        yield from _paths(inner, (*path, name))


def _text(lines: Iterable[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


def main() -> None:
    """Write every golden file."""
    for name, text in surface().items():
        (FOLDER / name).write_text(text)


if __name__ == "__main__":
    main()
