"""Contract of the document store and of searches on Postgres: rows of processors, read as the API shows them."""

import hashlib
import random
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from secrets import token_hex
from typing import Any
from uuid import uuid4

import numpy as np
import psycopg
import pytest
from psycopg import sql

from gateway.documents.figures import metrics_of
from gateway.documents.parsing.filters import Filter, read_filter
from gateway.documents.postgres import PostgresDocumentStore
from gateway.documents.search import statements
from gateway.documents.search.legs import CANDIDATES_MAX, LegAnswer, LegFailed, Scope
from gateway.documents.search.postgres import PostgresSearchStore
from gateway.documents.store import DocumentJobFilter, DocumentJobPlace, Revisions
from gateway.errors import StoreUnavailable
from gateway.postgres.pool import PostgresReads
from schemas.documents.embedding.contract import TextKind
from schemas.documents.embedding.hashing import HashingEmbedder
from schemas.documents.records import DeleteDocument, record_id
from schemas.documents.states import Lane, Phase
from schemas.kafka.places import RecordPlace
from tests.support.jobs import JobServer

START = datetime(2026, 11, 1, tzinfo=UTC)
DIMENSIONS = 256
WORDS = ["harbour", "tide", "barge", "miller", "grain", "letter", "bottle", "quay", "ferry", "fog", "lighter", "tug"]
MANY = 24_000  # chunks: more than a scope that is searched exactly
SAMPLES = 100
RECALL_MIN = 0.98
PATIENT_MS = 60_000  # of a leg: what is measured here is what it finds, not how fast


@dataclass(frozen=True, slots=True)
class Rows:
    """The stores, and a tenant of the test's own with rows in its tables."""

    store: PostgresDocumentStore
    searched: PostgresSearchStore
    session: psycopg.Connection[Any]  # with the rights of processors
    embedder: str
    chunks: str
    tenant: str = field(default_factory=lambda: f"t-{token_hex(6)}")

    def insert(self, table: str, **values: Any) -> None:
        """Insert one row."""
        columns = sql.SQL(", ").join(map(sql.Identifier, values))
        marks = sql.SQL(", ").join(sql.Placeholder() * len(values))
        insert = sql.SQL("INSERT INTO {} ({}) VALUES ({})")
        self.session.execute(insert.format(sql.Identifier(table), columns, marks), list(values.values()))

    def collection(self, name: str = "emma", *, config: str = "english", **changes: Any) -> str:
        """Insert a collection."""
        values = {"tenant_id": self.tenant, "collection": name, "embedder": self.embedder, "config": config}
        self.insert("document_collections", **(values | changes))
        return name

    def document(
        self, document: str, texts: Sequence[str], *, collection: str = "emma", metadata: str | None = None,
        revision: int = 1, config: str = "english", chunks: str | None = None, vectors: Sequence[Any] | None = None,
    ) -> None:  # fmt: skip
        """Insert a live document with its chunks."""
        self.insert(
            "documents", tenant_id=self.tenant, collection=collection, document=document, partition=0,
            latest_revision=revision, live_revision=revision, chunks=len(texts), metadata=metadata, stored_at=START,
        )  # fmt: skip
        for ordinal, text in enumerate(texts):
            self.insert(
                chunks or self.chunks, tenant_id=self.tenant, collection=collection, document=document,
                ordinal=ordinal, start_at=0, end_at=len(text), sha256=hashlib.sha256(text.encode()).digest(),
                text=text, config=config, vector=shown(vectors[ordinal] if vectors else unit(text)),
            )  # fmt: skip

    def job(self, number: int = 0, **changes: Any) -> str:
        """Insert a job that was submitted *number* seconds after the start; return its id."""
        job_id, moment = str(uuid4()), START + timedelta(seconds=number)
        values = {
            "job_id": job_id, "tenant_id": self.tenant, "collection": "emma", "document": "7", "partition": 0,
            "revision": number, "kind": "put", "phase": "submitted", "priority": 5, "lane": "normal", "cost": 100,
            "max_retries": 3, "submitted_at": moment, "queued_at": moment, "content_sha256": b"d" * 32,
        }  # fmt: skip
        self.insert("document_jobs", **(values | changes))
        return job_id

    async def scope(self) -> Scope:
        """Return the one scope of the tenant."""
        [scope] = await self.searched.scopes(self.tenant, None)
        return scope

    async def found(self, query: str, admitted: Filter | None = None) -> list[tuple[str, str]]:
        """Return the documents that the text leg finds."""
        answers = await self.searched.matching(self.tenant, await self.scope(), query, admitted)
        return [(each.collection, each.document) for answer in answers for each in answer.found]

    async def nearest(self, vector: Any, admitted: Filter | None = None) -> LegAnswer:
        """Return what the vector leg finds."""
        return await self.searched.nearest(self.tenant, await self.scope(), list(vector), admitted)


