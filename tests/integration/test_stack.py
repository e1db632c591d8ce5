"""The embedded stack, through the command."""

import dataclasses
import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime
from http.client import HTTPConnection
from pathlib import Path
from secrets import token_hex
from signal import SIGKILL
from urllib.parse import urlsplit

import psycopg
import pytest
from confluent_kafka.admin import AdminClient

from deploy.admin import migrate, topics
from deploy.errors import CommandFailed
from deploy.local import lock
from schemas.catalogue import all_topics, subscriptions
from schemas.process.migrations import Migration, migrations
from tests.faults.processes import free_port
from tests.support.builders import event
from tests.support.stack import RunningStack, TidegateFailed, running, tidegate, wait_until

NAMES = {
    *("kafka", "postgres", "engine", "gateway", "persistence", "events", "fanout", "maintenance", "evaluation"),
    *("jobs-intake", "executor", "documents-intake", "documents-embed", "documents-store"),
}


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Yield a folder for a stack of the test's own; what the test leaves is stopped and deleted."""
    yield tmp_path
    tidegate("down", "--purge", "--dir", str(tmp_path))


def is_alive(pid: int) -> bool:
    """Return whether the process runs; a zombie does not."""
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
        assert all(place.offset >= 0 for place in topics.committed(stack.kafka, group, topic))


def test_a_changed_migration_is_refused(stack: RunningStack) -> None:
    [first, *others] = migrations()
    changed = dataclasses.replace(first, sql=first.sql + "-- changed")
    with pytest.raises(CommandFailed, match="an applied step never changes"):
        migrate.apply(stack.addresses.postgres, (changed, *others))


def test_a_migration_that_breaks_leaves_nothing(stack: RunningStack) -> None:
    breaking = Migration(version=9999, slug="breaks", sql="CREATE TABLE half (); SELECT nothing FROM nowhere")
    with pytest.raises(CommandFailed, match="migration 9999_breaks breaks"):
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


@pytest.mark.parametrize("name", sorted(NAMES - {"engine"}))
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
        (group, 0)
        for group in (
            *("persistence", "events", "evaluation.default", "jobs.intake"),
            *("documents.intake", "documents.embed", "documents.store"),
        )
    }
    assert json.loads(stack.command("topics", "create", "--json")) == {"created": [], "first_offsets": {}}
    assert json.loads(stack.command("migrate", "--json")) == {"applied": []}
    assert stack.addresses.api_key not in stack.command("config", "show", "--json")
    stack.command("restart", "persistence")  # other tests write to the wrong partitions, which it counts
    assert {finding["state"] for finding in json.loads(stack.command("doctor", "--json"))} <= {"ok", "not checked"}


def test_every_line_of_our_processes_is_json_with_its_time(stack: RunningStack) -> None:
    """After each of them, and Kafka and Postgres, were killed above: libraries have said what they had to say."""
    for name in NAMES - {"kafka", "postgres", "engine"}:
        for line in stack.log(name).splitlines():
            assert json.loads(line)["timestamp"].endswith("Z"), f"{name}: {line}"
    for line in (stack.folder / "up.log").read_text().splitlines():
        assert datetime.fromisoformat(line.split()[0]).tzinfo is not None, line


