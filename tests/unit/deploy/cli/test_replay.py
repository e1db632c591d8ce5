"""A replay of a group runs the process of that group; one of a group that reads several topics is refused."""

import pytest

from deploy.cli.replay import _processor
from deploy.errors import CommandFailed
from processors.app import PROCESSES
from schemas.catalogue import GROUPS
from schemas.kafka.replays import Replay
from tests.unit.deploy.cli.conftest import Command


@pytest.mark.parametrize("group", [*(group.name for group in GROUPS), "evaluation.example"])
def test_each_group_has_a_process(group: str) -> None:
    assert _processor(Replay(id="x", group=group, starts={}, ends={}, overwrite=False)) in PROCESSES


def test_a_group_of_several_topics_is_refused_with_the_group_to_replay_instead(command: Command) -> None:
    with pytest.raises(CommandFailed, match=r"documents\.embed reads .* several topics.* such as documents\.intake"):
        command("replay", "documents.embed", "--from-start")
