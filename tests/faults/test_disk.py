"""A disk is full, under Postgres or Kafka: nothing accepted is lost or dead-lettered, and space is all it takes."""

import pwd
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from tests.faults.checker import check, check_committed_is_applied
from tests.faults.disk import Disk, needs_root, small_disk
from tests.faults.load import sending
from tests.faults.processes import for_a_while, metric
from tests.faults.records import nothing_dead_lettered
from tests.support.stack import RunningStack, running, wait_until

pytestmark = needs_root

TABLE_MARGIN_MIB = 4
POSTGRES_MIB = 512
KAFKA_MIB = 256
# More than its log's segments that are there already.
WRITE_LOG = "SELECT pg_logical_emit_message(false, 'test', repeat('x', 1024 * 1024)) FROM generate_series(1, 128)"
NOTICED_WITHIN_S = 60.0
FULL_S = 20.0
RETRY_S = 180.0


def test_while_postgres_has_no_room_for_a_row_the_rows_wait(stack: RunningStack, tmp_path: Path) -> None:
    with nothing_dead_lettered(stack), table_on_a_small_disk(stack, "trace_events") as disk:
        before = refusals(stack)
        with sending(stack, tmp_path / "ledger.jsonl") as load:
            disk.fill()
            wait_until(lambda: refusals(stack) > before, timeout_s=NOTICED_WITHIN_S, what="Postgres to refuse a row")
            load.wait_for()
            check_committed_is_applied(stack)
            disk.free()
            load.wait_for()
        found = check(stack, [load.ledger])
    assert load.summary["errors"] == {}
    assert found.stored == found.sent
    assert found.rejected == 0


@pytest.mark.soak
def test_a_postgres_whose_whole_disk_is_full_loses_nothing_and_goes_on_once_there_is_room(
    own_folder: Path, tmp_path: Path
) -> None:
    """Without room for its own log Postgres ends, and does not come up again."""
    with running(own_folder):
        pass
    data = own_folder / "postgres"
    with moved_to_a_small_disk(data, size_mib=POSTGRES_MIB) as disk, running(own_folder) as stack:
        with (
            nothing_dead_lettered(stack),
            # Now, for a full disk may have no room for what Postgres writes when another session begins.
            psycopg.connect(stack.addresses.postgres, autocommit=True) as session,
            sending(stack, tmp_path / "ledger.jsonl") as load,
        ):
            disk.fill()
            wait_until(lambda: refusals(stack) > 0, timeout_s=NOTICED_WITHIN_S, what="Postgres to refuse a row")
            exhaust_the_log(session)
            wait_until(lambda: not stack.is_ready("postgres"), timeout_s=NOTICED_WITHIN_S, what="Postgres to end")
            for_a_while(FULL_S)
            load.wait_for()
            disk.free()
            stack.wait_ready("postgres")
            load.wait_for()
        found = check(stack, [load.ledger])
        assert "No space left on device" in stack.log("postgres")
        assert load.summary["errors"] == {}
        assert found.stored == found.sent


@pytest.mark.soak
def test_a_kafka_whose_disk_is_full_takes_no_event_and_loses_none(own_folder: Path, tmp_path: Path) -> None:
    data = own_folder / "kafka" / "data"
    data.mkdir(parents=True)
    with small_disk(data, size_mib=KAFKA_MIB) as disk, running(own_folder) as stack:
        with sending(stack, tmp_path / "ledger.jsonl", retry_for_s=RETRY_S) as load:
            disk.fill()
            wait_until(lambda: not stack.is_ready("gateway"), timeout_s=NOTICED_WITHIN_S, what="the gateway to refuse")
            load.demand_none(for_s=FULL_S)
            disk.free()
            stack.wait_ready("kafka")
            load.wait_for()
        check(stack, [load.ledger])
        assert "No space left on device" in stack.log("kafka")
        assert load.summary["errors"].keys() == {"LOG_UNAVAILABLE"}


@pytest.fixture
def own_folder(tmp_path: Path) -> Path:
    """Return the folder of a stack that a test breaks for itself."""
    folder = tmp_path / "stack"
    folder.mkdir()
    return folder


@contextmanager
def table_on_a_small_disk(stack: RunningStack, table: str) -> Iterator[Disk]:
    """Let *table*, without its indexes, lie on a disk with a little more room than it needs."""
    name = sql.Identifier(table)
    with (
        tempfile.TemporaryDirectory(prefix="tidegate-test-disk-") as path,  # one that Postgres's account may enter
        psycopg.connect(stack.addresses.postgres, autocommit=True) as database,
    ):
        size = database.execute("SELECT pg_table_size(%s)", (table,)).fetchone()
        assert size
        own(Path(path))
        with small_disk(Path(path), size_mib=size[0] // 1024**2 + TABLE_MARGIN_MIB) as disk:
            database.execute(sql.SQL("CREATE TABLESPACE small LOCATION {}").format(path))
            database.execute(sql.SQL("ALTER TABLE {} SET TABLESPACE small").format(name))
            try:
                yield disk
            finally:
                database.execute(sql.SQL("ALTER TABLE {} SET TABLESPACE pg_default").format(name))
                database.execute("DROP TABLESPACE small")


@contextmanager
def moved_to_a_small_disk(folder: Path, *, size_mib: int) -> Iterator[Disk]:
    """Let *folder* lie on a disk of its own; what it holds is gone afterwards."""
    aside = folder.rename(folder.with_name(f"{folder.name}.aside"))
    folder.mkdir(mode=0o700)
    own(folder)
    with small_disk(folder, size_mib=size_mib) as disk:
        shutil.copytree(aside, folder, dirs_exist_ok=True)
        for path in (folder, *folder.rglob("*")):
            own(path)
        yield disk


def own(path: Path) -> None:
    """Give *path* to the account that the stack's Postgres runs as."""
    account = pwd.getpwnam("nobody")
    shutil.chown(path, account.pw_uid, account.pw_gid)


def exhaust_the_log(session: psycopg.Connection[Any]) -> None:
    """Write to Postgres's own log until there is no room for its next segment: no row of ours gets that far."""
    with pytest.raises(psycopg.OperationalError):
        session.execute(WRITE_LOG)


def refusals(stack: RunningStack) -> float:
    """Return how often a slice waited because Postgres's disk was full."""
    return metric(stack.addresses.management["persistence"], "tidegate_slice_retries_total", error="DiskFull")
