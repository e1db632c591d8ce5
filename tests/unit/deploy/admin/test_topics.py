"""Topics are made, and groups begun, also where the brokers learn of new topics late."""

from collections.abc import Sequence
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest

from deploy.admin import topics
from deploy.errors import NotReachable
from schemas.catalogue import GROUPS
from schemas.kafka.topics import Group
from schemas.runs.topics import EVALUATION, RUN_EVENTS

GROUP = EVALUATION.group("late", delays=["1s"])


class LateAdmin:
    """An admin client whose brokers tell of a topic, and of its leaders, some questions after it was made."""

    def __init__(self, *, untold: int, leaderless: int) -> None:
        self.questions = 0
        self._made_at: dict[str, int] = {}
        self._untold = untold
        self._leaderless = leaderless

    def list_topics(self, timeout: float) -> Any:
        self.questions += 1
        return SimpleNamespace(
            topics={
                name: SimpleNamespace(partitions=self._partitions(self.questions - made_at - self._untold))
                for name, made_at in self._made_at.items()
                if self.questions - made_at > self._untold
            }
        )

    def create_topics(self, new: Sequence[Any], operation_timeout: float) -> dict[str, "Future[None]"]:
        self._made_at |= {each.topic: self.questions for each in new}
        done: Future[None] = Future()
        done.set_result(None)
        return {each.topic: done for each in new}

    def _partitions(self, age: int) -> dict[int, Any]:
        return {0: SimpleNamespace(leader=-1 if age <= self._leaderless else 1, replicas=[1])}


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(topics, "RETRY_S", 0.0)


def given(monkeypatch: pytest.MonkeyPatch, **late: int) -> LateAdmin:
    admin = LateAdmin(**late)
    monkeypatch.setattr(topics, "admin_client", lambda _bootstrap: admin)
    return admin


@pytest.mark.parametrize(
    "late", [{"untold": 0, "leaderless": 0}, {"untold": 3, "leaderless": 0}, {"untold": 2, "leaderless": 2}]
)
def test_topics_are_there_once_they_are_created(monkeypatch: pytest.MonkeyPatch, late: dict[str, int]) -> None:
    admin = given(monkeypatch, **late)
    created = topics.create("broker", [GROUP])
    assert GROUP.dead_letters.name in created
    assert {*created} == {*topics.existing(admin)}  # type: ignore[arg-type]
    assert admin.questions == 1 + sum(late.values()) + 1 + 1  # what is missing; is it told; ours


def test_topics_that_are_never_told_of_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    given(monkeypatch, untold=10**9, leaderless=0)
    monkeypatch.setattr(topics, "TIMEOUT_S", 0.0)
    with pytest.raises(NotReachable, match=RUN_EVENTS.name):
        topics.create("broker", [GROUP])


def test_a_group_whose_topics_are_not_told_of_is_not_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    given(monkeypatch, untold=0, leaderless=0)
    asked: list[Group] = []
    monkeypatch.setattr(topics, "committed", lambda _bootstrap, group, _topic: asked.append(group) or [])
    topics.commit_first_offsets("broker", [GROUP])
    assert {*asked} == {*GROUPS, GROUP}
