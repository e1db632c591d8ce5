"""How long Postgres is waited for, and which sessions are used again, against a server that a test scripts."""

import asyncio
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import psycopg
import pytest
from psycopg import AsyncConnection, errors
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from schemas.process.postgres import BoundedConnection, NoAnswer, borrowed, check_alive, cut_off, is_sound_after

STARTUP = 196608  # version 3.0 of the protocol; other codes ask for TLS or GSS
SOON_S = 0.05


def message(kind: bytes, body: bytes = b"") -> bytes:
    return kind + struct.pack("!i", 4 + len(body)) + body


READY = message(b"Z", b"I")
WELCOME = (
    message(b"R", struct.pack("!i", 0))
    + message(b"S", b"server_version\x0018.0\0")
    + message(b"S", b"client_encoding\0UTF8\0")
    + message(b"K", struct.pack("!ii", 1, 1))
    + READY
)
DONE = message(b"C", b"SELECT 0\0") + READY


def failing(state: str) -> bytes:
    return message(b"E", f"SERROR\0VERROR\0C{state}\0Mno\0\0".encode()) + READY


class Server:
    """Speaks as much of Postgres' protocol as a session needs; silent where the test has no answer."""

    def __init__(self, answer: Callable[[int], bytes | None] = lambda _session: None) -> None:
        self.answer = answer  # to a statement of the session of that number
        self.sessions = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            await self._serve(reader, writer)
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        code = 0
        while code != STARTUP:
            size, code = struct.unpack("!ii", await reader.readexactly(8))
            await reader.readexactly(size - 8)
            if code != STARTUP:
                writer.write(b"N")  # neither TLS nor GSS
        self.sessions += 1
        session = self.sessions
        writer.write(WELCOME)
        while True:
            kind, size = struct.unpack("!ci", await reader.readexactly(5))
            await reader.readexactly(size - 4)
            if kind in b"QS" and (answer := self.answer(session)) is not None:
                writer.write(answer)


@asynccontextmanager
async def serving(server: Server) -> AsyncIterator[str]:
    sessions: list[asyncio.Task[None]] = []

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        sessions.append(asyncio.create_task(server.serve(reader, writer)))

    listening = await asyncio.start_server(accept, "127.0.0.1", 0)
    try:
        yield f"postgresql://u@127.0.0.1:{listening.sockets[0].getsockname()[1]}/d"
    finally:
        listening.close()
        await asyncio.gather(*sessions)  # each ends with its client


@asynccontextmanager
async def pool_of(dsn: str, *, wait_s: float = 5.0) -> AsyncIterator[AsyncConnectionPool[AsyncConnection]]:
    pool = AsyncConnectionPool(
        dsn, min_size=1, max_size=1, open=False, timeout=wait_s, kwargs={"autocommit": True}, check=check_alive
    )
    async with pool:
        yield pool


def silent_at_first(sessions: int) -> Callable[[int], bytes | None]:
    """Return a server that froze, and answers only on sessions that are opened later."""
    return lambda session: None if session <= sessions else DONE


async def test_a_server_that_never_answers_costs_the_time_that_is_given() -> None:
    """Regression: psycopg waits for the server to confirm a cancellation, which a frozen one never does."""
    statements = iter([DONE])  # the check, then nothing
    async with serving(Server(lambda _: next(statements, None))) as dsn, pool_of(dsn) as pool:
        with pytest.raises(NoAnswer, match=r"within 0\.05 s"):
            async with borrowed(pool, within_s=SOON_S) as (connection, _):
                await connection.execute("SELECT 1")


async def test_what_was_cut_off_is_replaced() -> None:
    statements = iter([DONE, None])
    server = Server(lambda session: next(statements) if session == 1 else DONE)
    async with serving(server) as dsn, pool_of(dsn) as pool:
        with pytest.raises(NoAnswer):
            async with borrowed(pool, within_s=SOON_S) as (connection, _):
                await connection.execute("SELECT 1")
        async with borrowed(pool, within_s=5.0) as (connection, _):
            await connection.execute("SELECT 1")
    assert server.sessions == 2


async def test_a_connection_that_froze_in_the_pool_is_not_lent() -> None:
    """Regression: the pool's own check waits for ever."""
    server = Server(silent_at_first(1))
    async with serving(server) as dsn, pool_of(dsn) as pool, borrowed(pool, within_s=5.0) as (connection, _):
        await connection.execute("SELECT 1")
    assert server.sessions == 2


async def test_a_frozen_server_gives_no_connection_in_time() -> None:
    async with serving(Server()) as dsn, pool_of(dsn, wait_s=SOON_S) as pool:
        with pytest.raises(PoolTimeout):
            async with borrowed(pool, within_s=5.0):
                pass


async def test_each_step_may_have_the_whole_time() -> None:
    async with serving(Server(lambda _: DONE)) as dsn, pool_of(dsn) as pool:
        async with borrowed(pool, within_s=60.0) as (connection, deadline):
            deadline.extend()
            await connection.execute("SELECT 1")
        assert not deadline.passed
        assert not connection.closed


@pytest.mark.parametrize(
    ("state", "sessions"),
    [
        ("23505", 1),  # unique_violation
        ("22003", 1),  # numeric_value_out_of_range
        ("40P01", 1),  # deadlock_detected
        ("57014", 1),  # query_canceled
        ("25006", 2),  # read_only_sql_transaction: the session is of an old primary
        ("26000", 2),  # invalid_sql_statement_name: what it had prepared is gone
        ("0A000", 2),  # feature_not_supported: cached plan must not change result type
        ("42501", 2),  # insufficient_privilege
        ("XX000", 2),  # internal_error
    ],
)
async def test_a_session_that_may_have_gone_bad_is_not_used_again(state: str, sessions: int) -> None:
    statements = iter([DONE, failing(state)])
    server = Server(lambda _: next(statements, DONE))
    async with serving(server) as dsn, pool_of(dsn) as pool:
        with pytest.raises(errors.lookup(state)):
            async with borrowed(pool, within_s=5.0) as (connection, _):
                await connection.execute("SELECT 1")
        async with borrowed(pool, within_s=5.0) as (connection, _):
            await connection.execute("SELECT 1")
    assert server.sessions == sessions


def test_a_lost_connection_is_not_sound_and_a_value_that_cannot_be_sent_is() -> None:
    assert not is_sound_after(psycopg.OperationalError("lost"))
    assert is_sound_after(psycopg.DataError("NUL"))


async def test_a_session_of_its_own_has_a_bound_for_each_answer() -> None:
    class Impatient(BoundedConnection[tuple[object, ...]]):
        answer_s = SOON_S

    async with serving(Server()) as dsn:
        connection = await Impatient.connect(dsn, autocommit=True)
        with pytest.raises(NoAnswer):
            await connection.execute("SELECT 1")
        assert connection.broken
        await connection.close()


async def test_to_cut_off_what_is_closed_changes_nothing() -> None:
    async with serving(Server()) as dsn:
        connection = await AsyncConnection.connect(dsn, autocommit=True)
        await connection.close()
        cut_off(connection)
