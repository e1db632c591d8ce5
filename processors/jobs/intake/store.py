"""
Commands as changes of rows, one partition slice a transaction.

Each command leaves a row with its outcome under its place in the log: one that comes again changes nothing.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import groupby
from typing import Any, NamedTuple
from uuid import UUID

from psycopg import AsyncCursor

from processors.jobs.intake import operations, queues, schedules
from processors.jobs.intake.submissions import StoredJob, insert_jobs, stored_jobs
from processors.jobs.moves import Verdict, change_job
from processors.postgres.rejections import rejection_columns
from processors.postgres.writes import PostgresWrites
from processors.runtime.contract import Arrival, Outcome, Tally
from processors.runtime.errors import LogRewritten
from processors.runtime.failpoints import Failpoint, reach
from schemas.errors import Poison, Reason, Rejection
from schemas.jobs.records import (
    ChangeJob,
    ChangeQueue,
    ChangeSchedule,
    Command,
    StartOperation,
    SubmitJob,
    record_id,
)

KNOWN = """
    SELECT kafka_partition, kafka_offset, command_id
    FROM job_commands
    JOIN unnest(%(partitions)s::integer[], %(offsets)s::bigint[]) AS arrived (kafka_partition, kafka_offset)
        USING (kafka_partition, kafka_offset)
  UNION ALL
    SELECT kafka_partition, kafka_offset, NULL
    FROM job_rejections
    JOIN unnest(%(partitions)s::integer[], %(offsets)s::bigint[]) AS arrived (kafka_partition, kafka_offset)
        USING (kafka_partition, kafka_offset)
"""
FORGET_REJECTIONS = """
    DELETE FROM job_rejections
    USING unnest(%(partitions)s::integer[], %(offsets)s::bigint[]) AS arrived (kafka_partition, kafka_offset)
    WHERE job_rejections.kafka_partition = arrived.kafka_partition
        AND job_rejections.kafka_offset = arrived.kafka_offset
"""
# A change that a client sent again has the same id at another place.
IS_REPEATED = """
    SELECT EXISTS (SELECT FROM job_commands WHERE command_id = %s AND kind <> 'submit' AND outcome <> 'duplicate')
"""
INSERT_COMMANDS = """
    INSERT INTO job_commands (kafka_partition, kafka_offset, tenant_id, command_id, target, kind, outcome, detail)
    SELECT * FROM unnest(%(partitions)s::integer[], %(offsets)s::bigint[], %(tenants)s::text[], %(ids)s::text[],
        %(targets)s::text[], %(kinds)s::text[], %(outcomes)s::text[], %(details)s::text[])
"""
INSERT_REJECTION = """
    INSERT INTO job_rejections
        (kafka_partition, kafka_offset, tenant_id, target, reason, detail, key, value, received_at)
    VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)
    ON CONFLICT (kafka_partition, kafka_offset) DO NOTHING
