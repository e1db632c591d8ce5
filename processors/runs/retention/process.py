"""The maintenance process: how it is put together."""

import argparse
import sys
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import partial

import msgspec
import structlog

from processors.runs.retention.abandonment import Abandonment
from processors.runs.retention.config import MaintenanceSettings
from processors.runs.retention.log import KafkaProgress
from processors.runs.retention.objects import ObstoreObjects
from processors.runs.retention.policy import watched_retention
from processors.runs.retention.report import Removed, Report
from processors.runs.retention.retention import RetentionPass
from processors.runs.retention.store import RetentionStore
from processors.runtime.health import Health
from processors.runtime.periodic import PeriodicTask, PeriodicTasks
from processors.runtime.process import Process
from schemas.process import settings, telemetry
from schemas.process.postgres import check_dsn
from schemas.process.settings import SettingsInvalid
from schemas.runs.telemetry import (
    OF_MAINTENANCE,
    RETENTION_HELD_RUNS,
    RETENTION_REMOVED,
    RETENTION_REMOVED_BYTES,
    RUNS_ABANDONED,
)
from schemas.runs.topics import PERSISTENCE

log = structlog.get_logger()


async def run(environ: Mapping[str, str], options: argparse.Namespace) -> int:
    """Run maintenance until it is stopped, or once; return its exit code."""
    config = settings.load(MaintenanceSettings, environ)
    if options.dry_run and not options.once:
        raise SettingsInvalid("--dry-run goes with --once")
    if options.once:
        report = await retain_once(config, dry_run=options.dry_run)
        sys.stdout.write(msgspec.json.encode(report).decode() + "\n")
        sys.stdout.flush()
        return 0
    log.info("starting", processor="maintenance", **settings.effective(config))
    check_dsn(config.postgres)
    retention, idle = watched_retention(config.retention), timedelta(seconds=config.run_idle_s)
    opened = partial(RetentionStore.opened, config.postgres)
    async with opened():
        pass  # the tables are those that this code knows
    health, instruments = Health(), telemetry.Telemetry(OF_MAINTENANCE)

    def removed(what: str, number: int) -> None:
        if what == "bytes":
            instruments[RETENTION_REMOVED_BYTES].inc(number)
        else:
            instruments[RETENTION_REMOVED].labels(what).inc(number)

    removal = _retention_pass(config, removed)
    progress = KafkaProgress(config.kafka, [PERSISTENCE])
    abandonment = Abandonment(opened, progress=progress, clock=_now, idle=idle)

    async def retain() -> None:
        report = await removal.run(retention(), dry_run=False)
        instruments[RETENTION_HELD_RUNS].set(report.held_runs)

    async def abandon() -> None:
        instruments[RUNS_ABANDONED].inc(await abandonment.run())

    tasks = [PeriodicTask(name="retention", period_s=config.period_s, work=retain)]
    if idle:
        tasks.append(PeriodicTask(name="abandonment", period_s=min(60.0, config.run_idle_s / 2), work=abandon))
    return await PeriodicTasks(tasks, health=health, instruments=instruments).run(config.management)


async def retain_once(config: MaintenanceSettings, *, dry_run: bool) -> Report:
    """Carry out one pass of retention, or only count it."""
    check_dsn(config.postgres)
    retention = watched_retention(config.retention)
    return await _retention_pass(config, lambda _what, _number: None).run(retention(), dry_run=dry_run)


def _retention_pass(config: MaintenanceSettings, removed: Removed) -> RetentionPass:
    return RetentionPass(
        partial(RetentionStore.opened, config.postgres),
        progress=KafkaProgress(config.kafka),
        objects=ObstoreObjects(config.objects.location),
        clock=_now,
        removed=removed,
    )


def _now() -> datetime:
    return datetime.now(UTC)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the option to carry out one pass only."""
    parser.add_argument("--once", action="store_true", help="one pass of retention; its report on standard output")
    parser.add_argument("--dry-run", action="store_true", help="with --once: remove nothing, only count")


PROCESS = Process(run=run, add_options=add_options)
