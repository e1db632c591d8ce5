"""`tidegate archive` on a folder: what is listed, printed and proven, and what is said of what is not there."""

import json
from pathlib import Path

import pytest
import typer

from deploy.errors import CommandFailed, NotReachable
from schemas.archive.names import Branch, ObjectName
from schemas.archive.storage import ObstoreArchive
from tests.support.archive import put
from tests.unit.deploy.cli.conftest import Command

NAMES = [
    ObjectName(branch=Branch(topic="user.events", topic_id=topic_id, partition=3), first=first)
    for topic_id, first in (("abc", 0), ("abc", 10), ("old", 0))
]


@pytest.fixture
def location(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder of object storage with three objects, of a topic that was created twice."""
    objects = folder / "objects"
    storage = ObstoreArchive(str(objects))
    for name in NAMES:
        put(storage, name, range(name.first, name.first + 10), timestamp_ms=1000 * name.first)
    monkeypatch.setenv("TIDEGATE_OBJECTS", str(objects))
    return objects


@pytest.mark.usefixtures("location")
def test_objects_are_listed(command: Command) -> None:
    rows = json.loads(command("archive", "ls", "--json"))
    assert [(row["topic_id"], row["first"], row["next"], row["records"]) for row in rows] == [
        ("abc", 0, 10, 10), ("abc", 10, 20, 10), ("old", 0, 10, 10),
    ]  # fmt: skip
    assert json.loads(command("archive", "ls", "run.events", "--json")) == []
    late = json.loads(command("archive", "ls", "--since", "1970-01-01T00:00:05Z", "--json"))
    assert [row["first"] for row in late] == [10]
    assert json.loads(command("archive", "ls", "--partition", "4", "--json")) == []


def test_a_query_names_the_objects(command: Command, location: Path) -> None:
    query = command("archive", "ls", "user.events", "--duckdb")
    assert query.count("\n") == 1
    assert all(f"'{location}/{name.key}'" in query for name in NAMES)
    assert "'record': 'JSON'" in query
    assert command("archive", "ls", "run.events", "--duckdb").startswith("--")


@pytest.mark.usefixtures("location")
def test_records_are_printed_of_one_topic_id(command: Command) -> None:
    with pytest.raises(CommandFailed, match="abc, old"):
        command("archive", "cat", "user.events")
    bounds = ("--topic-id", "abc", "--from-offset", "8", "--to-offset", "12")
    printed = [json.loads(line) for line in command("archive", "cat", "user.events", *bounds, "--json").splitlines()]
    assert [(each["offset"], each["value"]) for each in printed] == [(at, f"value {at}") for at in range(8, 12)]


@pytest.mark.usefixtures("location")
def test_people_are_shown_what_was_decoded(command: Command) -> None:
    said = command("archive", "cat", "user.events", "--topic-id", "abc", "--to-offset", "1")
    assert said.startswith("user.events/3/0  1970-01-01 ")
    assert said.endswith("  not decoded: 7 bytes\n")


def test_faults_end_the_command(command: Command, location: Path) -> None:
    assert json.loads(command("archive", "verify", "--json"))["objects"] == 3
    (location / NAMES[1].key).write_bytes(b"")
    with pytest.raises(CommandFailed, match=f"the first in {NAMES[1].key}"):
        command("archive", "verify", "user.events")
    with pytest.raises(CommandFailed, match="archive verify"):
        command("archive", "ls")


def test_a_gap_is_not_passed_over(command: Command, location: Path) -> None:
    put(ObstoreArchive(str(location)), ObjectName(branch=NAMES[0].branch, first=30), [30])
    with pytest.raises(CommandFailed, match="lacks 20 to 29"):
        command("archive", "cat", "user.events", "--topic-id", "abc")


def test_without_a_stack_the_location_must_be_named(command: Command) -> None:
    with pytest.raises(NotReachable, match="TIDEGATE_OBJECTS"):
        command("archive", "ls")


def test_only_topics_that_can_be_archived_are_known(command: Command, location: Path) -> None:
    assert location
    with pytest.raises((typer.BadParameter, AssertionError), match=r"run\.traces is no topic"):
        command("archive", "ls", "run.traces")
