"""Whether a position still stands for what a group has handled, by what the log holds now."""

from collections.abc import Callable
from dataclasses import replace

import msgspec
import pytest

from schemas.kafka.positions import (
    Mark,
    PartitionLog,
    Position,
    PositionFault,
    accepted_metadata,
    digest,
    fault,
    is_accepted,
    metadata,
)

MARK = Mark(topic="AbCdEfGhIjKlMnOpQrStUv", offset=11, epoch=3, digest="d11")
POSITION = Position(offset=12, metadata=metadata(MARK))
LOG = PartitionLog(topic=MARK.topic, first=0, stable_end=20, end=20, epoch=3)


def records(**digests: str) -> Callable[[int], str | None]:
    return lambda offset: digests.get(f"at_{offset}")


def unread(_offset: int) -> str | None:
    pytest.fail("the log was read")


def test_a_log_of_the_same_epoch_was_not_cut_off_and_is_not_read() -> None:
    assert fault(POSITION, LOG, unread) is None


def test_a_later_epoch_alone_says_nothing() -> None:
    assert fault(POSITION, replace(LOG, epoch=4), records(at_11="d11")) is None


@pytest.mark.parametrize("found", [{}, {"at_11": "other"}])
def test_another_record_at_the_mark_or_none_is_a_log_that_was_written_again(found: dict[str, str]) -> None:
    assert fault(POSITION, replace(LOG, epoch=4), records(**found)) is PositionFault.REWRITTEN


def test_a_log_that_ends_before_the_position_needs_no_mark() -> None:
    short = replace(LOG, end=11, stable_end=11, epoch=4)
    assert fault(POSITION, short, unread) is PositionFault.BEYOND_END
    assert fault(Position(offset=12), short, unread) is PositionFault.BEYOND_END


def test_a_position_at_the_end_is_no_fault() -> None:
    assert fault(POSITION, replace(LOG, end=12, stable_end=12), unread) is None


def test_another_topic_of_the_same_name_is_a_recreated_one_also_at_the_same_epoch() -> None:
    assert fault(POSITION, replace(LOG, topic="0" * 22), unread) is PositionFault.RECREATED


def test_a_mark_that_has_expired_from_the_log_cannot_be_looked_up() -> None:
    assert fault(POSITION, replace(LOG, first=12, epoch=4), unread) is None


@pytest.mark.parametrize("text", ["", "set by a tool", "{}", '{"topic": 1}', "\0"])
def test_metadata_that_is_not_ours_is_no_mark(text: str) -> None:
    position = Position(offset=12, metadata=text)
    assert position.mark is None
    assert fault(position, replace(LOG, epoch=4), unread) is None


def test_a_mark_comes_back_from_its_metadata() -> None:
    assert POSITION.mark == MARK
    assert metadata(None) == ""


def test_an_accepted_position_replaces_the_one_it_was_made_for_and_no_other() -> None:
    order = Position(offset=9, metadata=accepted_metadata(POSITION, LOG.topic))
    assert is_accepted(order, POSITION, LOG.topic)
    assert not is_accepted(order, Position(offset=9), LOG.topic)
    assert not is_accepted(Position(offset=None), POSITION, LOG.topic)
    assert not is_accepted(Position(offset=9, metadata="x"), POSITION, LOG.topic)


@pytest.mark.parametrize("seen", [Position(offset=None), POSITION], ids=["deleted with the topic", "not deleted yet"])
def test_of_a_recreated_topic_whatever_is_committed_of_the_one_before_is_replaced(seen: Position) -> None:
    """Regression: a worker that had not noticed committed once more, and its group stopped there for good."""
    order = Position(offset=0, metadata=accepted_metadata(seen, "new"))
    late, by_now = Position(offset=13, metadata=POSITION.metadata), Position(offset=None)
    assert is_accepted(order, late, "new")
    assert is_accepted(order, by_now, "new")
    of_the_new_one = Position(offset=3, metadata=metadata(msgspec.structs.replace(MARK, topic="new")))
    assert not is_accepted(order, of_the_new_one, "new"), "the group has gone on from it"
    assert not is_accepted(order, Position(offset=7), "new"), "set by a tool"


def test_a_topic_that_is_recreated_once_more_has_to_be_accepted_once_more() -> None:
    order = Position(offset=0, metadata=accepted_metadata(Position(offset=None), "new"))
    assert not is_accepted(order, Position(offset=None), "newer")
    assert not is_accepted(order, Position(offset=None), None)


def test_an_accepted_position_of_the_release_before_replaces_the_one_it_was_made_for() -> None:
    order = Position(offset=9, metadata='{"replaces":12,"metadata":""}')
    assert is_accepted(order, Position(offset=12), "any")
    assert not is_accepted(order, Position(offset=None), "any")


def test_records_that_differ_in_time_key_or_value_have_different_digests() -> None:
    different = [(1, b"k", b"v"), (2, b"k", b"v"), (1, b"kv", b""), (1, b"", b"kv"), (1, None, b"kv"), (1, b"kv", None)]
    assert len({digest(*each) for each in different}) == len(different)
