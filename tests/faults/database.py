"""What a test does to the database beneath the workers, and finds in it."""

from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import psycopg

from deploy.local import settings_file
from tests.support.stack import RunningStack

SLICE_S = 0.5
# A large slice, row by row, would outlast its transaction: after 4 s it sleeps no more.
SLOW = """
    CREATE OR REPLACE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF clock_timestamp() < statement_timestamp() + interval '4 s' THEN
            PERFORM pg_sleep(TG_ARGV[0]::float);
        END IF;
        RETURN NEW;
    END $$;
    CREATE OR REPLACE TRIGGER slow BEFORE INSERT ON trace_events FOR EACH {each} EXECUTE FUNCTION slow({seconds});
"""


@contextmanager
def slow_database(stack: RunningStack, *, row_s: float | None = None) -> Iterator[None]:
    """Let each slice take half a second to store, so that whatever befalls a worker finds it at work; or each row."""
    each, seconds = ("STATEMENT", SLICE_S) if row_s is None else ("ROW", row_s)
    with psycopg.connect(stack.addresses.postgres, autocommit=True) as database:
        database.execute(SLOW.format(each=each, seconds=seconds))
        try:
            yield
        finally:
            database.execute("DROP TRIGGER slow ON trace_events")


def dsn_through(stack: RunningStack, service: str, address: str) -> str:
    """Return the DSN by which *service* reaches the stack's Postgres at *address* (host:port) instead of its own."""
    settings = settings_file.read(stack.folder)
    assert settings
    own = urlsplit(settings[service]["TIDEGATE_POSTGRES"])
    return own._replace(netloc=f"{own.username}:{own.password}@{address}").geturl()


def stored(stack: RunningStack, run_id: str) -> list[int]:
    """Return the seqs of a run in the order of the log."""
    with psycopg.connect(stack.addresses.postgres) as database:
        rows = database.execute("SELECT seq FROM trace_events WHERE run_id = %s ORDER BY kafka_offset", (run_id,))
        return [seq for (seq,) in rows]
