"""The records of runs, one frozen type per Avro schema; field meanings and units stand in `avsc/`."""

import hashlib
from datetime import datetime
from enum import StrEnum

import msgspec

from schemas.objects.references import PayloadRef
from schemas.pacing.breaker import BreakerState

# The parts of a run's event ids that are no numbers.
FINALIZED_PART = "finalized"
ENVIRONMENT_PART = "environment"


class RunStatus(StrEnum):
    """The final status of a run, as its client reports it."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


class RunEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One event of one agent run; `payload` and `meta` are JSON texts as they were sent."""

    tenant: str
    run_id: str
    seq: int
    t: str
    actor: str
    type: str
    agent_id: str
    idempotency_key: str | None = None
    payload: str | None
    payload_ref: PayloadRef | None = None
    meta: str
    event_sha256: bytes


class EnvironmentCaptured(msgspec.Struct, frozen=True, kw_only=True):
    """The environment of a run; `environment` is the JSON text as it was sent."""

    tenant: str
    run_id: str
    environment: str
    environment_sha256: bytes
    captured_at: datetime


class RunFinalized(msgspec.Struct, frozen=True, kw_only=True):
    """The run is over."""

    tenant: str
    run_id: str
    status: RunStatus
    event_count: int | None = None
    finalized_at: datetime


class TraceRecord(msgspec.Struct, frozen=True, kw_only=True):
    """The sum of a finalized run; `document` is the whole of it as JSON text."""

    tenant: str
    run_id: str
    status: RunStatus
    event_count: int
    chain_head: bytes
    document: str


class EndpointState(msgspec.Struct, frozen=True, kw_only=True):
    """The state of a webhook endpoint of the evaluation engine, written at each change."""

    endpoint: str
    tenant: str | None = None
    types: list[str]
    breaker: BreakerState
    reason: str | None = None
    since: datetime
    first_offsets: list[int] | None = None  # by partition of run.events, where its group began; None: not known


RunRecord = RunEvent | EnvironmentCaptured | RunFinalized
Record = RunRecord | TraceRecord | EndpointState


def reference_of(record: Record) -> PayloadRef | None:
    """Return the reference to the payload of *record*; None if the record has its payload itself, or none."""
    return record.payload_ref if isinstance(record, RunEvent) else None


def event_id(tenant: str, run_id: str, part: int | str) -> str:
    """
    Return the stable id of one record of a run: the same over retries and over duplicates in the log.

    *part* is the seq of an event, `finalized` or `environment` for the other records.
    """
    # Lengths keep ("a", "bc") and ("ab", "c") apart.
    message = f"{len(tenant)}:{tenant}{len(run_id)}:{run_id}{part}"
    return f"evt_{hashlib.sha256(message.encode()).hexdigest()[:32]}"
