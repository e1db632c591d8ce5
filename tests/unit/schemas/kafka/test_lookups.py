"""A lookup finds the broker that has taken over from a dead one."""

from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from schemas.kafka import lookups
from schemas.kafka.cursors import topic_id

ID = "a" * 22


class Admin:
    """A client that sends its requests to a broker that is dead, until it has read the metadata again."""

    def __init__(self, *, unanswered: int) -> None:
        """Leave as many requests unanswered."""
        self.calls: list[str] = []
        self._unanswered = unanswered

    def describe_topics(self, _asked: object, *, request_timeout: float) -> dict[str, Future[Any]]:
        """Answer, or fail as the client does after *request_timeout*."""
        self.calls.append(f"ask within {request_timeout:.0f} s")
        answer: Future[Any] = Future()
        if self._unanswered:
            self._unanswered -= 1
            answer.set_exception(KafkaException(KafkaError(KafkaError._TIMED_OUT)))
        else:
            answer.set_result(SimpleNamespace(topic_id=ID))
        return {"run.events": answer}

    def list_topics(self, *, timeout: float) -> None:
        """Read the metadata."""
        assert timeout > 0
        self.calls.append("read metadata")


def ids(admin: Any, *, timeout_s: float) -> Any:
    return lookups.topic_ids(admin, ["run.events"], timeout_s=timeout_s)


def test_what_is_not_answered_is_asked_again_with_the_metadata_of_now() -> None:
    admin = Admin(unanswered=2)
    assert ids(admin, timeout_s=60) == {"run.events": topic_id(ID)}
    assert admin.calls == ["ask within 1 s", "read metadata", "ask within 2 s", "read metadata", "ask within 4 s"]


def test_an_answer_needs_no_metadata() -> None:
    admin = Admin(unanswered=0)
    ids(admin, timeout_s=60)
    assert admin.calls == ["ask within 1 s"]


def test_a_lookup_ends_when_its_time_is_over() -> None:
    admin = Admin(unanswered=1_000)
    with pytest.raises(KafkaException, match="_TIMED_OUT"):
        ids(admin, timeout_s=0)
    assert len(admin.calls) == 1
