"""The archive on a real stack: what is in it, how its faults are found, and how records come back from it."""

import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import psycopg
import pytest

from deploy.local import folders
from schemas.archive.names import PREFIX
from schemas.events.topics import EVENTS, USER_EVENTS
from tests.support.archiving import GROUP, PROCESS, archiving_stack, check_archive, lines, produce
from tests.support.lag import wait_until_handled
from tests.support.log import read_topic
from tests.support.stack import RunningStack, TidegateFailed

RECORDS = 400
ROWS = "SELECT kafka_partition, kafka_offset, event_id FROM events ORDER BY 1, 2"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    """Yield a stack whose user events are archived."""
    with archiving_stack(tmp_path_factory.mktemp("archive")) as started:
        produce(started, RECORDS, poison=True)
        wait_until_handled(started, GROUP)
        yield started


def paths(stack: RunningStack) -> list[Path]:
    """Return the files of the objects, in order."""
    return sorted((stack.folder / folders.OBJECTS / PREFIX).rglob("*.jsonl.zst"))


def test_each_record_is_archived_once_and_as_it_was(stack: RunningStack) -> None:
    check_archive(stack)
    produce(stack, 50)
    wait_until_handled(stack, GROUP)
    check_archive(stack)
    said = json.loads(stack.command("archive", "verify", "--json"))
    assert (said["records"], said["faults"]) == (len(read_topic(stack, USER_EVENTS)), [])


def test_objects_are_listed_and_printed(stack: RunningStack) -> None:
    rows = json.loads(stack.command("archive", "ls", "user.events", "--json"))
    assert sum(row["records"] for row in rows) == len(read_topic(stack, USER_EVENTS))
    assert len(rows) == len(paths(stack))
    partition = rows[0]["partition"]
    of_partition = [row for row in rows if row["partition"] == partition]
    for before, after in pairwise(of_partition):
        assert before["next"] == after["first"]
    first, end = of_partition[0]["first"] + 1, of_partition[-1]["next"] - 1
    bounds = ("--partition", str(partition), "--from-offset", str(first), "--to-offset", str(end))
    printed = [
        json.loads(line) for line in stack.command("archive", "cat", "user.events", *bounds, "--json").splitlines()
    ]
    stored = [line.offset for of_object in lines(stack)[partition].values() for line in of_object]
    assert [each["offset"] for each in printed] == [each for each in stored if first <= each < end]
    assert stack.command("archive", "cat", "user.events", "--until", "2020-01-01T00:00:00Z") == ""
    query = stack.command("archive", "ls", "user.events", "--duckdb")
    assert query.startswith("SELECT * FROM read_json(['/")
    assert str(paths(stack)[0]) in query


@pytest.mark.parametrize("fault", ["flipped", "truncated", "missing in the middle", "missing at the end"])
def test_each_fault_is_found_and_named(stack: RunningStack, fault: str) -> None:
    of_folder: dict[Path, list[Path]] = {}
    while max(map(len, of_folder.values()), default=0) < 3:
        produce(stack, 100)
        wait_until_handled(stack, GROUP)
        for path in paths(stack):
            of_folder.setdefault(path.parent, [])
            if path not in of_folder[path.parent]:
                of_folder[path.parent].append(path)
    chain = max(of_folder.values(), key=len)
    broken = chain[-1] if fault == "missing at the end" else chain[1]
    whole = broken.read_bytes()
    try:
        if fault == "flipped":
            broken.write_bytes(whole[:200] + bytes([whole[200] ^ 1]) + whole[201:])
        elif fault == "truncated":
            broken.write_bytes(whole[:-30])
        else:
            broken.unlink()
        with pytest.raises(TidegateFailed, match="not whole") as failure:
            stack.command("archive", "verify", "user.events", "--json")
        key = str(broken.relative_to(stack.folder / folders.OBJECTS))
        assert f'"object": "{key}"' in str(failure.value)
        kind = "missing" if fault.startswith("missing") else "damaged"
        assert f'"kind": "{kind}"' in str(failure.value)
        if fault in ("missing in the middle", "truncated"):
            with pytest.raises(TidegateFailed, match="archive"):
                stack.command("replay", EVENTS.name, "--from-archive", "--from-start", "--yes")
    finally:
        broken.write_bytes(whole)
    stack.command("archive", "verify")


def test_records_come_back_at_their_own_places(stack: RunningStack) -> None:
    stack.command("send", "--events", "--burst", "200")
    for group in (EVENTS, GROUP):
        wait_until_handled(stack, group)
    with psycopg.connect(stack.addresses.postgres, autocommit=True) as database:
        before = database.execute(ROWS).fetchall()
        assert len(before) >= 200
        database.execute("DELETE FROM events")
        said = json.loads(stack.command("replay", EVENTS.name, "--from-archive", "--from-start", "--yes", "--json"))
        assert said["records"] == len([line for of in lines(stack).values() for each in of.values() for line in each])
        wait_until_handled(stack, EVENTS)
        assert database.execute(ROWS).fetchall() == before
        stack.command("replay", EVENTS.name, "--from-archive", "--from-start", "--yes")
        wait_until_handled(stack, EVENTS)
        assert database.execute(ROWS).fetchall() == before, "again does no harm"


def test_what_the_archive_lacks_is_not_asked_of_it(stack: RunningStack) -> None:
    with pytest.raises(TidegateFailed, match="not in the archive"):
        stack.command("replay", EVENTS.name, "--from-archive", "--from-offset", "0", "--to", "1000000", "--dry-run")
    with pytest.raises(TidegateFailed, match="is not replayed"):
        stack.command("replay", GROUP.name, "--from-start")


def test_a_worker_that_is_ended_leaves_the_rest_to_its_successor(stack: RunningStack) -> None:
    pid = stack.kill(PROCESS)
    produce(stack, 100)
    stack.wait_restarted(PROCESS, pid)
    wait_until_handled(stack, GROUP)
    check_archive(stack)
