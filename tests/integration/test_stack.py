"""The embedded stack, through the command."""

import dataclasses
import json
import os
import socket
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from signal import SIGKILL
from urllib.parse import urlsplit

import psycopg
import pytest
from confluent_kafka.admin import AdminClient

from deploy.admin import migrate, topics
from deploy.errors import Failed
from deploy.local import lock
from schemas.migrations import Migration, migrations
from schemas.topics import all_topics, subscriptions
from tests.stack import RunningStack, TidegateFailed, running, tidegate, wait_until

NAMES = {"kafka", "postgres", "engine", "gateway", "persistence", "fanout", "maintenance", "evaluation"}


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder for a stack of the test's own; what the test leaves is stopped and deleted."""
    yield tmp_path
    tidegate("down", "--purge", "--dir", str(tmp_path))


def is_alive(pid: int) -> bool:
    """Whether the process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_stack_json_is_true(stack: RunningStack) -> None:
    written = json.loads((stack.folder / "stack.json").read_text())
    assert set(written) == {
        *("gateway", "websocket", "management", "kafka", "postgres", "api_key", "agent_id", "agent_secret", "processes")
    }
    assert {process["name"] for process in written["processes"]} == NAMES
    assert all(is_alive(process["pid"]) and Path(process["log"]).exists() for process in written["processes"])
    assert set(written["management"]) == NAMES - {"kafka", "postgres"}
    assert all(stack.is_ready(name) for name in NAMES)


def test_secrets_are_for_the_owner_alone(stack: RunningStack) -> None:
    for name in ("stack.json", "secrets.json", "settings.json", "credentials.toml"):
        assert (stack.folder / name).stat().st_mode & 0o077 == 0, name


def test_every_topic_is_there_and_every_group_knows_where_to_begin(stack: RunningStack) -> None:
    found = AdminClient({"bootstrap.servers": stack.addresses.kafka}).list_topics(timeout=10).topics
    assert {topic.name for topic in all_topics()} <= set(found)
    for group, topic in subscriptions():
        assert all(place.offset >= 0 for place in topics.committed(stack.addresses.kafka, group, topic))


def test_a_changed_migration_is_refused(stack: RunningStack) -> None:
    [first, *others] = migrations()
    changed = dataclasses.replace(first, sql=first.sql + "-- changed")
    with pytest.raises(Failed, match="an applied step never changes"):
        migrate.apply(stack.addresses.postgres, (changed, *others))


def test_a_migration_that_breaks_leaves_nothing(stack: RunningStack) -> None:
    breaking = Migration(version=9999, slug="breaks", sql="CREATE TABLE half (); SELECT nothing FROM nowhere")
    with pytest.raises(Failed, match="migration 9999_breaks breaks"):
        migrate.apply(stack.addresses.postgres, (*migrations(), breaking))
    with psycopg.connect(stack.addresses.postgres) as session:
        assert session.execute("SELECT to_regclass('half')").fetchone() == (None,)
    assert migrate.missing(stack.addresses.postgres) == []


def test_the_api_key_opens_the_gateway(stack: RunningStack) -> None:
    gateway = urlsplit(stack.addresses.gateway)
    connection = HTTPConnection(gateway.hostname or "", gateway.port, timeout=10)
    connection.request("GET", "/api/runs", headers={"X-API-Key": stack.addresses.api_key})
    assert connection.getresponse().status == 200
    connection.close()


def test_services_may_do_only_what_they_need(stack: RunningStack) -> None:
    """The gateway's login reads; nobody but the owner changes tables."""
    settings = json.loads((stack.folder / "settings.json").read_text())
    for service, statement in (
        ("gateway", "INSERT INTO runs (tenant_id, run_id, started_at, updated_at) VALUES ('x', 'x', now(), now())"),
        ("persistence", "DELETE FROM trace_events"),
        ("maintenance", "DELETE FROM trace_records"),
        ("maintenance", "UPDATE trace_events SET payload = '1'"),
        ("maintenance", "UPDATE runs SET last_seq = 0"),
        ("maintenance", "INSERT INTO runs (tenant_id, run_id, started_at, updated_at) VALUES ('x', 'x', now(), now())"),
    ):
        with (
            psycopg.connect(settings[service]["TIDEGATE_POSTGRES"]) as session,
            pytest.raises(psycopg.errors.InsufficientPrivilege),
        ):
            session.execute(statement)


