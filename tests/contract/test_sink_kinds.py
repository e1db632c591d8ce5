"""Contract of sinks: files, a receiver over HTTP, a table and a class hold it alike, and keep each record they took."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from secrets import token_hex
from time import time
from typing import Any

import psycopg
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from psycopg import sql

from processors.outbound.sending import Poster
from processors.runtime.errors import Misconfigured, Transient
from processors.sinks.checking import CHECKS, Samples
from processors.sinks.contract import BatchRefused, Sink
from processors.sinks.guarding import GuardedSink
from processors.sinks.kinds.http import HttpWriter
from processors.sinks.kinds.jsonl import JsonlWriter
from processors.sinks.kinds.postgres import PostgresWriter
from schemas.outbound.connector import connector
from schemas.sinks.sinks_file import HttpSink, JsonlSink, PostgresSink
from tests.support.sinks import RecordingSink, batch
from tests.support.stack import RunningStack

TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class Case:
    """A sink, and the records that it keeps, by partition in the order that it has of them; copies counted once."""

    sink: Sink
    kept: Callable[[], Awaitable[Mapping[int, list[dict[str, Any]]]]]


@pytest.fixture(params=["class", "http", "jsonl", "postgres"])
async def case(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Case]:
    makers = {"class": _class, "http": _http, "jsonl": lambda: _jsonl(tmp_path)}
    if request.param == "postgres":
        stack: RunningStack = request.getfixturevalue("stack")
        making = _postgres(stack)
    else:
        making = makers[request.param]()
    async with making as made:
        await made.sink.open({})
        yield made
        await made.sink.close()


@asynccontextmanager
async def _class() -> AsyncIterator[Case]:
    sink = RecordingSink()

    async def kept() -> Mapping[int, list[dict[str, Any]]]:
        return _by_partition([record.event for each in sink.asked for record in each.records])

    yield Case(sink, kept)


@asynccontextmanager
async def _jsonl(folder: Path) -> AsyncIterator[Case]:
    async def kept() -> Mapping[int, list[dict[str, Any]]]:
        texts = [path.read_text() for path in _open_files(folder)]
        return _by_partition([json.loads(line) for text in texts for line in text.splitlines()])

    yield Case(JsonlWriter(JsonlSink(folder=str(folder)), clock_s=time), kept)


def _open_files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*@*/*/*.open"))


@asynccontextmanager
async def _http() -> AsyncIterator[Case]:
    events: list[dict[str, Any]] = []

    async def take(request: web.Request) -> web.Response:
        events.extend(await request.json())
        return web.json_response({"refused": []})

    async def kept() -> Mapping[int, list[dict[str, Any]]]:
        return _by_partition(events)

    app = web.Application(client_max_size=16 * 1024 * 1024)
    app.router.add_post("/", take)
    server = TestServer(app, host="127.0.0.1")
    await server.start_server()
    sink = HttpSink(url=f"http://127.0.0.1:{server.port}/", gzip=True)
    poster = Poster(connector(internal_allowed=True), internal_allowed=True, clock=lambda: datetime.now(UTC))
    try:
        yield Case(HttpWriter(lambda: sink, poster=poster, clock=lambda: datetime.now(UTC)), kept)
    finally:
        await server.close()


@asynccontextmanager
async def _postgres(stack: RunningStack) -> AsyncIterator[Case]:
    dsn, table = stack.addresses.postgres, f"sink_{token_hex(6)}"
    select = sql.SQL('SELECT event FROM {} ORDER BY partition, "offset"').format(sql.Identifier(table))

    async def kept() -> Mapping[int, list[dict[str, Any]]]:
        async with await psycopg.AsyncConnection.connect(dsn) as connection:
            rows = await (await connection.execute(select)).fetchall()
        return _by_partition([row[0] for row in rows])

    try:
        yield Case(PostgresWriter(PostgresSink(dsn=dsn, table=table)), kept)
    finally:
        async with await psycopg.AsyncConnection.connect(dsn) as connection:
            await connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(sql.Identifier(table)))


def _by_partition(events: list[dict[str, Any]]) -> Mapping[int, list[dict[str, Any]]]:
    found: dict[int, dict[str, dict[str, Any]]] = {}
    for event in events:
        found.setdefault(int(event["place"].split("/")[1]), {}).setdefault(event["place"], event)
    return {partition: list(by_place.values()) for partition, by_place in found.items()}


@pytest.mark.parametrize("check", CHECKS)
async def test_each_kind_passes_each_check(case: Case, check: str) -> None:
    await CHECKS[check](GuardedSink(case.sink, timeout_s=TIMEOUT_S), Samples(100))


async def test_what_was_taken_is_kept_once_and_in_order(case: Case) -> None:
    guarded = GuardedSink(case.sink, timeout_s=TIMEOUT_S)
    batches = [batch(0, 1, 2), batch(0, 1, 2), batch(1, 2), batch(3), batch(4, 5, 6, partition=1), batch(4, 5)]
    for each in batches:
        assert list(await guarded.write(each)) == []
    kept = await case.kept()
    assert kept[0] == [record.event for record in batch(0, 1, 2, 3, 4, 5).records]
    assert kept[1] == [record.event for record in batch(4, 5, 6, partition=1).records]


async def test_a_write_that_was_cancelled_leaves_nothing_half_done(case: Case) -> None:
    guarded = GuardedSink(case.sink, timeout_s=TIMEOUT_S)
    whole = batch(*range(50))
    for pause_s in (0.0, 0.001, 0.005):
        task = asyncio.create_task(guarded.write(whole))
        await asyncio.wait({task}, timeout=pause_s)
        task.cancel()
        await asyncio.wait({task})
    await guarded.write(whole)
    assert (await case.kept())[0] == [record.event for record in whole.records]


@asynccontextmanager
async def _writer(dsn: str, table: str) -> AsyncIterator[PostgresWriter]:
    writer = PostgresWriter(PostgresSink(dsn=dsn, table=table))
    await writer.open({})
    try:
        yield writer
    finally:
        await writer.close()


async def test_a_database_that_lets_nobody_in_holds_the_sink(stack: RunningStack) -> None:
    wrong = psycopg.conninfo.make_conninfo(stack.addresses.postgres, dbname=f"no_{token_hex(4)}")
    async with _writer(wrong, "events") as writer:
        with pytest.raises(Misconfigured, match="does not exist"):
            await writer.write(batch(0))


async def test_a_table_of_another_kind_holds_the_sink(stack: RunningStack) -> None:
    async with _writer(stack.addresses.postgres, "trace_events") as writer:
        with pytest.raises(Misconfigured, match="42"):
            await writer.write(batch(0))


async def test_a_database_that_is_away_is_waited_for() -> None:
    async with _writer("postgresql://127.0.0.1:1/none", "events") as writer:
        with pytest.raises(Transient) as raised:
            await writer.write(batch(0))
    assert not isinstance(raised.value, Misconfigured)


async def test_what_a_column_of_the_table_refuses_is_refused(stack: RunningStack) -> None:
    table = f"sink_{token_hex(6)}"
    name = sql.Identifier(table)
    create = sql.SQL(
        'CREATE TABLE {} (topic text, topic_id text, partition int, "offset" bigint, event json '
        "CHECK ((event->'payload'->>'n')::int < 2), PRIMARY KEY (topic_id, partition, \"offset\"))"
    ).format(name)
    async with await psycopg.AsyncConnection.connect(stack.addresses.postgres, autocommit=True) as connection:
        await connection.execute(create)
        try:
            async with _writer(stack.addresses.postgres, table) as writer:
                await writer.write(batch(0, 1))
                with pytest.raises(BatchRefused, match="23514"):
                    await writer.write(batch(1, 2))
                await writer.write(batch(1))
        finally:
            await connection.execute(sql.SQL("DROP TABLE {}").format(name))
