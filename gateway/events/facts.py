"""Fact readers for the record types of user events."""

from gateway.kafka.facts import FactReaders, RecordFacts
from schemas.events.records import UserEvent, record_id


def _of_event(event: UserEvent) -> RecordFacts:
    return RecordFacts(event.tenant, record_id(event), event.run_id)


FACT_READERS: FactReaders = {UserEvent: _of_event}
