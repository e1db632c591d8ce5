"""Which dead letters are meant."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from deploy.log.dead_letters import Letter, Selection
from deploy.log.reading import Raw

AT = datetime(2026, 1, 1, tzinfo=UTC)


def letter(**changes: Any) -> Letter:
    raw = Raw(
        topic="t.dlq", partition=0, offset=7, timestamp_ms=int(AT.timestamp() * 1000), key=b"run-1", value=b"",
        headers=[],
    )  # fmt: skip
    return Letter(**({"raw": raw, "origin": "t/3/9", "reason": "undecodable", "detail": "", "attempt": 1} | changes))


@pytest.mark.parametrize(
    ("selection", "is_meant"),
    [
        (Selection(), True),
        (Selection(places=frozenset(["t.dlq/0/7"])), True),
        (Selection(places=frozenset(["t/3/9", "t/3/10"])), True),
        (Selection(places=frozenset(["t/3/10"])), False),
        (Selection(reason="undecodable", run_id="run-1"), True),
        (Selection(reason="conflict"), False),
        (Selection(run_id="run-2"), False),
        (Selection(since=AT, until=AT + timedelta(seconds=1)), True),
        (Selection(since=AT + timedelta(seconds=1)), False),
        (Selection(until=AT), False),
    ],
)
def test_a_letter_is_meant_that_fits_everything_given(selection: Selection, is_meant: bool) -> None:
    assert selection.admits(letter()) == is_meant


def test_a_letter_is_sent_back_three_times_at_most() -> None:
    assert [letter(attempt=attempt).is_exhausted for attempt in (1, 3, 4, 5)] == [False, False, True, True]
