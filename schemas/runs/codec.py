"""The types of the records of runs, and the codecs of each topic that carries them."""

from typing import Any

from schemas.errors import Poison
from schemas.kafka.codec import Codec, RecordType, Shortcut
from schemas.objects.references import PayloadRef
from schemas.pacing.breaker import BreakerState
from schemas.runs import plain_event
from schemas.runs.records import (
    EndpointState,
    EnvironmentCaptured,
    RunEvent,
    RunFinalized,
    RunRecord,
    RunStatus,
    TraceRecord,
)


def _payload_ref(fields: Any) -> PayloadRef | None:
    return None if fields is None else PayloadRef(**fields)


RUN_EVENT = RecordType(
    name="tidegate.runs.RunEvent",
    cls=RunEvent,
    converters={"payload_ref": _payload_ref},
    shortcut=Shortcut(schema_id=plain_event.SCHEMA_ID, write=plain_event.write_event, read=plain_event.read_event),
)
ENVIRONMENT_CAPTURED = RecordType(name="tidegate.runs.EnvironmentCaptured", cls=EnvironmentCaptured)
RUN_FINALIZED = RecordType(name="tidegate.runs.RunFinalized", cls=RunFinalized, converters={"status": RunStatus})
TRACE_RECORD = RecordType(name="tidegate.runs.TraceRecord", cls=TraceRecord, converters={"status": RunStatus})
ENDPOINT_STATE = RecordType(
    name="tidegate.evaluation.EndpointState", cls=EndpointState, converters={"breaker": BreakerState}
)

RUN_CODEC: Codec[RunRecord] = Codec((RUN_EVENT, ENVIRONMENT_CAPTURED, RUN_FINALIZED))
TRACE_CODEC: Codec[TraceRecord] = Codec((TRACE_RECORD,))
STATE_CODEC: Codec[EndpointState] = Codec((ENDPOINT_STATE,))


def endpoint_state(value: bytes | None) -> EndpointState | None:
    """Return the state in *value*; None if it has none, since everyone with access to the topic may write to it."""
    try:
        return STATE_CODEC.decode(value)
    except Poison:
        return None
