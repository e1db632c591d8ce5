"""Migration of the tables to the newest version: each step in one transaction, one migrator at a time."""

import psycopg
from psycopg import Connection

from deploy.errors import CommandFailed, NotReachable
from schemas.process.migrations import Migration, migrations

CONNECT_TIMEOUT_S = 10
LOCK_ID = 0x7469646567617465  # "tidegate" in ASCII
LOCK_TIMEOUT = "60s"

# Whoever reads or writes tables checks their version first.
CREATE_HISTORY = """
    CREATE TABLE IF NOT EXISTS schema_migrations (
        version    integer     PRIMARY KEY,
        slug       text        NOT NULL,
        sha256     text        NOT NULL,
        applied_at timestamptz NOT NULL DEFAULT now()
    )
"""
SHOW_HISTORY = "GRANT SELECT ON schema_migrations TO tidegate_read, tidegate_write"
READ_HISTORY = "SELECT version, sha256 FROM schema_migrations"
HAS_HISTORY = "SELECT to_regclass('schema_migrations') IS NOT NULL"
RECORD_STEP = "INSERT INTO schema_migrations (version, slug, sha256) VALUES (%s, %s, %s)"


def apply(dsn: str, steps: tuple[Migration, ...] | None = None) -> list[Migration]:
    """
    Apply what is missing and return it.

    Raises:
        NotReachable: Postgres does not answer.
        CommandFailed: an applied step is not the one in this code, or a step breaks; earlier steps stay applied.
    """
    with _connect(dsn) as session:
        session.execute("SELECT set_config('lock_timeout', %s, false)", [LOCK_TIMEOUT])
        # Of the session: it holds over all steps, and ends with the connection.
        session.execute("SELECT pg_advisory_lock(%s)", [LOCK_ID])
        session.execute(CREATE_HISTORY)
        missing = _missing(session, steps or migrations())
        for step in missing:
            try:
                with session.transaction():
                    session.execute(step.sql.encode())
                    session.execute(RECORD_STEP, [step.version, step.slug, step.sha256])
                    session.execute(SHOW_HISTORY)
            except psycopg.Error as error:
                raise CommandFailed(f"migration {step.version:04}_{step.slug} breaks: {error}") from error
        return missing


def missing(dsn: str) -> list[Migration]:
    """
    Return the steps that are not applied yet.

    Raises:
        NotReachable: Postgres does not answer.
        CommandFailed: an applied step is not the one in this code.
    """
    with _connect(dsn) as session:
        return _missing(session, migrations())


def _connect(dsn: str) -> Connection:
    try:
        return psycopg.connect(dsn, autocommit=True, connect_timeout=CONNECT_TIMEOUT_S)
    except psycopg.OperationalError as error:
        raise NotReachable(f"Postgres does not answer: {str(error).splitlines()[0]}") from error


def _missing(session: Connection, steps: tuple[Migration, ...]) -> list[Migration]:
    found = session.execute(HAS_HISTORY).fetchone()
    applied: dict[int, str] = dict(session.execute(READ_HISTORY).fetchall()) if found and found[0] else {}
    for step in steps:
        if applied.get(step.version, step.sha256) != step.sha256:
            raise CommandFailed(
                f"migration {step.version:04}_{step.slug} is not the one that these tables were made with: "
                "an applied step never changes, add a new one"
            )
    return [step for step in steps if step.version not in applied]
