"""What a letter says of itself: the place that it had, and the object that it refers to."""

from typing import Any

import msgspec
import pytest

from processors.runs.retention.letters import object_of, origin
from schemas.catalogue import CODEC
from schemas.kafka.headers import ORIGINAL_OFFSET, ORIGINAL_PARTITION, ORIGINAL_TOPIC
from schemas.objects.references import reference_to
from schemas.runs.topics import RUN_EVENTS
from tests.support import builders

WHOLE = {ORIGINAL_TOPIC: b"run.events", ORIGINAL_PARTITION: b"3", ORIGINAL_OFFSET: b"42"}


class Letter:
    """A message with headers."""

    def __init__(self, by_name: Any) -> None:
        self._headers = by_name

    def headers(self) -> Any:
        return list(self._headers.items()) or None


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({}, (3, 42)),
        ({ORIGINAL_TOPIC: b"another"}, None),
        ({ORIGINAL_OFFSET: b"x"}, None),
        ({ORIGINAL_OFFSET: None}, None),
        (dict.fromkeys(WHOLE), None),
    ],
)
def test_a_letter_names_the_place_that_it_had_or_none(change: dict[str, Any], place: tuple[int, int] | None) -> None:
    given: Any = Letter(WHOLE | change)
    assert origin(given, RUN_EVENTS) == place
    nothing: Any = Letter({})
    assert origin(nothing, RUN_EVENTS) is None


def test_only_an_event_with_a_reference_refers_to_an_object() -> None:
    event = builders.run_event()
    reference = reference_to(b"x", tenant="demo", run_id=builders.RUN)
    assert object_of(CODEC.encode(msgspec.structs.replace(event, payload=None, payload_ref=reference))) == reference.key
    assert object_of(CODEC.encode(event)) is None
    assert object_of(b"garbage") is None
    assert object_of(None) is None
