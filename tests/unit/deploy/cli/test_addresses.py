"""Where a command finds what it works on."""

from pathlib import Path

import pytest

from deploy.cli import addresses
from deploy.errors import NotReachable
from deploy.local import stack_file
from deploy.local.stack_file import Stack

STACK = Stack(
    gateway="http://127.0.0.1:8080",
    management={},
    kafka="127.0.0.1:9092",
    postgres="postgresql://127.0.0.1/tidegate",
    api_key="tg_1_2",
    agent_id="demo-agent",
    agent_secret="s",
    processes=[],
)


def test_the_running_stack_is_found(tmp_path: Path) -> None:
    stack_file.write(tmp_path, STACK)
    known = addresses.read(tmp_path, {})
    assert (str(known.kafka), known.need("gateway")) == (STACK.kafka, STACK.gateway)


def test_a_setting_wins_over_the_stack(tmp_path: Path) -> None:
    stack_file.write(tmp_path, STACK)
    known = addresses.read(tmp_path, {"TIDEGATE_KAFKA": "kafka.example:9092"})
    assert str(known.kafka) == "kafka.example:9092"
    assert known.need("postgres") == STACK.postgres


def test_an_unknown_address_says_how_to_make_it_known(tmp_path: Path) -> None:
    with pytest.raises(NotReachable, match="`tidegate up` or set TIDEGATE_POSTGRES"):
        addresses.read(tmp_path, {"TIDEGATE_KAFKA": "kafka.example:9092"}).need("postgres")
