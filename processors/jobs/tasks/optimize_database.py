"""
The task `maintenance/optimize-database`: ANALYZE, VACUUM and REINDEX of Tidegate's tables, and a report of each.

Everything in the report is measured in this run. What cannot be measured or done is named with the reason, and with
what would mend it.
"""

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from shutil import disk_usage
from time import monotonic
from typing import Any, cast

import psycopg
from psycopg import Connection, sql
from psycopg.rows import dict_row

from processors.jobs.context import Completed, Fail, TaskContext
from schemas.jobs.builtin import OptimizeLevel, OptimizeParameters

LOCK_TIMEOUT_S = 5
BLOAT_MIN = 0.3  # of an index, above which it is built again
INDEX_BYTES_MIN = 10 * 1024 * 1024  # smaller ones are not worth it
FILL_PERCENT = 90  # of the leaves of a new B-tree, unless its fillfactor says otherwise
SPACE_SHARE = 1.2  # of an index's size: what a new one needs beside it
TABLES_REPORTED_MAX = 400
ONLY_SINCE = 180_000  # ANALYZE ONLY
HEAVY_LOCK = "tidegate/optimize-database"

ROLE = """
    SELECT current_user, current_schema(), to_regprocedure('pgstatindex(regclass)') AS pgstatindex,
        pg_has_role(current_user, 'pg_read_all_stats', 'USAGE') AS may_see_sessions,
        coalesce(has_function_privilege(to_regprocedure('pgstatindex(regclass)'), 'EXECUTE'), false) AS may_measure
"""
# Before PostgreSQL 17 only an owner may maintain a table.
TABLES = """
    SELECT class.oid, class.relname AS name, class.relkind = 'p' AS is_parent,
        CASE WHEN %(version)s >= 170000 THEN has_table_privilege(class.oid, %(right)s)
            ELSE pg_has_role(class.relowner, 'USAGE') END AS is_ours
    FROM pg_class AS class
    WHERE class.relnamespace = current_schema()::regnamespace AND class.relkind IN ('r', 'p')
        AND class.relpersistence <> 't' AND (class.relkind = 'r' OR %(version)s >= %(only_since)s)
    ORDER BY class.relname
"""
SIZES = """
    SELECT pg_total_relation_size(%(table)s::oid) AS bytes,
        stats.n_live_tup AS live_rows, stats.n_dead_tup AS dead_rows,
        greatest(stats.last_vacuum, stats.last_autovacuum) AS last_vacuum,
        greatest(stats.last_analyze, stats.last_autoanalyze) AS last_analyze
    FROM (SELECT) AS one LEFT JOIN pg_stat_user_tables AS stats ON stats.relid = %(table)s::oid
"""
# Dead rows stay while anything could still see them.
PINS = """
    SELECT * FROM (
        SELECT 'session' AS kind, pid, application_name AS application, age(backend_xmin) AS age_transactions,
            extract(epoch FROM clock_timestamp() - xact_start)::float8 AS age_s
        FROM pg_stat_activity WHERE backend_xmin IS NOT NULL AND pid <> pg_backend_pid()
      UNION ALL
        SELECT 'prepared transaction', NULL, gid, age(transaction),
            extract(epoch FROM clock_timestamp() - prepared)::float8
        FROM pg_prepared_xacts
      UNION ALL
        SELECT 'replication slot', active_pid, slot_name::text, age(xmin), NULL
        FROM pg_replication_slots WHERE xmin IS NOT NULL
    ) AS pins ORDER BY age_transactions DESC, age_s DESC NULLS LAST LIMIT 1
"""
INDEXES = """
    SELECT index.oid, index.relname AS name, class.relname AS table_name, pg_relation_size(index.oid) AS bytes,
        index.reltablespace <> 0 AS is_elsewhere,
        coalesce((SELECT option_value::float8 FROM pg_options_to_table(index.reloptions)
            WHERE option_name = 'fillfactor'), %(fill)s) AS fill
    FROM pg_index
        JOIN pg_class AS index ON index.oid = indexrelid
        JOIN pg_class AS class ON class.oid = indrelid
        JOIN pg_am ON pg_am.oid = index.relam
    WHERE class.relnamespace = current_schema()::regnamespace AND class.relkind = 'r' AND index.relkind = 'i'
        AND amname = 'btree' AND indisvalid AND class.oid = ANY(%(tables)s)
        AND pg_relation_size(index.oid) > %(bytes_min)s
    ORDER BY bytes DESC
"""
DENSITY = "SELECT leaf_pages, empty_pages, deleted_pages, avg_leaf_density FROM pgstatindex(%s::oid::regclass)"
INDEX_BYTES = "SELECT pg_relation_size(to_regclass(format('%%I.%%I', %s::text, %s::text)))"
# Superusers and members of pg_read_all_settings see it; a server on another machine has no folder here.
DATA_FOLDER = """
    SELECT setting FROM pg_settings
    WHERE name = 'data_directory' AND (inet_server_addr() IS NULL OR inet_server_addr() <<= inet '127.0.0.0/8')
"""

