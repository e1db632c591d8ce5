"""`tidegate sign` and `tidegate env`: for shells and programs that cannot sign by themselves."""

import json
import subprocess
from pathlib import Path

import pytest

from deploy.errors import CommandFailed, NotReachable
from deploy.local import development, stack_file
from deploy.local.stack_file import Stack
from schemas import strictjson
from schemas.access import credentials
from schemas.runs.signature import event_signature_holds
from tests.support.builders import event
from tests.unit.deploy.cli.conftest import Command

STACK = Stack(
    gateway="http://127.0.0.1:8080",
    management={},
    kafka="127.0.0.1:9092",
    postgres="postgresql://o'neil:$(rm)@127.0.0.1/x y",
    api_key="tg_a_b",
    agent_id="demo-agent",
    agent_secret="of no use here",
    processes=[],
)


def secret_of(folder: Path, agent_id: str = "demo-agent") -> str:
    found = credentials.parse((folder / development.CREDENTIALS).read_text())
    return found.tenants["demo"].agents[agent_id].secrets[0]


def holds(line: str, secret: str) -> bool:
    given = strictjson.decode(line)
    assert isinstance(given, dict)
    return event_signature_holds(given, given["meta"]["signature"], [secret])


def test_an_event_is_signed_with_its_agents_secret(folder: Path, command: Command) -> None:
    given = event(payload={"big": 9007199254740993, "price": 1.0, "text": "é\u2028"}, meta={"agent_id": "demo-agent"})
    shown = command("sign", answer=json.dumps(given))
    assert len(shown.splitlines()) == 1 or "\u2028" in shown
    assert holds(shown, secret_of(folder))
    assert json.loads(shown)["payload"] == given["payload"]


def test_the_agent_may_be_named_and_its_old_signature_is_replaced(folder: Path, command: Command) -> None:
    command("agents", "add", "planner")
    given = event(meta={"signature": "old"})
    shown = command("sign", "--agent", "planner", answer=json.dumps(given))
    assert json.loads(shown)["meta"]["agent_id"] == "planner"
    assert holds(shown, secret_of(folder, "planner"))


def test_events_of_a_file_are_signed_a_line_each(folder: Path, command: Command, tmp_path: Path) -> None:
    file = tmp_path / "events.jsonl"
    file.write_text("".join(json.dumps(event(seq, meta={"agent_id": "demo-agent"})) + "\n\n" for seq in (1, 2, 3)))
    lines = command("sign", str(file)).splitlines()
    assert [json.loads(line)["seq"] for line in lines] == [1, 2, 3]
    assert all(holds(line, secret_of(folder)) for line in lines)
    assert [each["seq"] for each in json.loads(command("sign", str(file), "--json"))] == [1, 2, 3]


def test_the_curl_command_survives_the_shell(folder: Path, command: Command) -> None:
    given = event(payload={"text": "it's $HOME `x` \" \\ !"}, meta={"agent_id": "demo-agent"})
    shown = command("sign", "--curl", answer=json.dumps(given))
    words = subprocess.run(
        ["bash", "-c", f'curl() {{ printf "%s\\0" "$@"; }}; GATEWAY=http://g KEY=k; {shown}'],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split("\0")
    assert words[:-2] == [
        *("-i", "http://g/api/runs/run-1/events/", "-H", "X-API-Key: k", "-H", "Content-Type: application/json"),
        "--data-binary",
    ]
    assert holds(words[-2], secret_of(folder))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("", "not a JSON event"),
        ("{", "not a JSON event"),
        ("[]", "an event is a JSON object"),
        ('{"seq": 1}', "an event is a JSON object"),
        ('{"a": 1}\n{"a": ', "line 2"),
        (json.dumps(event(0, actor="NO")), r"/seq: .*; /actor: "),
        (json.dumps(event(meta={"agent_id": "nobody"})), "no such agent"),
        (json.dumps(event(meta={"agent_id": "plain-agent"})), "has no secret"),
        (json.dumps(event()).replace('"reasoning"', '"a", "type": "b"'), "type"),
    ],
)
def test_what_cannot_be_signed_says_why(command: Command, given: str, said: str) -> None:
    with pytest.raises(CommandFailed, match=said):
        command("sign", answer=given)


def test_what_is_no_text_or_no_file_says_so(command: Command) -> None:
    with pytest.raises(CommandFailed, match="not UTF-8 at byte 0"):
        command("sign", answer=b"\xff")
    with pytest.raises(CommandFailed, match="nowhere: No such file"):
        command("sign", "/nowhere")


def test_the_environment_is_quoted_for_the_shell(folder: Path, command: Command) -> None:
    with pytest.raises(NotReachable, match="no stack runs in"):
        command("env")
    stack_file.write(folder, STACK)
    shown = subprocess.run(
        ["sh", "-c", f'{command("env")}\nprintf "%s\\n" "$GATEWAY" "$KEY" "$KAFKA" "$POSTGRES"'],
        capture_output=True,
        text=True,
        check=True,
    )
    assert shown.stdout.splitlines() == [STACK.gateway, STACK.api_key, STACK.kafka, STACK.postgres]
    assert json.loads(command("env", "--json"))["POSTGRES"] == STACK.postgres


def test_the_secret_may_come_from_a_setting_or_the_stack_alone(
    folder: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where this machine has no credentials file."""
    given = json.dumps(event(meta={"agent_id": "demo-agent"}))
    (folder / development.CREDENTIALS).unlink()
    stack_file.write(folder, STACK)
    assert holds(command("sign", answer=given), STACK.agent_secret)
    monkeypatch.setenv("TIDEGATE_AGENT_SECRET", "the-secret-in-a-setting")
    assert holds(command("sign", "--agent", "anybody", answer=given), "the-secret-in-a-setting")


def test_the_newest_secret_signs_after_a_rotation(folder: Path, command: Command) -> None:
    """`stack.json` has the one of the stack's start."""
    stack_file.write(folder, STACK)
    newest = command("agents", "rotate", "demo-agent").strip()
    assert holds(command("sign", answer=json.dumps(event(meta={"agent_id": "demo-agent"}))), newest)