def unit(seed: str) -> Any:
    """Return a vector that depends on a text alone."""
    values = np.random.default_rng(int.from_bytes(hashlib.sha256(seed.encode()).digest()[:8])).normal(size=DIMENSIONS)
    return values / np.linalg.norm(values)


def shown(vector: Any) -> str:
    return f"[{','.join(f'{value:.5f}' for value in vector)}]"


def only(**document: Any) -> Filter:
    return read_filter(document, pointer="")


@pytest.fixture
def session(job_server: JobServer) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(job_server.owner, autocommit=True) as opened:
        opened.execute("SET ROLE tidegate_documents")
        yield opened


@pytest.fixture
async def rows(job_server: JobServer, session: psycopg.Connection[Any]) -> AsyncIterator[Rows]:
    embedder = token_hex(32)
    name = f"hash-{token_hex(4)}"
    row = session.execute("SELECT add_document_embedder(%s, %s, %s, '')", [embedder, name, DIMENSIONS]).fetchone()
    assert row is not None
    async with PostgresReads(job_server.reader) as reads:
        yield Rows(PostgresDocumentStore(reads), PostgresSearchStore(reads), session, embedder, row[0])


# --- jobs and documents


async def test_a_job_is_shown_with_its_place_in_the_queue(rows: Rows) -> None:
    lane = "low"
    rows.job(1, lane=lane, cost=30)
    rows.job(2, lane=lane, cost=40, phase="stored", ended_at=START)
    job_id = rows.job(3, lane=lane, source='{"content_type": "application/pdf", "filename": "e.pdf"}')
    job = await rows.store.job(rows.tenant, job_id)
    assert job is not None
    assert (job.phase, job.document.chapter_index, job.filename, job.error) == (Phase.SUBMITTED, 7, "e.pdf", None)
    assert job.queue
    assert (job.queue.lane, job.queue.ahead_count >= 1, job.queue.ahead_cost >= 30) == (lane, True, True)
    assert await rows.store.job("other", job_id) is None


async def test_a_failure_and_the_times_of_stages_are_shown(rows: Rows) -> None:
    at = [START + timedelta(seconds=each) for each in (1, 3, 6, 10)]
    error = '{"stage": "embed", "reason": "bad_chunk", "detail": "x", "chunk": 4}'
    job_id = rows.job(
        phase="failed", begun_at=at[0], chunked_at=at[1], embedded_at=at[2], ended_at=at[3], chunks=9, chunks_done=4,
        error=error,
    )  # fmt: skip
    job = await rows.store.job(rows.tenant, job_id)
    assert job is not None
    assert job.error
    assert (job.error.stage, job.error.reason, job.error.chunk) == ("embed", "bad_chunk", 4)
    assert job.embedded
    assert (job.embedded.done, job.embedded.of) == (4, 9)
    assert (job.times.queue_s, job.times.chunk_s, job.times.embed_s, job.times.store_s) == (1.0, 2.0, 3.0, 4.0)
    brief = await rows.store.brief(rows.tenant, job_id)
    assert brief is not None
    assert (brief.reason, brief.content_sha256, brief.generation) == ("bad_chunk", b"d" * 32, 1)
    assert await rows.store.ended(rows.tenant, [job_id, str(uuid4())]) == {job_id: Phase.FAILED}


