"""A lookup finds the broker that has taken over from a dead one, and the current leader epoch."""

from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from schemas.kafka import lookups
from schemas.kafka.cursors import topic_id

ID = "a" * 22


class Admin:
    """A client whose requests fail because of outdated metadata, until it has read the metadata again."""

    def __init__(self, *, failing: int, code: int = KafkaError._TIMED_OUT) -> None:
        """Let the first *failing* requests fail with *code*."""
        self.calls: list[str] = []
        self._failing = failing
        self._code = code

    def describe_topics(self, _asked: object, *, request_timeout: float) -> dict[str, Future[Any]]:
        """Answer, or fail as the client does after *request_timeout*."""
        self.calls.append(f"ask within {request_timeout:.0f} s")
        answer: Future[Any] = Future()
        if self._failing:
            self._failing -= 1
            answer.set_exception(KafkaException(KafkaError(self._code)))
        else:
            answer.set_result(SimpleNamespace(topic_id=ID))
        return {"run.events": answer}

    def list_topics(self, *, timeout: float) -> None:
        """Read the metadata."""
        assert timeout > 0
        self.calls.append("read metadata")


def ids(admin: Any, *, timeout_s: float) -> Any:
    return lookups.topic_ids(admin, ["run.events"], timeout_s=timeout_s)


@pytest.mark.parametrize(
    "code",
    [
        KafkaError._TIMED_OUT,
        KafkaError._NOENT,
        KafkaError.FENCED_LEADER_EPOCH,
        KafkaError.UNKNOWN_LEADER_EPOCH,
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.LEADER_NOT_AVAILABLE,
    ],
)
def test_a_request_that_failed_by_outdated_metadata_is_sent_again_with_fresh_metadata(code: int) -> None:
    admin = Admin(failing=2, code=code)
    assert ids(admin, timeout_s=60) == {"run.events": topic_id(ID)}
    assert admin.calls == ["ask within 1 s", "read metadata", "ask within 2 s", "read metadata", "ask within 4 s"]


def test_an_answer_needs_no_metadata() -> None:
    admin = Admin(failing=0)
    ids(admin, timeout_s=60)
    assert admin.calls == ["ask within 1 s"]


def test_a_lookup_ends_when_its_time_is_over() -> None:
    admin = Admin(failing=1_000)
    with pytest.raises(KafkaException, match="_TIMED_OUT"):
        ids(admin, timeout_s=0)
    assert len(admin.calls) == 1


def test_an_error_that_fresh_metadata_cannot_fix_is_raised_at_once() -> None:
    admin = Admin(failing=1, code=KafkaError.TOPIC_AUTHORIZATION_FAILED)
    with pytest.raises(KafkaException, match="TOPIC_AUTHORIZATION_FAILED"):
        ids(admin, timeout_s=60)
    assert len(admin.calls) == 1
