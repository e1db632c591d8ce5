"""The demonstration must be able to fail: each kind of loss is seen."""

from dataclasses import replace

import pytest

from deploy.examples.proof import Row, SentEvent, differences

TOLD = [SentEvent("message", "user", {"text": "one"}), SentEvent("reasoning", "agent", {"text": "two"})]
RECEIPTS = ["run.events/0/7", "run.events/0/8"]
READ = [
    {"seq": 1, "type": "message", "actor": "user", "payload": {"text": "one"}},
    {"seq": 2, "type": "reasoning", "actor": "agent", "payload": {"text": "two"}},
]
FIRST = Row(run_id="r", seq=1, actor="user", type="message", wal_id=RECEIPTS[0])
SECOND = Row(run_id="r", seq=2, actor="agent", type="reasoning", wal_id=RECEIPTS[1])


def test_what_agrees_has_no_differences() -> None:
    assert differences(TOLD, RECEIPTS, READ, [FIRST, SECOND]) == []


@pytest.mark.parametrize(
    "rows", [[FIRST], [SECOND, FIRST], [FIRST, SECOND, SECOND], [FIRST, replace(SECOND, wal_id="run.events/0/9")]]
)
def test_a_lost_moved_or_repeated_row_is_a_difference(rows: list[Row]) -> None:
    assert differences(TOLD, RECEIPTS, READ, rows) != []


def test_a_changed_payload_is_a_difference() -> None:
    read = [READ[0], {**READ[1], "payload": {"text": "changed"}}]
    assert len(differences(TOLD, RECEIPTS, read, [FIRST, SECOND])) == 1