# What may happen to one index, and leaves the others to be done: it may be dropped meanwhile, as old partitions are.
INDEX_ERRORS = (
    psycopg.errors.LockNotAvailable,
    psycopg.errors.UndefinedObject,
    psycopg.errors.UndefinedTable,
    psycopg.errors.InternalError_,
    psycopg.errors.DiskFull,
    psycopg.errors.InsufficientPrivilege,
    psycopg.errors.DeadlockDetected,
)

Row = dict[str, Any]
Session = Connection[Row]


_NO_FIGURES: Row = {"bytes": None, "live_rows": None, "dead_rows": None}
UNMEASURED: Row = {
    "before": _NO_FIGURES,
    "after": _NO_FIGURES,
    "last_vacuum": None,
    "last_analyze": None,
    "dead_rows_pinned_by": None,
}


@dataclass(slots=True)
class _Report:
    """The report so far."""

    level: OptimizeLevel
    tables: list[Row] = field(default_factory=list)
    indexes: list[Row] = field(default_factory=list)
    not_done: list[str] = field(default_factory=list)  # parts that were left out, and why
    dropped: list[str] = field(default_factory=list)  # invalid indexes
    began_s: float = field(default_factory=monotonic)

    def completed(self) -> Completed:
        """Return the whole as the result of the task."""
        done = [each for each in self.tables if each["skipped"] is None]
        summary = {
            "level": self.level.value,
            "tables": len(done),
            "tables_skipped": len(self.tables) - len(done),
            "bytes_before": _sum(done, "before", "bytes"),
            "bytes_after": _sum(done, "after", "bytes"),
            "dead_rows_before": _sum(done, "before", "dead_rows"),
            "dead_rows_after": _sum(done, "after", "dead_rows"),
            "indexes_rebuilt": sum(1 for each in self.indexes if each["skipped"] is None),
            "duration_s": _since(self.began_s),
        }
        result = summary | {
            "not_done": self.not_done,
            "invalid_indexes_dropped": self.dropped,
            "indexes": self.indexes[:TABLES_REPORTED_MAX],
            "tables_not_listed": max(0, len(self.tables) - TABLES_REPORTED_MAX),
            "reports": self.tables[:TABLES_REPORTED_MAX],
        }
        return Completed(result=result, summary=summary)


def run(context: TaskContext, parameters: OptimizeParameters) -> Completed | Fail:
    """Do the work of the level on each table of the schema; return what changed by it."""
    with closing(context.connect(autocommit=True)) as connection:
        session = cast("Session", connection)
        session.row_factory = dict_row  # from here on its rows are read by name
        return _optimize(context, parameters.level, session)


def _optimize(context: TaskContext, level: OptimizeLevel, session: Session) -> Completed | Fail:
    session.execute(sql.SQL("SET lock_timeout = {}").format(f"{LOCK_TIMEOUT_S}s"))
    is_heavy = level is OptimizeLevel.HEAVY
    # The lock is the session's: it ends with this process, whatever becomes of it.
    if is_heavy and not _value(session, "SELECT pg_try_advisory_lock(hashtext(%s))", [HEAVY_LOCK]):
        return Fail(why="another heavy optimization runs: submit this one again when it has ended")
    role = _row(session, ROLE, None)
    version = session.info.server_version
    right = "MAINTAIN" if version >= 170_000 else "TRUNCATE"  # noqa: PLR2004  the first with MAINTAIN
    tables = session.execute(TABLES, {"version": version, "right": right, "only_since": ONLY_SINCE}).fetchall()
    if not any(table["is_ours"] for table in tables):
        return Fail(why=_no_right(role, version))
    report = _Report(level)
    if is_heavy:
        report.dropped += _drop_invalid_indexes(session, report)
    for number, table in enumerate(tables):
        context.progress(number / len(tables), f"table {table['name']}")
        report.tables.append(_table(session, level, table, role))
    if any(each["dead_rows_pinned_by"] for each in report.tables) and not role["may_see_sessions"]:
        report.not_done.append("ages of sessions: hidden from this role: run GRANT pg_read_all_stats TO tidegate_jobs")
    if is_heavy:
        _rebuild_indexes(context, session, report, role, [each["oid"] for each in tables if each["is_ours"]])
        report.dropped += _drop_invalid_indexes(session, report)
        _measure_again(session, report, tables)
    context.progress(1.0, "done")
    return report.completed()


