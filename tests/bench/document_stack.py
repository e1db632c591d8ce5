"""A stack that stores documents, and the texts that benchmarks give it: commands go straight into the log."""

import asyncio
import os
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from time import time
from typing import Any

import psutil
import psycopg
from psycopg.rows import dict_row

from deploy.examples.chapters import chapters
from deploy.load.document_texts import made_text
from processors.runtime.dead_letters import LogWriter
from processors.runtime.sealing import sealed_record
from schemas.access.credentials import CredentialsFile, FileCredentials
from schemas.documents.codec import COMMAND_CODEC
from schemas.documents.records import PutDocument, key_of, record_id
from schemas.documents.states import Phase
from schemas.documents.topics import DOCUMENT_COMMANDS
from tests.support.pipeline import TENANT, put
from tests.support.stack import RunningStack, running, tidegate, wait_until

CHAPTERS = int(os.environ.get("BENCH_CHAPTERS", "0"))  # of the two novels; 0: all
WITHIN_S = float(os.environ.get("BENCH_WITHIN_S", "1800"))
ONE_CHUNK_WORDS = 100
MARK_WORDS = 40  # a third of a chunk, so that each has a mark
WRITTEN_AT_ONCE = 200
PROCESSES = ("documents-intake", "documents-embed", "documents-store")
WITHOUT = ("evaluation", "fanout", "maintenance", "events", "executor", "jobs-intake", "persistence")

ENDED = """
    SELECT coalesce(sum(count), 0)::bigint AS count FROM document_totals WHERE tenant_id = %s AND outcome <> 'submitted'
"""
OUTCOME = """
    SELECT phase, count(*) AS documents, coalesce(sum(chunks), 0)::bigint AS chunks,
        extract(epoch FROM max(ended_at))::float8 AS last_s
    FROM document_jobs WHERE job_id = ANY(%s::uuid[]) GROUP BY phase
"""
CACHED = "SELECT count(*) AS count FROM document_vectors"


@dataclass(frozen=True, slots=True)
class Text:
    """A text to store, and the name of its document."""

    collection: str
    document: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """The outcome of some documents: from just before the first was written until the last job ended."""

    seconds: float
    documents: int
    chunks: int
    computed: int  # distinct chunks whose vectors were not in the cache
    phases: Mapping[str, int]
    cpu_s: float = 0.0  # of the processes that do it, without Kafka and Postgres
    rss_mib: float = 0.0  # of the same together, each at its highest

    @property
    def chunks_per_s(self) -> float:
        """Return the chunks stored a second."""
        return self.chunks / self.seconds

    @property
    def cpu_s_per_1000_chunks(self) -> float:
        """Return the processor time for a thousand chunks."""
        return self.cpu_s / self.chunks * 1000

    @property
    def documents_per_s(self) -> float:
        """Return the documents stored a second."""
        return self.documents / self.seconds


