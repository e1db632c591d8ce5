"""
Documents for tests: the three groups on a real Postgres, and a log of Python lists between them.

Each group is driven a slice at a time, so that a test decides what comes in which order, twice, or never.
"""

from collections.abc import Sequence
from contextlib import AsyncExitStack
from itertools import count
from typing import Any, Self
from uuid import uuid4

import psycopg
from psycopg.rows import dict_row

from deploy.admin.stored_topics import STORED_TOPICS
from processors.documents.intake.reembedding import Reembedding
from processors.documents.intake.store import DocumentCommandStore
from processors.documents.intake.texts import given_texts
from processors.documents.lanes import WorkWriter
from processors.documents.parsing.processes import Parsers
from processors.documents.store.handing_on import HandingOn
from processors.documents.store.versions import StoredVersion, VersionStore
from processors.documents.versions import CHUNKER
from processors.documents.work.cutting import ChunkWorker
from processors.documents.work.downstream import Downstream
from processors.documents.work.embedding import ChunkEmbedder, Counters
from processors.documents.work.files import Files
from processors.documents.work.handler import Stages, WorkHandler
from processors.documents.work.journal import Journal
from processors.documents.work.known import KnownEmbedders
from processors.documents.work.turns import FairTurns
from processors.documents.work.vectors import VectorCache
from processors.postgres.writes import PostgresWrites
from processors.runtime.batch import RawRecord
from processors.runtime.contract import Arrival, Settled
from processors.runtime.errors import RecordRefused, Transient
from schemas.documents.codec import COMMAND_CODEC, EMBEDDED_CODEC, WORK_CODEC
from schemas.documents.embedding.contract import Embedder
from schemas.documents.embedding.loading import Embedders
from schemas.documents.records import (
    Command,
    DeleteDocument,
    DocumentEmbedded,
    DocumentWork,
    PutDocument,
    Source,
    content_sha256,
    key_of,
)
from schemas.documents.topics import DOCUMENT_COMMANDS, INTAKE
from schemas.documents.workers import WorkerThread
from schemas.errors import Rejection
from schemas.kafka.topics import RECORD_BYTES_MAX
from schemas.objects.references import Kept, PayloadProblem, PayloadRef
from tests.support.builders import credentials

TENANT = "demo"
BOOK = "book"
AT_MS = 1_764_928_800_000


def put(document: str = "1", text: str | None = "a text", **changes: Any) -> PutDocument:
    """Return a Put."""
    fields: dict[str, Any] = {
        "tenant": TENANT,
        "collection": BOOK,
        "document": document,
        "job_id": str(uuid4()),
        "text": text,
        "priority": 5,
        "max_retries": 3,
    } | changes
    source: Source | None = fields.get("source")
    asked = {name: value for name, value in fields.items() if name not in ("tenant", "job_id", "source")}
    asked["source"] = None if source is None else source.content_type
    return PutDocument(**fields, content_sha256=content_sha256(asked))


def deletion(document: str = "1", **changes: Any) -> DeleteDocument:
    """Return a Delete."""
    fields: dict[str, Any] = {"tenant": TENANT, "collection": BOOK, "document": document, "job_id": str(uuid4())}
    return DeleteDocument(**(fields | changes))


class NoPayloads:
    """Object storage with nothing in it."""

    async def fetch(self, reference: PayloadRef) -> Kept:
        """See `Payloads.fetch`."""
        del reference
        return PayloadProblem.MISSING


class ListWriter:
    """A writer to the log that keeps what is written, in the place of `LogWriter`."""

    def __init__(self) -> None:
        self.values: list[bytes] = []
        self.is_away = False
        self.bytes_max = RECORD_BYTES_MAX

    async def write(self, _topic: object, records: Sequence[Any]) -> None:
        """Keep the values of *records*. Raises Transient while told to be away."""
        if self.is_away:
            raise Transient("told to be away")
        if any(len(record.value) > self.bytes_max for record in records):
            raise RecordRefused(f"a record of more than {self.bytes_max} bytes")
        self.values += [record.value for record in records]

    def taken(self) -> list[bytes]:
        """Return what was written since the last call."""
        values, self.values = self.values, []
        return values


