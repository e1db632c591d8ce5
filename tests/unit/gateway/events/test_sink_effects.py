"""What is said of a record that a sink has passed."""

import pytest

from gateway.events.effects import SinkEffects
from gateway.kafka.reader import LogRecord
from gateway.status.endpoints import EndpointViews
from schemas.access.credentials import Principal, Right
from schemas.kafka.places import RecordPlace
from schemas.sinks.topics import SINK
from tests.support.builders import TENANT

GROUP = SINK.group("files")
PLACE = RecordPlace("user.events", 0, 7)


@pytest.mark.parametrize("rights", [[Right.READ], [Right.READ, Right.ADMIN]])
def test_a_sink_is_seen_by_those_who_administer(rights: list[Right]) -> None:
    principal = Principal(tenant=TENANT, key_id="k", rights=frozenset(rights), agents=None)
    assert EndpointViews({}).is_seen(GROUP, principal) == (Right.ADMIN in rights)


RECORD = LogRecord(place=PLACE, written_at=None, key=None, value=b"", headers=[])


@pytest.mark.parametrize(
    ("record", "detail"), [(RECORD, "does not ask for it"), (None, "the record has expired")], ids=["there", "expired"]
)
def test_nothing_is_claimed_of_what_a_sink_has_passed(record: LogRecord | None, detail: str) -> None:
    effect = SinkEffects().presumed(GROUP, PLACE, record)
    assert effect.outcome == "unknown"
    assert detail in (effect.detail or "")