@pytest.mark.parametrize(
    ("admitted", "expected"),
    [
        (DocumentJobFilter(), list(range(12))),
        (DocumentJobFilter(phase=Phase.FAILED), [2, 5, 8, 11]),
        (DocumentJobFilter(phase=Phase.STORED), [1, 4, 7, 10]),
        (DocumentJobFilter(phase=Phase.SUBMITTED), [0, 3, 6, 9]),
        (DocumentJobFilter(collection="emma", document="0"), [0, 4, 8]),
        (DocumentJobFilter(collection="emma", document="0", phase=Phase.FAILED), [8]),
        (DocumentJobFilter(collection="none"), []),
        (DocumentJobFilter(parent_job="00000000-0000-0000-0000-0000000000ff"), []),
    ],
)
async def test_jobs_are_listed_the_newest_first(rows: Rows, admitted: DocumentJobFilter, expected: list[int]) -> None:
    phases = ("submitted", "stored", "failed")
    ids = [
        rows.job(
            number // 2, phase=phases[number % 3], document=str(number % 4),
            ended_at=None if number % 3 == 0 else START,
        )
        for number in range(12)
    ]  # fmt: skip
    wanted = sorted(expected, key=lambda number: (number // 2, ids[number]), reverse=True)
    found: list[str] = []
    after: DocumentJobPlace | None = None
    while True:
        page, after = await rows.store.jobs(rows.tenant, admitted, after=after, limit=5)
        found += [each.job_id for each in page]
        if after is None:
            break
    assert found == [ids[number] for number in wanted]
    assert await rows.store.unfinished(rows.tenant, count_max=3) == 3


async def test_documents_and_chunks_are_read_page_by_page(rows: Rows) -> None:
    rows.collection()
    rows.document("7", [f"part {number}" for number in range(5)], metadata='{"year": 1815}', revision=3)
    rows.document("8", ["x"])
    rows.insert(
        "documents", tenant_id=rows.tenant, collection="emma", document="9", partition=0, latest_revision=4,
        deleted_revision=4,
    )  # fmt: skip
    page, last = await rows.store.documents(rows.tenant, "emma", after=None, limit=1)
    assert ([each.document.chapter_index for each in page], last) == ([7], ("emma", "7"))
    page, last = await rows.store.documents(rows.tenant, None, after=last, limit=1)
    assert ([each.document.chapter_index for each in page], last) == ([8], None)
    chunks = await rows.store.chunks(rows.tenant, "emma", "7", after=1, limit=2)
    assert chunks is not None
    assert ([each.text for each in chunks.chunks], chunks.revision) == (["part 2", "part 3"], 3)
    assert chunks.next_cursor is not None
    assert await rows.store.chunks(rows.tenant, "emma", "9", after=-1, limit=2) is None
    assert await rows.store.document(rows.tenant, "emma", "9") is None, "deleted"
    assert await rows.store.revisions(rows.tenant, "emma", "9") == Revisions(latest=4, live=None, deleted=4)
    view = await rows.store.document(rows.tenant, "emma", "7")
    assert view is not None
    assert (view.live_revision, bytes(view.metadata or b"")) == (3, b'{"year": 1815}')
    [collection], more = await rows.store.collections(rows.tenant, after=None, limit=1)
    assert (collection.documents, collection.chunks, collection.embedder, more) == (2, 6, rows.embedder, False)
    assert (collection.building_failed, collection.is_blocked) == (0, False)
    assert await rows.store.collection(rows.tenant, "emma") == collection
    assert await rows.store.embedder(collection.embedder_name) == rows.embedder
    assert await rows.store.embedder("none") is None


async def test_a_collection_is_blocked_once_nothing_is_left_to_embed_but_what_failed(rows: Rows) -> None:
    rows.collection(building=rows.embedder, builds=1, built_since=START)
    for document in ("1", "2"):
        rows.document(document, ["x"])
    failed = {"kind": "reembed", "phase": "failed", "ended_at": START, "revision": 1}
    rows.job(-1, document="2", **failed)  # in a build before it
    rows.job(1, document="1", **failed)
    rows.job(2, document="2", kind="reembed")
    view = await rows.store.collection(rows.tenant, "emma")
    assert view is not None
    assert (view.building_failed, view.is_blocked) == (1, False)
    rows.session.execute(
        "UPDATE document_jobs SET phase = 'stored', ended_at = now() WHERE tenant_id = %s AND document = '2'",
        [rows.tenant],
    )
    view = await rows.store.collection(rows.tenant, "emma")
    assert view is not None
    assert (view.building_failed, view.is_blocked) == (1, True)


async def test_the_figures_add_up(rows: Rows) -> None:
    for outcome, count in (("submitted", 10), ("stored", 3), ("unchanged", 1), ("superseded", 1), ("failed", 1)):
        for partition in (0, 1):
            rows.insert(
                "document_totals", tenant_id=rows.tenant, partition=partition, outcome=outcome, lane="normal",
                count=count, cost=count * 100,
            )  # fmt: skip
    now = datetime.now(UTC)
    for seconds in (1, 2, 3, 400):
        ended = now - timedelta(seconds=seconds)
        rows.job(phase="stored", submitted_at=ended - timedelta(seconds=seconds), ended_at=ended, chunks=6)
    rows.job(phase="failed", ended_at=now, error='{"stage": "parse", "reason": "no_text"}')
    rows.job(phase="stored", ended_at=now - timedelta(hours=1))
    rows.job(lane="high", queued_at=now - timedelta(seconds=50))
    shown_figures = metrics_of(await rows.store.figures(rows.tenant), multiplier=1.0, tokens=None)
    assert shown_figures.balance == (
        "20 submitted = 6 completed + 2 unchanged + 2 superseded + 0 deleted + 0 cancelled + 2 failed + 8 in flight"
    )
    assert (shown_figures.success_rate_percent, shown_figures.throughput_items_per_sec) == (80.0, 3 / 60)
    assert shown_figures.p99_latency_ms == pytest.approx(400_000)
    assert (shown_figures.stages["chunk"].items_failed, shown_figures.queue_cost) == (1, 800)
    [(lane, depth)] = shown_figures.lanes.items()
    assert (lane, depth.queue_depth, depth.oldest_s is not None and 50 <= depth.oldest_s < 90) == ("high", 1, True)


async def test_the_work_of_lanes_is_what_is_in_flight_and_in_its_first_attempt(rows: Rows) -> None:
    def totals(outcome: str, count: int, *, lane: str = "high") -> None:
        rows.insert(
            "document_totals", tenant_id=rows.tenant, partition=0, outcome=outcome, lane=lane, count=count,
            cost=count * 100,
        )  # fmt: skip

    totals("submitted", 50)
    totals("submitted", 1, lane="low")
    before = await rows.store.work()
    assert set(before) == set(Lane)
    for outcome, count in (("stored", 7), ("failed", 2), ("unchanged", 4), ("cancelled", 1)):
        totals(outcome, count)
    now = datetime.now(UTC)
    rows.job(lane="high", queued_at=now - timedelta(days=90), attempts=1, cost=300)
    rows.job(lane="high", queued_at=now - timedelta(days=80))
    after = await rows.store.work()
    assert before[Lane.HIGH].count - after[Lane.HIGH].count == 7 + 2 + 4 + 1 + 1
    assert before[Lane.HIGH].cost - after[Lane.HIGH].cost == 1_400 + 300
    assert after[Lane.HIGH].done_cost - before[Lane.HIGH].done_cost == 900
    assert after[Lane.HIGH].oldest_s == pytest.approx(80 * 86_400, abs=60)
    assert after[Lane.LOW].cost == before[Lane.LOW].cost > 0


async def test_an_effect_is_that_of_the_same_command(rows: Rows) -> None:
    job_id = rows.job(phase="deleted", ended_at=START)
    command = DeleteDocument(tenant=rows.tenant, collection="emma", document="7", job_id=job_id)
    offset = random.randrange(2**40)
    rows.insert(
        "document_commands", kafka_partition=1, kafka_offset=offset, tenant_id=rows.tenant,
        command_id=record_id(command), job_id=job_id, kind="delete", outcome="stored",
    )  # fmt: skip
    place = RecordPlace("document.commands", 1, offset)
    effect = await rows.store.effect(rows.tenant, place, record_id(command))
    assert effect is not None
    assert (effect.outcome, effect.detail) == ("stored", "job is deleted")
    assert await rows.store.effect(rows.tenant, place, "doc_other") is None
    assert await rows.store.effect("other", place, None) is None


# --- searches


async def test_each_leg_finds_what_is_near_in_its_way(rows: Rows) -> None:
    rows.collection()
    embedder = HashingEmbedder()
    texts = {"1": "The miller refused the wet grain.", "2": "A ferry in the fog.", "3": "Nothing of the sort."}
    vectors = await embedder.embed([*texts.values(), "refused grain"], kind=TextKind.PASSAGE)
    for (name, text), vector in zip(texts.items(), vectors, strict=False):
        rows.document(name, [text], vectors=[vector])
    answer = await rows.nearest(vectors[-1])
    assert (answer.found[0].document, len(answer.found), answer.complete) == ("1", 3, True)
    assert answer.found[0].score > answer.found[1].score
    assert await rows.found("who refuses ferries?") == [("emma", "2"), ("emma", "1")], "OR, and stems"
    scope = await rows.scope()
    shown_rows = await rows.searched.rows(rows.tenant, scope, [each.chunk_id for each in answer.found])
    assert {row.text for row in shown_rows.values()} == set(texts.values())
    assert await rows.searched.rows("other", scope, [answer.found[0].chunk_id]) == {}


@pytest.mark.parametrize(
    "query",
    ["", " ", "the of and", "'", "''", "\\", "a\\'b", "'; DROP TABLE documents; --", "!(&|:*<->", "grain'::tsquery",
     "%(tenant)s %s {chunks}", "\u0001", "\U0001f30a", "x" * 100_000, "word " * 10_000],
)  # fmt: skip
async def test_any_query_has_an_answer(rows: Rows, query: str) -> None:
    rows.collection()
    rows.document("1", ["The miller's grain: it's wet."])
    found = await rows.found(query)
    assert set(found) <= {("emma", "1")}
    assert await rows.found(f"{query} miller") == [("emma", "1")] or query.startswith(("x", "word"))


async def test_ten_thousand_different_words_are_cut_to_the_first(rows: Rows) -> None:
    rows.collection()
    rows.document("1", ["word5 is here"])
    rows.document("2", ["word9999 is here"])
    assert await rows.found(" ".join(f"word{number}" for number in range(10_000))) == [("emma", "1")]


async def test_a_slash_separates_words(rows: Rows) -> None:
    rows.collection()
    rows.document("1", ["The tug/barge question"])
    assert await rows.found("barge") == await rows.found("and/barge") == [("emma", "1")]


async def test_a_rare_word_weighs_more_than_one_that_is_everywhere(rows: Rows) -> None:
    rows.collection()
    for number in range(9):
        rows.document(str(number), ["Catherine walks; Catherine talks; Catherine reads."])
    rows.document(
        "answer", ["She keeps a manuscript in the old cabinet, behind the window of the cold room that nobody enters."]
    )
    assert (await rows.found("Where is Catherine's manuscript?"))[0] == ("emma", "answer")


async def test_each_collection_is_searched_in_its_language(rows: Rows) -> None:
    rows.collection()
    rows.collection("plain", config="simple")
    rows.document("1", ["ferries"])
    rows.document("1", ["ferries"], collection="plain", config="simple")
    assert await rows.found("ferry") == [("emma", "1")]
    assert sorted(await rows.found("ferries")) == [("emma", "1"), ("plain", "1")]


async def test_only_the_active_embedders_table_is_searched(rows: Rows) -> None:
    other = token_hex(32)
    row = rows.session.execute("SELECT add_document_embedder(%s, 'next', 256, '')", [other]).fetchone()
    assert row is not None
    rows.collection(building=other)
    rows.document("1", ["grain"])
    rows.insert(
        row[0], tenant_id=rows.tenant, collection="emma", document="1", ordinal=0, start_at=0, end_at=1, sha256=b"",
        text="grain", config="english", vector=shown(unit("grain")),
    )  # fmt: skip
    assert await rows.found("grain") == [("emma", "1")]


METADATA = ('{"year": 1815, "tags": ["a"], "author": {"name": "Jane"}}', '{"year": 1811.0, "draft": true}',
            '{"year": "1815", "draft": null}', None)  # fmt: skip


@pytest.mark.parametrize(
    ("admitted", "expected"),
    [
        ({"type": "eq", "key": "year", "value": 1815}, "1"),
        ({"type": "eq", "key": "year", "value": 1811}, "2"),
        ({"type": "eq", "key": "author.name", "value": "Jane"}, "1"),
        ({"type": "eq", "key": "draft", "value": None}, "3"),
        ({"type": "eq", "key": "tags", "value": "a"}, ""),
        ({"type": "ne", "key": "year", "value": 1815}, "234"),
        ({"type": "gt", "key": "year", "value": 1811}, "1"),
        ({"type": "gte", "key": "year", "value": 1811}, "12"),
        ({"type": "lt", "key": "year", "value": 1815.5}, "12"),
        ({"type": "lte", "key": "year", "value": "1815"}, "3"),
        ({"type": "in", "key": "year", "value": [1815, "1815", None]}, "13"),
        ({"type": "nin", "key": "year", "value": [1815, "1815"]}, "24"),
        ({"type": "in", "key": "draft", "value": [True, None]}, "23"),
        ({"type": "and", "filters": [{"type": "gte", "key": "year", "value": 0},
                                     {"type": "ne", "key": "draft", "value": True}]}, "1"),
        ({"type": "or", "filters": [{"type": "eq", "key": "draft", "value": True},
                                    {"type": "eq", "key": "year", "value": "1815"}]}, "23"),
        ({"type": "eq", "key": "year') OR true --", "value": "'; DROP TABLE documents; --"}, ""),
        ({"type": "gt", "key": 'a"}{%s%(tenant)s', "value": "%s"}, ""),
    ],
)  # fmt: skip
async def test_a_filter_admits_by_metadata(rows: Rows, admitted: dict[str, Any], expected: str) -> None:
    rows.collection()
    for number, metadata in enumerate(METADATA, 1):
        rows.document(str(number), ["grain"], metadata=metadata)
    asked = only(**admitted)
    assert sorted(document for _, document in await rows.found("grain", asked)) == list(expected)
    assert sorted(each.document for each in (await rows.nearest(unit("grain"), asked)).found) == list(expected)


@dataclass(frozen=True, slots=True)
class Filled:
    """A tenant with more chunks than are searched exactly, in documents of 20; 1 of 200 documents is rare."""

    tenant: str
    embedder: str
    chunks: str


@pytest.fixture(scope="module")
def filled(job_server: JobServer) -> Filled:
    made = Filled(f"t-{token_hex(6)}", token_hex(32), "")
    with psycopg.connect(job_server.owner, autocommit=True) as owner:
        row = owner.execute("SELECT add_document_embedder(%s, 'many', %s, '')", [made.embedder, DIMENSIONS]).fetchone()
        assert row is not None
        chunks, index = sql.Identifier(row[0]), sql.Identifier(f"{row[0]}_vector")
        owner.execute(sql.SQL("DROP INDEX {}").format(index))  # made after the load, which is ten times as fast
        owner.execute(
            "INSERT INTO document_collections (tenant_id, collection, embedder) VALUES (%s, 'emma', %s)",
            [made.tenant, made.embedder],
        )
        owner.execute(
            """INSERT INTO documents (tenant_id, collection, document, partition, latest_revision, live_revision,
                                      chunks, metadata)
               SELECT %s, 'emma', number::text, 0, 1, 1, 20,
                      jsonb_build_object('rare', number %% 200 = 0, 'number', number)
               FROM generate_series(1, %s) AS number""",
            [made.tenant, MANY // 20],
        )
        copy = sql.SQL(
            "COPY {} (tenant_id, collection, document, ordinal, start_at, end_at, sha256, text, config, vector)"
            " FROM STDIN"
        ).format(chunks)
        with owner.cursor().copy(copy) as writer:
            for number, vector in enumerate(clustered(MANY)):
                text = f"{WORDS[number % 12]} {WORDS[number // 12 % 12]} {number}"
                place = (made.tenant, "emma", str(number // 20 + 1), number % 20, 0, len(text))
                writer.write_row((*place, b"", text, "english", shown(vector)))
        owner.execute(
            sql.SQL(
                "CREATE INDEX {} ON {} USING hnsw (vector halfvec_ip_ops) WITH (m = 16, ef_construction = 64)"
            ).format(index, chunks)
        )
        owner.execute(sql.SQL("ANALYZE {}").format(chunks))
        owner.execute("ANALYZE documents")
    return Filled(made.tenant, made.embedder, row[0])


def clustered(count: int) -> Any:
    """Return vectors as texts have them: they lie in clusters."""
    rng = np.random.default_rng(7)
    vectors = rng.normal(size=(50, DIMENSIONS))[rng.integers(50, size=count)]
    vectors = vectors + rng.normal(size=(count, DIMENSIONS)) * rng.uniform(0.3, 1.0, size=(count, 1))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.fixture
def many(rows: Rows, filled: Filled) -> Rows:
    """Return the stores, and the tenant with many chunks."""
    return replace(rows, tenant=filled.tenant, embedder=filled.embedder, chunks=filled.chunks)


async def test_a_large_scope_is_searched_by_the_index_and_a_rare_one_exactly(many: Rows) -> None:
    vector = clustered(1)[0]
    scope = await many.scope()
    answer = await many.nearest(vector)
    assert (len(answer.found), answer.complete) == (CANDIDATES_MAX, True)
    assert [each.score for each in answer.found] == sorted((each.score for each in answer.found), reverse=True)
    rare = only(type="eq", key="rare", value=True)
    filtered = await many.nearest(vector, rare)
    assert (len(filtered.found), filtered.complete) == (CANDIDATES_MAX, True), "0.5% of the chunks are 120"
    assert {int(each.document) % 200 for each in filtered.found} == {0}
    words = await many.searched.matching(many.tenant, scope, "harbour tide", rare)
    assert {int(each.document) % 200 for each in words[0].found} == {0}
    half = await many.nearest(vector, only(type="gt", key="number", value=100))
    assert (len(half.found), half.complete) == (CANDIDATES_MAX, True)


async def test_the_index_finds_nearly_all_that_an_exact_scan_finds(many: Rows) -> None:
    """Recall at 10 over live chunks, whose own vectors are the queries."""
    indexed = PostgresSearchStore(many.searched._reads, leg_timeout_ms=PATIENT_MS)
    exact = PostgresSearchStore(many.searched._reads, leg_timeout_ms=PATIENT_MS, exact_chunks_max=MANY)
    scope = await many.scope()
    found = 0
    for vector in random.Random(11).sample(list(clustered(MANY)), SAMPLES):
        near, truth = [
            {each.chunk_id for each in (await store.nearest(many.tenant, scope, list(vector), None)).found[:10]}
            for store in (indexed, exact)
        ]
        found += len(near & truth)
    assert found / (10 * SAMPLES) >= RECALL_MIN


async def test_a_scan_that_ends_short_says_so(many: Rows, job_server: JobServer) -> None:
    """A filter that admits little of what is near, where the scope is taken for a large one."""
    async with PostgresReads(job_server.reader) as reads:
        searched = PostgresSearchStore(reads, exact_chunks_max=10)
        answer = await searched.nearest(
            many.tenant, await many.scope(), list(unit("a query")), only(type="in", key="number", value=[1, 2])
        )
    assert (len(answer.found) <= 40, answer.complete) == (True, False)


async def test_a_leg_that_takes_too_long_fails_and_the_session_goes_on(many: Rows, job_server: JobServer) -> None:
    async with PostgresReads(job_server.reader) as reads:
        slow = PostgresSearchStore(reads, leg_timeout_ms=1)
        with pytest.raises(LegFailed, match=r"longer than 0\.001 s"):
            await slow.matching(many.tenant, await many.scope(), " ".join(WORDS), None)
        assert await reads.answers()
        assert await PostgresSearchStore(reads).scopes(many.tenant, ["emma"])


async def test_settings_of_a_scan_are_read_back(job_server: JobServer) -> None:
    async with PostgresReads(job_server.reader) as reads, reads.connection() as session, session.transaction():
        await session.execute(statements.LOAD_VECTORS)
        await session.execute(statements.SET_SCAN)
        assert await (await session.execute(statements.SCAN)).fetchone() == statements.SCAN_EXPECTED


async def test_a_table_that_is_gone_or_other_dimensions_fail_one_leg(rows: Rows) -> None:
    rows.collection()
    scope = await rows.scope()
    with pytest.raises(LegFailed, match="3 dimensions, not 256"):
        await rows.searched.nearest(rows.tenant, scope, [1.0, 0.0, 0.0], None)
    gone = Scope(
        embedder=scope.embedder, name="x", dimensions=256, chunks="document_chunks_0", by_config=scope.by_config
    )
    with pytest.raises(LegFailed, match="refused"):
        await rows.searched.nearest(rows.tenant, gone, list(unit("x")), None)


async def test_without_pgvector_a_search_says_what_is_missing(job_server: JobServer) -> None:
    name = f"bare_{token_hex(4)}"
    with psycopg.connect(job_server.owner, autocommit=True) as owner:
        owner.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    dsn = job_server.owner.rsplit("/", 1)[0] + f"/{name}"
    with psycopg.connect(dsn, autocommit=True) as bare:
        columns = "tenant_id text, collection text, config regconfig, embedder text"
        bare.execute(sql.SQL("CREATE TABLE document_collections ({})").format(sql.SQL(columns)))
        bare.execute("CREATE TABLE document_embedders (embedder text, name text, dimensions integer, chunks name)")
    with psycopg.connect(job_server.owner) as full:
        newest = full.execute("SELECT max(version) FROM schema_migrations").fetchone()
    assert newest is not None
    with psycopg.connect(dsn, autocommit=True) as bare:
        bare.execute("CREATE TABLE schema_migrations (version integer)")
        bare.execute("INSERT INTO schema_migrations VALUES (%s)", [newest[0]])
    async with PostgresReads(dsn) as reads:
        with pytest.raises(StoreUnavailable, match="pgvector"):
            await PostgresSearchStore(reads).scopes("t", None)
