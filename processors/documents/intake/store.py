"""
Commands as changes of rows, one partition slice a transaction.

Each command leaves a row with its outcome under its place in the log: one that comes again changes nothing, but the
work that it stands for is given out once more, since a crash may have come between the rows and the lanes.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from uuid import UUID

from psycopg import AsyncCursor, errors

from processors.documents.counts import JobCounts
from processors.documents.intake.changes import change
from processors.documents.intake.collections import lock_collections
from processors.documents.intake.deletions import delete, delete_collection
from processors.documents.intake.puts import Put, put
from processors.documents.intake.reembedding import start_build
from processors.documents.intake.texts import GivenText
from processors.documents.moves import JobError, work_of
from processors.documents.versions import CHUNKER
from processors.postgres.rejections import rejection_columns
from processors.postgres.writes import PostgresWrites, Transaction
from processors.runtime.contract import Arrival, Outcome, Tally
from processors.runtime.errors import LogRewritten, Transient
from processors.runtime.failpoints import Failpoint, reach
from schemas.documents.records import (
    ChangeDocumentJob,
    Command,
    DeleteCollection,
    DeleteDocument,
    DocumentWork,
    PutDocument,
    ReembedCollection,
    record_id,
)
from schemas.documents.states import Phase
from schemas.errors import Poison, Reason, Rejection
from schemas.kafka.places import RecordPlace

KNOWN = """
    SELECT kafka_partition, kafka_offset, command_id
    FROM document_commands
    JOIN unnest(%(partitions)s::integer[], %(offsets)s::bigint[]) AS arrived (kafka_partition, kafka_offset)
        USING (kafka_partition, kafka_offset)
  UNION ALL
    SELECT kafka_partition, kafka_offset, NULL
    FROM document_rejections
    JOIN unnest(%(partitions)s::integer[], %(offsets)s::bigint[]) AS arrived (kafka_partition, kafka_offset)
        USING (kafka_partition, kafka_offset)
"""
FORGET_REJECTIONS = """
    DELETE FROM document_rejections
    USING unnest(%(partitions)s::integer[], %(offsets)s::bigint[]) AS arrived (kafka_partition, kafka_offset)
    WHERE document_rejections.kafka_partition = arrived.kafka_partition
        AND document_rejections.kafka_offset = arrived.kafka_offset
"""
STORED_JOB = "SELECT tenant_id, kind, content_sha256 FROM document_jobs WHERE job_id = %s"
UNBEGUN = """
    SELECT job_id::text, tenant_id, collection, document, revision, generation, lane, cost, embedders
    FROM document_jobs WHERE job_id = ANY(%s) AND ended_at IS NULL AND begun_at IS NULL
"""
# A change that a client sent again has the same id at another place.
IS_REPEATED = """
    SELECT EXISTS (
        SELECT FROM document_commands
        WHERE command_id = %s AND kind NOT IN ('put', 'delete') AND outcome <> 'duplicate'
    )
"""
INSERT_COMMAND = """
    INSERT INTO document_commands
        (kafka_partition, kafka_offset, tenant_id, command_id, job_id, kind, outcome, detail)
    VALUES (%s, %s, %s, %s, %s, %s, %s, %s)
"""
INSERT_REJECTION = """
    INSERT INTO document_rejections
        (kafka_partition, kafka_offset, tenant_id, target, reason, detail, key, value, received_at)
    VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)
    ON CONFLICT (kafka_partition, kafka_offset) DO NOTHING