def _no_right(role: Row, version: int) -> str:
    place = f"schema {role['current_schema']}"
    if version < 170_000:  # noqa: PLR2004  the first with MAINTAIN
        return f"{role['current_user']} owns no table of {place}: before PostgreSQL 17 only an owner may VACUUM one"
    return (
        f"{role['current_user']} may maintain no table of {place}: as its owner, run "
        f"GRANT MAINTAIN ON ALL TABLES IN SCHEMA {role['current_schema']} TO tidegate_jobs"
    )


def _table(session: Session, level: OptimizeLevel, table: Row, role: Row) -> Row:
    """Analyze or vacuum one table; return the report of it."""
    began_s = monotonic()
    try:
        before = _row(session, SIZES, {"table": table["oid"]})
        with _notices(session) as notices:
            skipped = _maintain(session, level, table, role)
        after = _row(session, SIZES, {"table": table["oid"]})
    except psycopg.errors.LockNotAvailable as error:  # somebody changes the table itself
        return {"table": table["name"], **UNMEASURED, "duration_s": _since(began_s), "skipped": _text(error)}
    # A warning is how VACUUM says that it left a table out.
    skipped = skipped or next((text for text in notices if "skipping" in text), None)
    return {
        "table": table["name"],
        "before": _figures(before),
        "after": _figures(after),
        "last_vacuum": after["last_vacuum"],
        "last_analyze": after["last_analyze"],
        "duration_s": _since(began_s),
        "skipped": skipped,
        "dead_rows_pinned_by": _pinned_by(session, level, before, after, skipped),
    }


def _maintain(session: Session, level: OptimizeLevel, table: Row, role: Row) -> str | None:
    """Run the statement for one table; return why it was not done, or None."""
    if not table["is_ours"]:
        return f"{role['current_user']} lacks the right: GRANT MAINTAIN ON {table['name']} TO tidegate_jobs"
    name = sql.Identifier(role["current_schema"], table["name"])
    if table["is_parent"]:  # it has no rows of its own; its partitions are vacuumed one by one
        statement = sql.SQL("ANALYZE (SKIP_LOCKED) ONLY {}").format(name)
    elif level is OptimizeLevel.LIGHT:
        statement = sql.SQL("ANALYZE (SKIP_LOCKED) {}").format(name)
    else:
        statement = sql.SQL("VACUUM (ANALYZE, SKIP_LOCKED) {}").format(name)
    try:
        session.execute(statement)
    except (psycopg.errors.LockNotAvailable, psycopg.errors.UndefinedTable) as error:  # a partition may be dropped
        return _text(error)
    return None


def _pinned_by(session: Session, level: OptimizeLevel, before: Row, after: Row, skipped: str | None) -> Row | None:
    """Return what keeps dead rows that VACUUM could not remove; None where it removed some, or none remain."""
    dead_before, dead_after = before["dead_rows"] or 0, after["dead_rows"] or 0
    if level is OptimizeLevel.LIGHT or skipped is not None or not dead_after or dead_after < dead_before:
        return None
    return session.execute(PINS).fetchone()


def _rebuild_indexes(context: TaskContext, session: Session, report: _Report, role: Row, tables: Sequence[int]) -> None:
    """Build bloated indexes of *tables* again, the largest first."""
    if role["pgstatindex"] is None:
        report.not_done.append(
            "indexes: their bloat cannot be measured: run CREATE EXTENSION pgstattuple as a superuser, and "
            "GRANT EXECUTE ON FUNCTION pgstatindex(regclass) TO tidegate_jobs"
        )
        return
    if not role["may_measure"]:
        report.not_done.append(
            "indexes: their bloat cannot be measured: run "
            "GRANT EXECUTE ON FUNCTION pgstatindex(regclass) TO tidegate_jobs as a superuser"
        )
        return
    folder = _data_folder(session)
    if folder is None:
        report.not_done.append(
            "free disk: not checked, since the folder of Postgres cannot be known from here: make sure that there is "
            "space for the largest index twice"
        )
    asked = {"tables": tables, "bytes_min": INDEX_BYTES_MIN, "fill": FILL_PERCENT}
    indexes = session.execute(INDEXES, asked).fetchall()
    for number, index in enumerate(indexes):
        context.progress(number / len(indexes), f"index {index['name']}")
        report.indexes.append(_index(session, index, folder, role))


