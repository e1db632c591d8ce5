"""What a record of the log says of itself, and who may hear it."""

from gateway.kafka.reader import LogRecord
from gateway.status.views import RecordView
from schemas.access.credentials import Principal, Right
from schemas.catalogue import CODEC
from schemas.errors import Poison
from schemas.kafka import headers
from schemas.runs.records import (
    ENVIRONMENT_PART,
    FINALIZED_PART,
    EndpointState,
    EnvironmentCaptured,
    RunEvent,
    RunFinalized,
    event_id,
)

_PARTS = {RunFinalized: FINALIZED_PART, EnvironmentCaptured: ENVIRONMENT_PART}


def describe(record: LogRecord) -> RecordView:
    """Decode *record*; its headers speak where it does not decode."""
    try:
        decoded = CODEC.decode(record.value)
    except Poison as poison:
        return RecordView(
            name=None,
            tenant=_header(record, headers.TENANT),
            run_id=None,
            seq=headers.number_of(headers.find(record.headers, headers.SEQ)),
            event_id=_header(record, headers.EVENT_ID),
            key=text(record.key),
            written_at=record.written_at,
            problem=f"{poison.reason}: {poison.detail}",
        )
    # An endpoint's state is an operator's: it may say more than the endpoint's tenant is to know.
    of_run = None if isinstance(decoded, EndpointState) else decoded
    seq_or_none = decoded.seq if isinstance(decoded, RunEvent) else None
    part = seq_or_none or _PARTS.get(type(decoded))
    return RecordView(
        name=type(decoded).__name__,
        tenant=None if of_run is None else of_run.tenant,
        run_id=None if of_run is None else of_run.run_id,
        seq=seq_or_none,
        event_id=event_id(of_run.tenant, of_run.run_id, part) if of_run and part else None,
        key=text(record.key),
        written_at=record.written_at,
        problem=None,
    )


def may_see(principal: Principal, record: RecordView) -> bool:
    """Return whether *record* is of the principal's tenant; one that names no tenant is for those who administer."""
    if record.tenant is None:
        return Right.ADMIN in principal.rights
    return record.tenant == principal.tenant


def _header(record: LogRecord, name: str) -> str | None:
    return text(headers.find(record.headers, name))


def text(value: bytes | None) -> str | None:
    """Bytes from the log for people; None stays None."""
    return None if value is None else value.decode("utf-8", "backslashreplace")
