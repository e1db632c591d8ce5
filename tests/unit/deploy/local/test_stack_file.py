"""stack.json as other programs read it."""

import json
from pathlib import Path

from deploy.local import stack_file
from deploy.local.stack_file import RunningProcess, Stack

STACK = Stack(
    gateway="http://127.0.0.1:8080",
    management={"gateway": "http://127.0.0.1:9080"},
    kafka="127.0.0.1:9092",
    postgres="postgresql://u:p@127.0.0.1:5432/tidegate",
    api_key="tg_1_2",
    agent_id="demo-agent",
    agent_secret="s",
    processes=[RunningProcess(name="kafka", pid=12, log="/l/kafka.log")],
)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    stack_file.write(tmp_path, STACK)
    assert stack_file.read(tmp_path) == STACK


def test_the_file_is_for_its_owner_alone_and_has_no_websocket_without_a_fanout(tmp_path: Path) -> None:
    stack_file.write(tmp_path, STACK)
    path = tmp_path / stack_file.NAME
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(json.loads(path.read_text())) == [
        *("gateway", "management", "kafka", "postgres", "api_key", "agent_id", "agent_secret", "processes")
    ]


def test_without_a_file_there_is_no_stack(tmp_path: Path) -> None:
    stack_file.write(tmp_path, STACK)
    stack_file.remove(tmp_path)
    assert stack_file.read(tmp_path) is None
    assert list(tmp_path.iterdir()) == []