"""

STORED, DUPLICATE, REFUSED = "stored", "duplicate", "refused"

Place = tuple[int, int]  # partition, offset


class _Applied(NamedTuple):
    """The outcome of one command."""

    arrival: Arrival[Command]
    outcome: str
    detail: str | None = None


class CommandStore:
    """The tables of jobs, as commands change them."""

    def __init__(self, writes: PostgresWrites, *, replays: bool = False) -> None:
        """Write by the connections of *writes*; a store that *replays* applies what was rejected and is valid now."""
        self._writes = writes
        self._replays = replays

    async def apply(self, arrivals: Sequence[Arrival[Command]]) -> Tally:
        """
        Apply a slice in one transaction, in log order.

        Raises:
            Transient, Poison: see `Handler`.
            LogRewritten: another command was applied from one of these places.
        """
        tally = Tally()
        reach(Failpoint.BEFORE_TX)
        async with self._writes.transaction() as (connection, goes_on), connection.cursor() as cursor:
            known = await self._known(cursor, arrivals)
            new: list[Arrival[Command]] = []
            for arrival in arrivals:
                if _is_known(arrival, known):
                    tally[Outcome.REDELIVERY, None] += 1
                elif arrival.rejection is not None:
                    await _reject(cursor, arrival, arrival.rejection, tally)
                else:
                    new.append(arrival)
            # Commands for one job keep their order: changes are applied between the submissions around them.
            for is_submission, some in groupby(new, key=lambda each: isinstance(each.record, SubmitJob)):
                if is_submission:
                    goes_on()
                    await _note(cursor, await _submit(cursor, list(some), tally), tally)
                    continue
                for arrival in some:
                    goes_on()
                    await _note(cursor, [await _change(cursor, arrival)], tally)
            reach(Failpoint.BEFORE_COMMIT)
        return tally

    async def _known(self, cursor: AsyncCursor[Any], arrivals: Sequence[Arrival[Command]]) -> dict[Place, str | None]:
        """Return the ids of commands that were applied from the places of *arrivals*; None where one was rejected."""
        places = {
            "partitions": [arrival.raw.partition for arrival in arrivals],
            "offsets": [arrival.raw.offset for arrival in arrivals],
        }
        if self._replays:
            await cursor.execute(FORGET_REJECTIONS, places)
        await cursor.execute(KNOWN, places)
        return {(row[0], row[1]): row[2] for row in await cursor.fetchall()}


def _is_known(arrival: Arrival[Command], known: dict[Place, str | None]) -> bool:
    place = arrival.raw.partition, arrival.raw.offset
    if place not in known:
        return False
    stored = known[place]
    if stored is not None and stored != record_id(arrival.record):
        found = f"{arrival.raw.place.wal_id} was applied as another command than the one that it holds now"
        if arrival.raw.attempt:  # whoever sent it back says where it is from
            raise Poison(Reason.NOT_STORABLE, found)
        raise LogRewritten(arrival.raw.offset, found)
    return True


async def _submit(cursor: AsyncCursor[Any], arrivals: Sequence[Arrival[Any]], tally: Tally) -> Sequence[_Applied]:
    known = await stored_jobs(cursor, [arrival.record.job_id for arrival in arrivals])
    new: dict[str, Arrival[Any]] = {}
    applied: list[_Applied] = []
    for arrival in arrivals:
        command = arrival.record
        this = StoredJob(command.tenant, command.content_sha256)
        first = known.setdefault(command.job_id, this)
        if first is this:
            new[command.job_id] = arrival
        elif first == this:
            applied.append(_Applied(arrival, DUPLICATE, "the job was submitted before"))
        else:
            detail = f"{command.job_id} is the id of a job of other content"
            await _reject(cursor, arrival, Rejection(reason=Reason.CONFLICT, detail=detail), tally)
    aliases = await insert_jobs(cursor, list(new.values())) if new else {}
    for job_id, arrival in new.items():
        owner = aliases.get(job_id)
        applied.append(_Applied(arrival, STORED, None if owner is None else f"an alias of job {owner}"))
    return applied


async def _change(cursor: AsyncCursor[Any], arrival: Arrival[Command]) -> _Applied:
    command = arrival.record
    await cursor.execute(IS_REPEATED, [record_id(command)])
    row = await cursor.fetchone()
    if row is not None and row[0]:
        return _Applied(arrival, DUPLICATE, "applied before")
    match command:
        case ChangeJob():
            verdict = await change_job(
                cursor,
                command.action,
                UUID(command.job_id),
                tenant=command.tenant,
                by=command.by,
                priority=command.priority,
            )
        case ChangeQueue():
            verdict = await queues.change(cursor, command)
        case ChangeSchedule():
            verdict = await schedules.change(cursor, command, now=datetime.now(UTC))
        case StartOperation():
            verdict = await operations.start(cursor, command)
        case SubmitJob():
            verdict = Verdict(is_done=False)  # never: those are applied together
    return _Applied(arrival, STORED if verdict.is_done else REFUSED, verdict.detail)


async def _note(cursor: AsyncCursor[Any], applied: Sequence[_Applied], tally: Tally) -> None:
    commands = [each.arrival.record for each in applied]
    await cursor.execute(
        INSERT_COMMANDS,
        {
            "partitions": [each.arrival.raw.partition for each in applied],
            "offsets": [each.arrival.raw.offset for each in applied],
            "tenants": [command.tenant for command in commands],
            "ids": [record_id(command) for command in commands],
            "targets": [target_of(command) for command in commands],
            "kinds": [kind_of(command) for command in commands],
            "outcomes": [each.outcome for each in applied],
            "details": [each.detail for each in applied],
        },
    )
    for each in applied:
        tally[Outcome.DUPLICATE if each.outcome == DUPLICATE else Outcome.DONE, None] += 1


async def _reject(cursor: AsyncCursor[Any], arrival: Arrival[Command], rejection: Rejection, tally: Tally) -> None:
    raw, command = arrival.raw, arrival.record
    await cursor.execute(
        INSERT_REJECTION,
        (raw.partition, raw.offset, command.tenant, target_of(command), *rejection_columns(arrival, rejection)),
    )
    tally[Outcome.REJECTED, rejection.reason] += 1


def target_of(command: Command) -> str:
    """Return what a command is about: the job, queue, schedule or operation."""
    match command:
        case SubmitJob() | ChangeJob():
            return command.job_id
        case ChangeQueue():
            return command.queue
        case ChangeSchedule():
            return command.schedule_id
        case StartOperation():
            return command.operation_id


def kind_of(command: Command) -> str:
    """Return the kind of a command, as its row has it."""
    match command:
        case SubmitJob():
            return "submit"
        case ChangeJob():
            return command.action
        case ChangeQueue():
            return "queue"
        case ChangeSchedule():
            return "schedule"
        case StartOperation():
            return "operation"