"""

STORED, DUPLICATE, REFUSED = "stored", "duplicate", "refused"


class _Applied(NamedTuple):
    """The outcome of one command."""

    outcome: str
    detail: str | None = None
    work: DocumentWork | None = None
    error: JobError | None = None  # why its job failed, if it has


class Applied(NamedTuple):
    """The outcomes of a slice, the work that it brings, and the ends of jobs."""

    tally: Tally
    work: Sequence[DocumentWork]
    ended: Mapping[Phase, int]  # how many jobs came to each end
    errors: Sequence[JobError]  # of those that failed


class DocumentCommandStore:
    """The tables of documents, as commands change them."""

    def __init__(
        self, writes: PostgresWrites, *, embedder_name: str, chunker: str = CHUNKER, replays: bool = False
    ) -> None:
        """
        Write by the connections of *writes*; new collections have the embedder of that name.

        *chunker* is the id of what cuts texts. A store that *replays* applies what was rejected and is valid now.
        """
        self._writes = writes
        self._embedder_name = embedder_name
        self._chunker = chunker
        self._replays = replays

    async def apply(self, arrivals: Sequence[Arrival[Command]], texts: Mapping[RecordPlace, GivenText]) -> Applied:
        """
        Apply a slice in one transaction, in log order.

        Raises:
            Transient, Poison: see `Handler`.
            LogRewritten: another command was applied from one of these places.
        """
        try:
            return await self._apply_slice(arrivals, texts)
        except errors.UniqueViolation as error:
            # Of a job that came in two partitions at once, or of a slice that has two owners for a moment.
            raise Transient("another worker writes the same rows") from error

    async def _apply_slice(
        self, arrivals: Sequence[Arrival[Command]], texts: Mapping[RecordPlace, GivenText]
    ) -> Applied:
        tally, work, errors, counts = Tally(), list[DocumentWork](), list[JobError](), JobCounts()
        reach(Failpoint.BEFORE_TX)
        async with self._writes.transaction() as transaction, transaction.connection.cursor() as cursor:
            known = await self._known(cursor, arrivals)
            await self._lock_collections(cursor, arrivals, known)
            again: list[UUID] = []
            for arrival in arrivals:
                transaction.goes_on()
                if _is_known(arrival, known):
                    tally[Outcome.REDELIVERY, None] += 1
                    if (job_id := job_of(arrival.record)) is not None:
                        again.append(UUID(job_id))
                    continue
                found = arrival.rejection or await self._apply(cursor, counts, arrival, texts, transaction)
                if isinstance(found, Rejection):
                    await _reject(cursor, arrival, found)
                    tally[Outcome.REJECTED, found.reason] += 1
                    continue
                await _note(cursor, arrival, found)
                tally[Outcome.DUPLICATE if found.outcome == DUPLICATE else Outcome.DONE, None] += 1
                work += [] if found.work is None else [found.work]
                errors += [] if found.error is None else [found.error]
            if again:
                await cursor.execute(UNBEGUN, [again])
                work += [work_of(row) for row in await cursor.fetchall()]
            await counts.write(cursor)
            reach(Failpoint.BEFORE_COMMIT)
        return Applied(tally, work, counts.ended, errors)

    async def _lock_collections(
        self,
        cursor: AsyncCursor[Any],
        arrivals: Sequence[Arrival[Command]],
        known: Mapping[tuple[int, int], str | None],
    ) -> None:
        new = (
            arrival.record
            for arrival in arrivals
            if arrival.rejection is None and (arrival.raw.partition, arrival.raw.offset) not in known
        )
        await lock_collections(cursor, new, embedder_name=self._embedder_name)

    async def _known(
        self, cursor: AsyncCursor[Any], arrivals: Sequence[Arrival[Command]]
    ) -> dict[tuple[int, int], str | None]:
        """Return the ids of commands that were applied from the places of *arrivals*; None where one was rejected."""
        places = {
            "partitions": [arrival.raw.partition for arrival in arrivals],
            "offsets": [arrival.raw.offset for arrival in arrivals],
        }
        if self._replays:
            await cursor.execute(FORGET_REJECTIONS, places)
        await cursor.execute(KNOWN, places)
        return {(row[0], row[1]): row[2] for row in await cursor.fetchall()}

    async def _apply(
        self,
        cursor: AsyncCursor[Any],
        counts: JobCounts,
        arrival: Arrival[Any],
        texts: Mapping[RecordPlace, GivenText],
        transaction: Transaction,
    ) -> _Applied | Rejection:
        command = arrival.record
        if isinstance(command, PutDocument | DeleteDocument):
            if (found := await _repeated_job(cursor, command)) is not None:
                return found
            return await self._apply_to_document(cursor, counts, arrival, texts)
        await cursor.execute(IS_REPEATED, [record_id(command)])
        if (row := await cursor.fetchone()) is not None and row[0]:
            return _Applied(DUPLICATE, "applied before")
        match command:
            case ChangeDocumentJob():
                changed = await change(cursor, counts, command)
                outcome = STORED if changed.refusal is None else REFUSED
                return _Applied(outcome, changed.refusal, changed.work)
            case DeleteCollection():
                count = await delete_collection(cursor, counts, arrival, goes_on=transaction.goes_on)
                return _Applied(STORED, f"{count} documents")
            case _:
                refusal = await start_build(cursor, command)
                return _Applied(STORED if refusal is None else REFUSED, refusal)

    async def _apply_to_document(
        self,
        cursor: AsyncCursor[Any],
        counts: JobCounts,
        arrival: Arrival[Any],
        texts: Mapping[RecordPlace, GivenText],
    ) -> _Applied | Rejection:
        if isinstance(arrival.record, DeleteDocument):
            error = await delete(cursor, counts, arrival)
            return error if isinstance(error, Rejection) else _Applied(STORED, error=error)
        given = texts[arrival.raw.place]
        outcome: Put | Rejection = await put(cursor, counts, arrival, given, chunker=self._chunker)
        if isinstance(outcome, Rejection):
            return outcome
        return _Applied(STORED, outcome.detail, outcome.work, outcome.error)


def _is_known(arrival: Arrival[Command], known: Mapping[tuple[int, int], str | None]) -> bool:
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


async def _repeated_job(cursor: AsyncCursor[Any], command: PutDocument | DeleteDocument) -> _Applied | Rejection | None:
    """Return the outcome of a command whose job is stored; None if it is new."""
    await cursor.execute(STORED_JOB, [UUID(command.job_id)])
    row = await cursor.fetchone()
    if row is None:
        return None
    digest = command.content_sha256 if isinstance(command, PutDocument) else None
    kind = kind_of(command)
    if (row[0], row[1], row[2]) == (command.tenant, kind, digest):
        return _Applied(DUPLICATE, "the job was submitted before")
    return Rejection(reason=Reason.CONFLICT, detail=f"{command.job_id} is the id of a job of other content")


async def _note(cursor: AsyncCursor[Any], arrival: Arrival[Command], applied: _Applied) -> None:
    command, raw = arrival.record, arrival.raw
    job_id = job_of(command)
    await cursor.execute(
        INSERT_COMMAND,
        (
            raw.partition,
            raw.offset,
            command.tenant,
            record_id(command),
            None if job_id is None else UUID(job_id),
            kind_of(command),
            applied.outcome,
            applied.detail,
        ),
    )


async def _reject(cursor: AsyncCursor[Any], arrival: Arrival[Command], rejection: Rejection) -> None:
    raw, command = arrival.raw, arrival.record
    await cursor.execute(
        INSERT_REJECTION,
        (raw.partition, raw.offset, command.tenant, target_of(command), *rejection_columns(arrival, rejection)),
    )


def job_of(command: Command) -> str | None:
    """Return the job that a command is about; None if it is about a whole collection."""
    return command.job_id if isinstance(command, PutDocument | DeleteDocument | ChangeDocumentJob) else None


def target_of(command: Command) -> str:
    """Return what a command is about: a document, as collection/document, or a collection."""
    if isinstance(command, DeleteCollection | ReembedCollection):
        return command.collection
    return f"{command.collection}/{command.document}"


def kind_of(command: Command) -> str:
    """Return the kind of a command, as its row has it."""
    match command:
        case PutDocument():
            return "put"
        case DeleteDocument():
            return "delete"
        case ChangeDocumentJob():
            return command.action
        case DeleteCollection():
            return "delete_collection"
        case ReembedCollection():
            return "reembed"