class DocumentStack:
    """A running stack whose documents are submitted without a gateway."""

    def __init__(self, stack: RunningStack, embedder: str) -> None:
        """Wrap a stack whose processes are ready."""
        self.stack = stack
        self.embedder = embedder
        self._credentials = FileCredentials(CredentialsFile(stack.folder / "credentials.toml"))
        self._writer = LogWriter(stack.kafka, client_id="bench")

    @property
    def dsn(self) -> str:
        """Return the address of its Postgres, by the owner's rights."""
        return self.stack.addresses.postgres

    @property
    def jar(self) -> str:
        """Return the file of the model; empty where there is none."""
        environ = Path(f"/proc/{self.stack.process('documents-embed').pid}/environ").read_text()
        return next((each.partition("=")[2] for each in environ.split("\0") if each.startswith("TIDEGATE_MINILM")), "")

    def rows(self, statement: str, *values: object) -> list[dict[str, Any]]:
        """Return the rows of *statement*."""
        with psycopg.connect(self.dsn, autocommit=True, row_factory=dict_row) as session:
            done = session.execute(statement.encode(), values or None)
            return done.fetchall() if done.description else []

    @property
    def chunk_table(self) -> str:
        """Return the table of the embedder's chunks."""
        [row] = self.rows("SELECT chunks FROM document_embedders WHERE name = %s", self.embedder)
        return str(row["chunks"])

    def clear_cache(self) -> None:
        """Forget every vector, so that each of the next texts is embedded."""
        self.rows("TRUNCATE document_vectors")

    def submit(self, puts: Sequence[PutDocument]) -> None:
        """Write commands as a gateway writes them; on return they are acknowledged."""
        records = [
            sealed_record(
                DOCUMENT_COMMANDS,
                record_id=record_id(each),
                key=key_of(each),
                tenant=each.tenant,
                value=COMMAND_CODEC.encode(each),
                by=self._credentials,
            )
            for each in puts
        ]
        for start in range(0, len(records), WRITTEN_AT_ONCE):
            asyncio.run(self._writer.write(DOCUMENT_COMMANDS, records[start : start + WRITTEN_AT_ONCE]))

    def ended(self) -> int:
        """Return how many jobs have ended so far."""
        return int(self.rows(ENDED, TENANT)[0]["count"])

    def take(self, texts: Sequence[Text], *, priority: int = 5) -> Stored:
        """Submit *texts*, and wait until every job has ended."""
        puts = puts_of(texts, priority=priority)
        ended, cached, cpu_s, began_s = self.ended(), self._cached(), self._cpu_s(), time()
        self.submit(puts)
        self.wait_ended(ended + len(puts))
        found = self.outcome(puts, began_s, cached=cached)
        return replace(found, cpu_s=self._cpu_s() - cpu_s, rss_mib=sum(rss_mib(each.pid) for each in self._processes()))

    def wait_ended(self, count: int) -> None:
        """Wait until so many jobs have ended since the stack began."""
        wait_until(lambda: self.ended() >= count, timeout_s=WITHIN_S, what="every document's job to end")

    def outcome(self, puts: Sequence[PutDocument], began_s: float, *, cached: int = 0) -> Stored:
        """Return what became of *puts*, which have all ended."""
        rows = self.rows(OUTCOME, [each.job_id for each in puts])
        phases = Counter({str(row["phase"]): int(row["documents"]) for row in rows})
        good = phases[Phase.STORED] + phases[Phase.UNCHANGED]
        assert good == len(puts), f"not every document was stored: {dict(phases)}"
        return Stored(
            seconds=max(row["last_s"] for row in rows) - began_s,
            documents=len(puts),
            chunks=sum(int(row["chunks"]) for row in rows),
            computed=self._cached() - cached,
            phases=dict(phases),
        )

    def _processes(self) -> list[psutil.Process]:
        return [psutil.Process(self.stack.process(name).pid) for name in PROCESSES]

    def _cpu_s(self) -> float:
        return float(sum(sum(each.cpu_times()[:2]) for each in self._processes()))

    def _cached(self) -> int:
        return int(self.rows(CACHED)[0]["count"])


def rss_mib(pid: int) -> float:
    """Return the resident memory of a process, at its highest."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def puts_of(texts: Sequence[Text], *, priority: int = 5) -> list[PutDocument]:
    """Return the commands that store *texts*."""
    return [put(each.document, each.text, collection=each.collection, priority=priority) for each in texts]


@contextmanager
def document_stack(embedder: str) -> Iterator[DocumentStack]:
    """Run a stack of its own that embeds by *embedder*; at the end nothing of it is left."""
    folder = Path(tempfile.mkdtemp(prefix="tidegate-bench-"))
    environ = os.environ | {"TIDEGATE_EMBEDDERS": embedder}
    without = [part for name in WITHOUT for part in ("--without", name)]
    try:
        with running(folder, "--ports", "auto", *without, environ=environ) as stack:
            for name in PROCESSES:
                stack.wait_ready(name)
            yield DocumentStack(stack, embedder)
    finally:
        tidegate("down", "--purge", "--dir", str(folder))


def marked_chapters(mark: str, *, collection: str = "", copies: int = 1, limit: int = 0) -> list[Text]:
    """
    Return the chapters of the two novels with *mark* and the copy's number all over them: no two chunks are alike.

    They are documents of *collection*, which is *mark* itself unless it is given. A *limit* takes the place of
    BENCH_CHAPTERS.
    """
    chosen = list(chapters())[: limit or CHAPTERS or None]
    return [
        Text(collection or mark, f"{each.book} {each.index} {copy}", marked(each.text, f"{mark} {copy}."))
        for copy in range(copies)
        for each in chosen
    ]


def marked(text: str, mark: str) -> str:
    """Return *text* with *mark* at the start of each paragraph, and again after every `MARK_WORDS` words."""
    return "\n\n".join(
        " ".join(
            f"{mark} {word}" if number % MARK_WORDS == 0 else word for number, word in enumerate(paragraph.split(" "))
        )
        for paragraph in text.split("\n\n")
    )


def one_chunk_texts(count: int, *, first: int, collection: str = "small") -> list[Text]:
    """Return made-up texts that are a chunk each, numbered from *first*."""
    return [
        Text(collection, str(number), made_text(number, words=ONE_CHUNK_WORDS))
        for number in range(first, first + count)
    ]
