"""The start offset of an endpoint's group, also after an operator has accepted a recreated topic."""

import pytest

from processors.runs.evaluation.states import _earliest, _offset
from processors.runtime.errors import Unsettled
from schemas.kafka.positions import Position, accepted_metadata

NOTHING = Position(offset=None)


def accepted(offset: int, *, replaces: Position = NOTHING, topic_id: str = "new") -> Position:
    return Position(offset=offset, metadata=accepted_metadata(replaces, topic_id))


def test_a_group_starts_at_its_committed_offset() -> None:
    assert _offset(Position(offset=7), NOTHING, "new", "g") == 7


def test_an_accepted_offset_replaces_one_that_was_lost_with_its_topic() -> None:
    """Regression: the worker did not start after `topics accept`, unless `topics create` had set an offset before."""
    assert _offset(NOTHING, accepted(0), "new", "g") == 0
    old = Position(offset=9)
    assert _offset(old, accepted(3, replaces=old), "new", "g") == 3


@pytest.mark.parametrize("order", [NOTHING, accepted(0, topic_id="old"), Position(offset=0)])
def test_a_group_without_an_offset_does_not_start(order: Position) -> None:
    with pytest.raises(Unsettled, match="topics accept"):
        _offset(NOTHING, order, "new", "g")


def test_the_first_offset_is_the_earlier_one_after_a_reset() -> None:
    assert _earliest([3, 0], [1, 5]) == [1, 0]
    assert _earliest(None, [1]) is None
