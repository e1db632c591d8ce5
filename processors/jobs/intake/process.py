"""The jobs-intake process: how it is put together."""

import argparse
from collections.abc import Mapping, Sequence
from functools import partial
from time import time

import structlog

from processors.jobs.intake.config import IntakeSettings
from processors.jobs.intake.measures import Measures
from processors.jobs.intake.operations import Operations
from processors.jobs.intake.outbox import TAKE_CHANGES, TAKE_REPORTS, change_record, report_record
from processors.jobs.intake.schedules import Scheduler
from processors.jobs.intake.store import CommandStore
from processors.postgres.relay import Relay
from processors.postgres.writes import PostgresWrites
from processors.runtime.beside import Loop, running
from processors.runtime.cluster import PartitionCount, check_connection, topic_id
from processors.runtime.contract import Arrival, Settled
from processors.runtime.dead_letters import LogWriter, NoDeadLetters
from processors.runtime.group import run_group
from processors.runtime.limit import NO_LIMIT, limit_in_force
from processors.runtime.placement import Placement
from processors.runtime.process import Process
from processors.runtime.reading import trusting_reader
from processors.runtime.replaying import add_replay_option, replay_of
from processors.runtime.sealing import sealed_record
from schemas.access.credentials import CredentialsFile, FileCredentials
from schemas.jobs.builtin import BUILTIN_TYPES
from schemas.jobs.codec import COMMAND_CODEC
from schemas.jobs.records import Command, SubmitJob, key_of, record_id
from schemas.jobs.telemetry import JOB_CHANGES_PUBLISHED, OF_INTAKE, SCHEDULES_FIRED
from schemas.jobs.topics import INTAKE, JOB_COMMANDS, JOB_EVENTS, JOB_REPORTS
from schemas.jobs.types import load_types
from schemas.jobs.validity import check_direct
from schemas.process import settings, telemetry

APPLICATION = "tidegate-jobs-intake"
CONNECTIONS_MAX = 8
CHANGES_PAUSE_S = 0.1
REPORTS_PAUSE_S = 0.25
SCHEDULES_PAUSE_S = 1.0
OPERATIONS_PAUSE_S = 0.5
MEASURES_PAUSE_S = 5.0

log = structlog.get_logger()


async def run(environ: Mapping[str, str], options: argparse.Namespace) -> int:
    """Run the group jobs.intake with what stands beside it, or a replay of the group; return the exit code."""
    config, replay = settings.load(IntakeSettings, environ), replay_of(options)
    types = load_types(config.types, builtin=BUILTIN_TYPES)
    log.info("starting", processor="jobs-intake", replay=replay and replay.id, **settings.effective(config))
    await check_connection(config.kafka)
    group = INTAKE if replay is None else INTAKE.replaying(replay.id)
    # A writer of their own: a flush waits for all that its producer has in flight.
    writer, changes, reports, submissions = (
        LogWriter(config.kafka, client_id=f"{group.id}{part}") for part in ("", ".events", ".reports", ".schedules")
    )
    instruments = telemetry.Telemetry(OF_INTAKE)
    credentials = FileCredentials(CredentialsFile(config.credentials.path))
    placement = Placement(
        PartitionCount(config.kafka, group.source.name),
        instruments[telemetry.WRONG_PARTITION].labels(group.source.name, group.name),
    )
    async with PostgresWrites(config.postgres, connections_max=CONNECTIONS_MAX, application=APPLICATION) as writes:
        store = CommandStore(writes, replays=replay is not None)

        async def apply(arrivals: Sequence[Arrival[Command]]) -> Settled[Command]:
            await placement.check(arrivals)
            return Settled(await store.apply(arrivals))

        async def submit(jobs: Sequence[SubmitJob]) -> None:
            await submissions.write(
                JOB_COMMANDS,
                [
                    sealed_record(
                        JOB_COMMANDS,
                        record_id=record_id(job),
                        key=key_of(job),
                        tenant=job.tenant,
                        value=COMMAND_CODEC.encode(job),
                        by=credentials,
                    )
                    for job in jobs
                ],
            )

        await writes.check_version()
        await writes.check_log(group.source.name, await topic_id(config.kafka, group.source.name))
        published = instruments[JOB_CHANGES_PUBLISHED].inc
        relay = Relay(
            writes,
            changes,
            topic=JOB_EVENTS,
            take=TAKE_CHANGES,
            record_of=partial(change_record, credentials=credentials),
            published=published,
        )
        report_relay = Relay(
            writes,
            reports,
            topic=JOB_REPORTS,
            take=TAKE_REPORTS,
            record_of=partial(report_record, credentials=credentials),
            published=lambda _count: None,
        )
        scheduler = Scheduler(writes, types, submit, fired=instruments[SCHEDULES_FIRED].inc)
        loops = (
            Loop(name="changes to jobs.events", work=relay.go_on, pause_s=CHANGES_PAUSE_S),
            Loop(name="reports to jobs.reports", work=report_relay.go_on, pause_s=REPORTS_PAUSE_S),
            Loop(name="schedules", work=scheduler.fire, pause_s=SCHEDULES_PAUSE_S),
            Loop(name="operations", work=Operations(writes).go_on, pause_s=OPERATIONS_PAUSE_S),
            Loop(name="measures", work=Measures(writes, instruments).measure, pause_s=MEASURES_PAUSE_S),
        )
        async with running(loops if replay is None else ()):
            code = await run_group(
                group,
                apply,
                kafka=config.kafka,
                management=config.management,
                read=trusting_reader(check_direct, codec=COMMAND_CODEC, credentials=credentials),
                dead_letters=writer if replay is None else NoDeadLetters(),
                limit=limit_in_force(config.limits, group) if replay is None else lambda: NO_LIMIT,
                instruments=instruments,
                clock_s=time,
                replay=replay,
            )
    for each in (writer, changes, reports, submissions):
        await each.close()
    return code


PROCESS = Process(run=run, add_options=add_replay_option)