def _index(session: Session, index: Row, folder: Path | None, role: Row) -> Row:
    """Build one index again if it is bloated; return the report of it."""
    began_s, bloat, bytes_after = monotonic(), None, None
    try:
        bloat = _bloat(session, index)
        skipped = _reason_against(bloat, index, folder)
        if skipped is None:
            name = sql.Identifier(role["current_schema"], index["name"])
            session.execute(sql.SQL("REINDEX INDEX CONCURRENTLY {}").format(name))
            # By its name: it is another one.
            bytes_after = _value(session, INDEX_BYTES, [role["current_schema"], index["name"]])
    except INDEX_ERRORS as error:
        skipped = _text(error)
    return {
        "index": index["name"],
        "table": index["table_name"],
        "bloat_before": None if bloat is None else round(bloat, 4),
        "bytes_before": index["bytes"],
        "bytes_after": bytes_after,
        "duration_s": _since(began_s),
        "skipped": skipped,
    }


def _reason_against(bloat: float | None, index: Row, folder: Path | None) -> str | None:
    """Return why an index is not built again, or None."""
    if bloat is None or bloat <= BLOAT_MIN:
        return f"at most {BLOAT_MIN:.0%} bloated"
    if folder is None or index["is_elsewhere"]:  # in a tablespace, whose disk is another
        return None
    free_bytes, needed_bytes = disk_usage(folder).free, int(index["bytes"] * SPACE_SHARE)
    if free_bytes >= needed_bytes:
        return None
    return f"{free_bytes} bytes of disk are free, and a new index may need {needed_bytes}: free some"


def _measure_again(session: Session, report: _Report, tables: Sequence[Row]) -> None:
    """Let the report of tables with a new index have their size after it."""
    changed = {each["table"] for each in report.indexes if each["skipped"] is None}
    for table, reported in zip(tables, report.tables, strict=True):
        if table["name"] in changed:
            with suppress(psycopg.errors.LockNotAvailable):  # then it has its size before the indexes
                reported["after"] = _figures(_row(session, SIZES, {"table": table["oid"]}))


def _bloat(session: Session, index: Row) -> float | None:
    """Return the share of an index's pages that a new one would not have, 0 to 1; None where it has no leaves."""
    found = _row(session, DENSITY, [index["oid"]])
    pages = found["leaf_pages"] + found["empty_pages"] + found["deleted_pages"]
    if not pages or not found["leaf_pages"]:
        return None
    needed = found["leaf_pages"] * found["avg_leaf_density"] / index["fill"]
    return max(0.0, float(1 - needed / pages))


def _data_folder(session: Session) -> Path | None:
    """Return the folder of the server's data, if it is on this machine and may be known."""
    found = session.execute(DATA_FOLDER).fetchone()
    folder = Path(found["setting"]) if found is not None else None
    with suppress(OSError):
        if folder is not None and folder.is_dir():
            return folder
    return None


def _drop_invalid_indexes(session: Session, report: _Report) -> list[str]:
    """Drop what an earlier REINDEX left behind when it was cut off; return the names."""
    try:
        return list(_value(session, "SELECT drop_invalid_indexes()", None))
    except psycopg.errors.LockNotAvailable as error:
        report.not_done.append(f"invalid indexes: not dropped: {_text(error)}")
        return []


@contextmanager
def _notices(session: Session) -> Iterator[list[str]]:
    found: list[str] = []

    def note(diagnostic: psycopg.errors.Diagnostic) -> None:
        found.append(diagnostic.message_primary or "")

    session.add_notice_handler(note)
    try:
        yield found
    finally:
        session.remove_notice_handler(note)


def _since(began_s: float) -> float:
    return round(monotonic() - began_s, 3)


def _figures(row: Row) -> Row:
    return {name: row[name] for name in ("bytes", "live_rows", "dead_rows")}


def _sum(tables: Sequence[Row], moment: str, name: str) -> int:
    return sum(table[moment][name] or 0 for table in tables)


def _row(session: Session, query: Any, parameters: Any) -> Row:
    found = session.execute(query, parameters).fetchone()
    assert found is not None, "the query always has a row"
    return found


def _value(session: Session, query: Any, parameters: Any) -> Any:
    [value] = _row(session, query, parameters).values()
    return value


def _text(error: psycopg.Error) -> str:
    return error.diag.message_primary or str(error)