class Pipeline:
    """The three groups, and what is on its way between them; an async context manager."""

    def __init__(
        self,
        dsn: str,
        owner: str,
        embedders: Sequence[Embedder],
        *,
        chunk_worker: WorkerThread | None = None,
        store_worker: WorkerThread | None = None,
    ) -> None:
        """Work with the rights of *dsn*; *owner* is for looking at tables."""
        self._cutter = None if chunk_worker is None else ChunkWorker(chunk_worker)
        self._store_worker = store_worker
        self._dsn = dsn
        self._owner = owner
        self._embedders = Embedders(list(embedders))
        self._stack = AsyncExitStack()
        self._offsets = count()
        self.lanes, self.embedded, self._commands = ListWriter(), ListWriter(), ListWriter()

    async def __aenter__(self) -> Self:
        enter = self._stack.enter_async_context
        writes = await enter(PostgresWrites(self._dsn, connections_max=8, application="test"))
        self.writes = writes
        await KnownEmbedders(writes, self._embedders.all).go_on()
        chunker = CHUNKER if self._cutter is None else self._cutter.chunker
        self.intake = DocumentCommandStore(writes, embedder_name=self._embedders.default.name, chunker=chunker)
        parsers = await enter(Parsers(limit=1))
        self.handler = self.worker(parsers)
        handing_on = None if self._store_worker is None else HandingOn(writes, self._store_worker)
        self.store = VersionStore(writes, handing_on=handing_on)
        self.restart_building()
        return self

    async def __aexit__(self, *_exception: object) -> None:
        await self._stack.aclose()

    def worker(self, parsers: Parsers) -> WorkHandler:
        """Return the handler of documents.embed."""
        journal = Journal(self.writes)
        nothing = Counters(cached=lambda _count: None, computed=lambda _count: None, busy=lambda _stage, _s: None)
        return WorkHandler(
            Stages(
                journal=journal,
                files=Files(parsers, journal, self.writes, self._commands, credentials),  # type: ignore[arg-type]
                chunks=ChunkEmbedder(VectorCache(self.writes), FairTurns(2), nothing, cutter=self._cutter),
                embedders=self._embedders,
                downstream=Downstream(self.writes),
                embedded=self.embedded,  # type: ignore[arg-type]
                credentials=credentials,
                ended=lambda _phase, _error: None,
            ),
            documents_max=4,
        )

    async def commit(self, *commands: Command, partition: int = 0) -> tuple[list[DocumentWork], list[Arrival[Any]]]:
        """Hand *commands* to intake as the next records of a partition; return the work, and the records."""
        arrivals = [self.arrival(each, COMMAND_CODEC.encode(each), partition) for each in commands]
        return await self.again(arrivals), arrivals

    async def again(self, arrivals: Sequence[Arrival[Any]]) -> list[DocumentWork]:
        """Hand records to intake that may have come before; return the work."""
        applied = await self.intake.apply(arrivals, await given_texts(arrivals, NoPayloads()))
        self.tally, self.ended = applied.tally, applied.ended
        return list(applied.work)

    async def embed(self, *work: DocumentWork, tier: int = 0, attempt: int = 0) -> list[DocumentEmbedded]:
        """Hand *work* to documents.embed; return what comes out."""
        arrivals = [self.arrival(each, WORK_CODEC.encode(each), 0, tier=tier, attempt=attempt) for each in work]
        self.settled: Settled[DocumentWork] = await self.handler.handle(arrivals)
        return [EMBEDDED_CODEC.decode(value) for value in self.embedded.taken()]

    async def make_live(self, *records: DocumentEmbedded) -> list[StoredVersion]:
        """Hand *records* to documents.store."""
        return [await self.store.store(record) for record in records]

    async def run(self, *commands: Command, partition: int = 0) -> None:
        """Bring *commands*, and all that they lead to, to their end."""
        waiting: list[Command] = list(commands)
        while waiting:
            work, _ = await self.commit(*waiting, partition=partition)
            await self.run_work(*work)
            waiting = [COMMAND_CODEC.decode(value) for value in self._commands.taken()]

    async def run_work(self, *work: DocumentWork) -> None:
        """Bring work to its end."""
        waiting = list(work)
        while waiting:
            stored = await self.make_live(*await self.embed(*waiting))
            waiting = [each.again for each in stored if each.again is not None]

    def restart_building(self) -> None:
        """Let re-embedding know as little as after a start of its process."""
        self.reembedding = Reembedding(self.writes, WorkWriter(self.lanes, credentials))  # type: ignore[arg-type]

    async def build(self) -> list[DocumentWork]:
        """Let re-embedding go on; return the work that it gives out."""
        await self.reembedding.go_on()
        return [WORK_CODEC.decode(value) for value in self.lanes.taken()]

    def arrival(self, record: Any, value: bytes, partition: int, *, tier: int = 0, attempt: int = 0) -> Arrival[Any]:
        """Return *record* as it comes from the log."""
        raw = RawRecord(
            DOCUMENT_COMMANDS.name,
            partition,
            next(self._offsets),
            AT_MS,
            key_of(record),
            value,
            (),
            attempt=attempt,
            tier=tier,
        )
        rejection: Rejection | None = None
        return Arrival(raw, {}, record, rejection, True)

    def begin_another_log(self) -> None:
        """Let offsets begin at 0 again, as after `tidegate topics accept` of a topic that was recreated."""
        [stored] = [each for each in STORED_TOPICS if each.group == INTAKE]
        with psycopg.connect(self._owner) as session:
            for name in stored.tables:
                session.execute(f"UPDATE {name} SET kafka_partition = kafka_partition - 100000".encode())
            for statement in stored.renumber:
                session.execute(statement.encode(), {"partition": None})
        self._offsets = count()

    def rows(self, statement: str, *values: object) -> list[dict[str, Any]]:
        """Return the rows of *statement*, by the owner's rights."""
        with psycopg.connect(self._owner, autocommit=True, row_factory=dict_row) as session:
            done = session.execute(statement.encode(), values or None)
            return done.fetchall() if done.description else []

    def phase(self, job_id: str) -> str:
        """Return the phase of a job."""
        return str(self.rows("SELECT phase FROM document_jobs WHERE job_id = %s", job_id)[0]["phase"])

    def live(self, embedder: Embedder | None = None) -> dict[str, list[str]]:
        """Return the texts of the chunks that searches find, by document."""
        table = f"document_chunks_{(embedder or self._embedders.default).id[:16]}"
        found: dict[str, list[str]] = {}
        for row in self.rows(f"SELECT document, text FROM {table} ORDER BY document, ordinal"):
            found.setdefault(row["document"], []).append(row["text"])
        return found

    def clear(self) -> None:
        """Leave no document behind."""
        self.rows(
            "TRUNCATE documents, document_jobs, document_texts, document_vectors, document_totals, document_changes, "
            "document_commands, document_rejections, document_collections"
        )
        for row in self.rows("SELECT chunks FROM document_embedders"):
            self.rows(f"TRUNCATE {row['chunks']}")
