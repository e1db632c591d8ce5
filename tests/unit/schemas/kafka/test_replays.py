"""The plan of a replay."""

from pathlib import Path

import pytest

from schemas.kafka import replays
from schemas.kafka.replays import Replay
from schemas.runs.topics import PERSISTENCE, RUN_EVENTS

PLAN = Replay(id="r1", group="persistence", starts={0: 5, 1: 0}, ends={0: 9, 1: 0}, run_id="run-1", overwrite=True)


def test_a_plan_is_read_as_it_was_written(tmp_path: Path) -> None:
    replays.write(tmp_path / "plan.json", PLAN)
    assert replays.read(tmp_path / "plan.json") == PLAN


def test_a_file_that_is_no_plan_is_refused(tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text('{"id": 1}')
    with pytest.raises(ValueError, match="Expected"):
        replays.read(tmp_path / "plan.json")


def test_a_replay_has_a_group_of_its_own_that_reads_the_source_alone() -> None:
    group = PERSISTENCE.replaying(PLAN.id)
    assert (group.id, group.sources) == ("tidegate.persistence.replay.r1", (RUN_EVENTS,))
