"""Fact readers for the record types of runs."""

from gateway.kafka.facts import FactReaders, RecordFacts
from schemas.runs.records import (
    ENVIRONMENT_PART,
    FINALIZED_PART,
    EnvironmentCaptured,
    RunEvent,
    RunFinalized,
    TraceRecord,
    event_id,
)


def _of_event(event: RunEvent) -> RecordFacts:
    return RecordFacts(event.tenant, event_id(event.tenant, event.run_id, event.seq), event.run_id, event.seq)


def _of_finalization(record: RunFinalized) -> RecordFacts:
    return RecordFacts(record.tenant, event_id(record.tenant, record.run_id, FINALIZED_PART), record.run_id)


def _of_environment(record: EnvironmentCaptured) -> RecordFacts:
    return RecordFacts(record.tenant, event_id(record.tenant, record.run_id, ENVIRONMENT_PART), record.run_id)


def _of_trace(record: TraceRecord) -> RecordFacts:
    return RecordFacts(record.tenant, run_id=record.run_id)


# None for an endpoint's state, which is an operator's: it may say more than the endpoint's tenant is to know.
FACT_READERS: FactReaders = {
    RunEvent: _of_event,
    RunFinalized: _of_finalization,
    EnvironmentCaptured: _of_environment,
    TraceRecord: _of_trace,
}