def test_data_survives_and_nothing_outlives_down(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    with running(folder) as first:
        addresses = first.addresses
        with psycopg.connect(addresses.postgres) as session:
            session.execute("CREATE TABLE kept AS SELECT 'still here' AS words")
    assert not any(is_alive(process.pid) for process in addresses.processes)
    assert not (folder / "stack.json").exists()
    environ = named_settings(folder, tmp_path_factory.mktemp("elsewhere"), api_key=addresses.api_key)
    with running(folder, environ={**os.environ, **environ}) as second:
        assert second.addresses.api_key == addresses.api_key
        with psycopg.connect(second.addresses.postgres) as session:
            assert session.execute("SELECT words FROM kept").fetchone() == ("still here",)
        assert_honoured(second, environ)
    said = tidegate("down", "--purge", "--dir", str(folder)).splitlines()
    assert {f"removed {path}" for path in (folder / "kafka", folder / "postgres", folder / "logs", folder)} <= set(said)
    assert f"left {environ['TIDEGATE_OBJECTS']}: TIDEGATE_OBJECTS named it" in said
    assert not folder.exists()
    assert Path(environ["TIDEGATE_CREDENTIALS"]).exists()


def named_settings(folder: Path, elsewhere: Path, *, api_key: str) -> dict[str, str]:
    """Return settings that a stack in *folder* would otherwise choose by itself; files and objects are *elsewhere*."""
    for name in ("credentials.toml", "limits.toml", "retention.toml"):
        (folder / name).rename(elsewhere / name)
    return {
        "TIDEGATE_CREDENTIALS": str(elsewhere / "credentials.toml"),
        "TIDEGATE_API_KEY": api_key,
        "TIDEGATE_LIMITS": str(elsewhere / "limits.toml"),
        "TIDEGATE_RETENTION": str(elsewhere / "retention.toml"),
        "TIDEGATE_OBJECTS": str(elsewhere / "objects"),
        "TIDEGATE_GATEWAY_HOST": "0.0.0.0",
        "TIDEGATE_GATEWAY_PORT": str(free_port()),
        "TIDEGATE_FANOUT_PORT": str(free_port()),
        "TIDEGATE_FANOUT_ORIGINS": "https://pages.example",
        "TIDEGATE_MANAGEMENT_PORT": str(free_port()),
    }


def assert_honoured(stack: RunningStack, environ: dict[str, str]) -> None:
    """Assert that the stack runs by *environ*, in what it says and in what it does."""
    told, known = json.loads((stack.folder / "settings.json").read_text()), stack.addresses
    assert {name: told["gateway"][name] for name in environ} == environ
    assert told["maintenance"]["TIDEGATE_RETENTION"] == environ["TIDEGATE_RETENTION"]
    assert known.gateway == f"http://127.0.0.1:{environ['TIDEGATE_GATEWAY_PORT']}"
    assert known.websocket == f"ws://127.0.0.1:{environ['TIDEGATE_FANOUT_PORT']}"
    assert known.management["gateway"] == f"http://127.0.0.1:{environ['TIDEGATE_MANAGEMENT_PORT']}"
    assert all(stack.is_ready(name) for name in NAMES)
    # The command finds the file that the processes read, without being told where it is.
    made = json.loads(stack.command("keys", "create", "--tenant", "demo", "--right", "read", "--json"))
    assert made["id"] in Path(environ["TIDEGATE_CREDENTIALS"]).read_text()
    wait_until(lambda: status(known.gateway, made["key"]) == 200, timeout_s=10, what="the new key to be accepted")
    assert handshake(known.websocket or "", made["key"], origin="https://pages.example") == 101
    assert handshake(known.websocket or "", made["key"], origin=known.gateway) == 403


def status(gateway: str, key: str) -> int:
    """Return how the gateway answers to *key*."""
    connection = HTTPConnection(urlsplit(gateway).netloc, timeout=10)
    connection.request("GET", "/api/runs", headers={"X-API-Key": key})
    answered = connection.getresponse().status
    connection.close()
    return answered


def handshake(websocket: str, key: str, *, origin: str) -> int:
    """Return how the fanout answers to a page of *origin* that opens a websocket."""
    connection = HTTPConnection(urlsplit(websocket).netloc, timeout=10)
    upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
    given = {"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==", "X-API-Key": key, "Origin": origin}
    connection.request("GET", "/ws/dashboard/", headers=upgrade | given)
    answered = connection.getresponse().status
    connection.close()
    return answered


@pytest.mark.parametrize(
    ("name", "value", "exit_code", "reason"),
    [
        ("TIDEGATE_GATEWAY_PORT", "taken", 1, r"port \d+, which a setting names for gateway, is taken"),
        ("TIDEGATE_GATEWAY_PORT", "http", 2, "TIDEGATE_GATEWAY_PORT='http' must be a port"),
        ("TIDEGATE_FANOUT_HOST", "192.0.2.1", 1, "TIDEGATE_FANOUT_HOST=192.0.2.1: this machine cannot listen"),
        ("TIDEGATE_CREDENTIALS", "/nowhere/c.toml", 1, "/nowhere/c.toml: No such file or directory"),
        ("TIDEGATE_KAFKA", "127.0.0.1:1", 3, r"no Kafka answers at 127.0.0.1:1 \(TIDEGATE_KAFKA\)"),
    ],
)
def test_a_setting_that_cannot_be_honoured_is_refused_with_the_cause_and_the_log(
    folder: Path, name: str, value: str, exit_code: int, reason: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        value = str(taken.getsockname()[1]) if value == "taken" else value
        with pytest.raises(TidegateFailed) as failed:
            tidegate("up", "--detach", "--dir", str(folder), "--ports", "auto", environ={**os.environ, name: value})
    assert f"exit {exit_code}\n" in str(failed.value)
    assert re.search(rf"{reason}.*\(log: {re.escape(str(folder))}/up\.log\)", str(failed.value))


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


def test_the_json_of_every_command_is_data(stack: RunningStack, tmp_path: Path) -> None:
    """Names without blanks, times by RFC 3339, and whatever else a person may want to read in the tables alone."""
    run_id = f"json-{token_hex(8)}"
    event_file = tmp_path / "events.jsonl"
    lines = [json.dumps(event(seq, run_id=run_id)) for seq in (1, 2)]
    event_file.write_text("\n".join(lines))
    sent = json.loads(stack.command("send", "--file", str(event_file), "--workers", "1", "--json"))
    assert (sent["accepted"], sent["errors"]) == (2, {})
    wait_until(lambda: _is_stored(stack, run_id), timeout_s=30, what="the run to be stored")
    for command in (
        *("status", "lag", "doctor", "env", "config show", "topics list", "topics describe run.events"),
        *("topics create", "migrate", "schemas list", "schemas check", "schemas show 1", "keys list", "tenants list"),
        *("agents list", "endpoints list", "dlq list", "dlq list --group evaluation.default", "retention plan"),
        *("replay persistence --from-start --dry-run", "replay evaluation.default --from-start --dry-run"),
        *("dlq redrive --all --dry-run", f"run show {run_id}", f"run export {run_id} --out {tmp_path / 'run.jsonl'}"),
    ):
        arguments = command.split()
        shown = json.loads(
            tidegate(*arguments, "--json") if arguments[0] == "schemas" else stack.command(*arguments, "--json")
        )
        check_data(shown, where=command)
    verified = json.loads(tidegate("run", "verify", str(tmp_path / "run.jsonl"), "--json"))
    check_data(verified, where="run verify")
    for command in ("logs gateway -n 20", "tail run.events --from beginning --count 2"):
        for line in stack.command(*command.split(), "--json").splitlines():
            check_data(json.loads(line), where=command)


def test_tables_are_not_wrapped_in_a_pipe(stack: RunningStack) -> None:
    environ = {**os.environ, "COLUMNS": "40"}
    head, *rows = stack.command("topics", "list", environ=environ).splitlines()
    assert head.split() == ["topic", "partitions", "key", "records"]
    assert len(rows) == len(json.loads(stack.command("topics", "list", "--json")))
    assert all(row.split()[1].isdecimal() for row in rows)


def _is_stored(stack: RunningStack, run_id: str) -> bool:
    try:
        return bool(json.loads(stack.command("run", "show", run_id, "--json"))["run"]["event_count"] == 2)
    except TidegateFailed:
        return False


TIME_LIKE = re.compile(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d")
RFC_3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")


def check_data(shown: object, *, where: str) -> None:
    """Demand that *shown*, the JSON of a command, is data."""
    if isinstance(shown, dict):
        for name, value in shown.items():
            assert re.fullmatch(r"[A-Za-z0-9_.-]+", name), f"{where}: {name!r}"
            check_data(value, where=f"{where}/{name}")
    elif isinstance(shown, list):
        for each in shown:
            check_data(each, where=where)
    elif isinstance(shown, str) and TIME_LIKE.match(shown):
        assert RFC_3339.fullmatch(shown), f"{where}: {shown!r}"


def test_keys_and_agents_work_as_soon_as_they_are_made(stack: RunningStack) -> None:
    """On the gateway and on the live streams, whenever the processes have read the file."""
    agent_id, run_id = f"agent-{token_hex(4)}", f"made-{token_hex(8)}"
    for _ in range(3):
        made = json.loads(
            stack.command("keys", "create", "--tenant", "demo", "--right", "read", "--right", "ingest", "--json")
        )
        headers = {"X-API-Key": made["key"]}
        for address, method, path in (
            (stack.addresses.gateway, "GET", "/api/runs"),
            (_fanout(stack), "POST", "/ws-tickets"),
        ):
            place = urlsplit(address)
            connection = HTTPConnection(place.hostname or "", place.port, timeout=10)
            connection.request(method, path, headers=headers)
            assert connection.getresponse().status == 200
            connection.close()
        stack.command("keys", "revoke", made["id"], "--yes")
    path = f"export PATH={Path(sys.executable).parent}:$PATH"
    send = f'eval "$(tidegate env --dir {stack.folder})"; tidegate sign --curl --dir {stack.folder} | bash'
    for seq, command in enumerate(("add", "rotate", "rotate"), 1):
        stack.command("agents", command, agent_id)
        script = f"export {path}; export GATEWAY KEY; {send}"
        given = json.dumps(event(seq, run_id=run_id, meta={"agent_id": agent_id}))
        done = subprocess.run(
            ["bash", "-c", script], input=given, capture_output=True, text=True, check=True, timeout=60
        )
        assert "202 Accepted" in done.stdout, done.stdout + done.stderr
    stack.command("agents", "remove", agent_id, "--yes")


def _fanout(stack: RunningStack) -> str:
    assert stack.addresses.websocket
    return stack.addresses.websocket.replace("ws://", "http://")


def test_an_agent_that_does_not_exist_is_named_as_such(stack: RunningStack) -> None:
    with pytest.raises(TidegateFailed, match=r"FORBIDDEN 1 \(no such agent: the tenant has no agent 'nobody'"):
        stack.command("send", "--burst", "1", "--agent", "nobody")
    with pytest.raises(TidegateFailed, match=r"no such agent: .* has no agent nobody; it has: demo-agent, plain-agent"):
        stack.command("send", "--burst", "1", "--sign", "--agent", "nobody")


@pytest.mark.parametrize("name", ["gateway", "persistence", "fanout", "evaluation"])
def test_a_process_does_not_start_with_an_exposed_file_of_secrets(
    stack: RunningStack, tmp_path: Path, name: str
) -> None:
    settings = json.loads((stack.folder / "settings.json").read_text())[name]
    exposed = tmp_path / "credentials.toml"
    exposed.write_text((stack.folder / "credentials.toml").read_text())
    exposed.chmod(0o644)
    module = ["gateway"] if name == "gateway" else ["processors", name]
    endpoint = ["--endpoint", "default"] if name == "evaluation" else []
    command = [sys.executable, "-P", "-m", *module, *endpoint]
    done = subprocess.run(
        command,
        env={**os.environ, **settings, "TIDEGATE_CREDENTIALS": str(exposed), "TIDEGATE_MANAGEMENT_PORT": "0"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    last = json.loads(done.stderr.splitlines()[-1])
    assert (done.returncode, last["event"]) == (78, "not started")
    assert f"chmod 600 {exposed}" in last["error"]
