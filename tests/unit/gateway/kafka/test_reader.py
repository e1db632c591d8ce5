"""Which copy of a record that was put aside is the last."""

from datetime import UTC, datetime, timedelta

import pytest

from gateway.kafka.reader import LogRecord, _newest
from schemas.kafka import headers
from schemas.kafka.places import RecordPlace
from schemas.runs.topics import EVALUATION

NOW = datetime(2025, 12, 5, 10, tzinfo=UTC)
GROUP = EVALUATION.group("scorer", delays=["30s", "5m"])
LETTERS, REDRIVE = GROUP.dead_letters.name, GROUP.redrive.name
FIRST, SECOND = (tier.topic.name for tier in GROUP.tiers)
TOPICS = [LETTERS, REDRIVE, FIRST, SECOND]
# A record's way: it fails and waits, is a dead letter, is sent back, and all of it again.
WAY = [(FIRST, 0), (SECOND, 0), (LETTERS, 1), (REDRIVE, 1), (FIRST, 1), (SECOND, 1), (LETTERS, 2)]


@pytest.mark.parametrize("length", range(1, len(WAY) + 1))
@pytest.mark.parametrize("clock", [1, -1], ids=["clocks agree", "clocks run backwards"])
def test_it_is_the_one_that_is_furthest_on_its_way(length: int, clock: int) -> None:
    copies = [
        LogRecord(
            place=RecordPlace(topic, 0, step),
            written_at=NOW + clock * timedelta(minutes=step),
            key=b"r",
            value=b"",
            headers=[(headers.ATTEMPT, b"%d" % attempt)],
        )
        for step, (topic, attempt) in enumerate(WAY[:length])
    ]
    assert _newest(copies[::-1], TOPICS) is copies[-1]


def test_of_nothing_there_is_no_last() -> None:
    assert _newest([], TOPICS) is None
