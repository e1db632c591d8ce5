"""A replay of a group runs the process of that group."""

import pytest

from deploy.cli.replay import _processor
from processors.app import PROCESSES
from schemas.catalogue import GROUPS
from schemas.kafka.replays import Replay


@pytest.mark.parametrize("group", [*(group.name for group in GROUPS), "evaluation.example"])
def test_each_group_has_a_process(group: str) -> None:
    assert _processor(Replay(id="x", group=group, starts={}, ends={}, overwrite=False)) in PROCESSES