@pytest.mark.parametrize("name", ["gateway", "persistence", "fanout", "maintenance", "evaluation", "postgres", "kafka"])
def test_a_killed_process_comes_back(stack: RunningStack, name: str) -> None:
    old_pid = stack.kill(name, SIGKILL)
    stack.wait_restarted(name, old_pid)
    for other in NAMES:
        stack.wait_ready(other)
    assert f"{name} was ended by SIGKILL and starts again" in (stack.folder / "up.log").read_text()


def test_restart_gives_a_new_process(stack: RunningStack) -> None:
    old_pid = stack.process("gateway").pid
    stack.command("restart", "gateway")
    assert stack.process("gateway").pid != old_pid
    assert stack.is_ready("gateway")


def test_a_second_stack_in_the_folder_is_refused(stack: RunningStack) -> None:
    with pytest.raises(TidegateFailed, match=r"runs in .* already"):
        stack.command("up", "--ports", "auto")
    assert stack.is_ready("gateway")


def test_the_commands_show_the_stack(stack: RunningStack) -> None:
    status = json.loads(stack.command("status", "--json"))
    assert {process["name"] for process in status["processes"] if process["ready"]} == NAMES
    lag = json.loads(stack.command("lag", "--json"))
    assert {(partition["group"], partition["records"]) for partition in lag} == {
        (group, 0) for group in ("tidegate.persistence", "tidegate.evaluation.default")
    }
    assert json.loads(stack.command("topics", "create", "--json")) == {"created": [], "first_offsets": {}}
    assert json.loads(stack.command("migrate", "--json")) == {"applied": []}
    assert stack.addresses.api_key not in stack.command("config", "show", "--json")
    assert {finding["state"] for finding in json.loads(stack.command("doctor", "--json"))} <= {"ok", "not checked"}


def test_data_survives_and_nothing_outlives_down(folder: Path) -> None:
    with running(folder) as first:
        addresses = first.addresses
        with psycopg.connect(addresses.postgres) as session:
            session.execute("CREATE TABLE kept AS SELECT 'still here' AS words")
    assert not any(is_alive(process.pid) for process in addresses.processes)
    assert not (folder / "stack.json").exists()
    with running(folder) as second:
        assert second.addresses.api_key == addresses.api_key
        with psycopg.connect(second.addresses.postgres) as session:
            assert session.execute("SELECT words FROM kept").fetchone() == ("still here",)


def test_a_killed_supervisor_takes_its_processes_along(folder: Path) -> None:
    with running(folder) as first:
        before = first.addresses.processes
        supervisor = lock.supervisor(folder)
        assert supervisor
        os.kill(supervisor, SIGKILL)
        wait_until(
            lambda: not any(is_alive(process.pid) for process in before), timeout_s=10, what="the processes to end"
        )
        with running(folder) as second:
            assert all(second.is_ready(name) for name in NAMES)


def test_a_taken_port_is_avoided_and_said(folder: Path) -> None:
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            taken.bind(("127.0.0.1", 8080))
            taken.listen()
        except OSError:
            pass  # somebody else has it: just as well
        said = tidegate("up", "--detach", "--dir", str(folder))
    assert "port 8080 is taken: gateway listens on" in said
    assert RunningStack(folder).addresses.gateway != "http://127.0.0.1:8080"


def test_a_failed_start_says_what_failed_and_where_its_log_is(folder: Path) -> None:
    (folder / "postgres").mkdir()
    with pytest.raises(TidegateFailed, match=r"postgres exited with code \d at its start: .* \(log: .*postgres\.log\)"):
        tidegate("up", "--detach", "--dir", str(folder), "--ports", "auto")
    assert lock.supervisor(folder) is None
