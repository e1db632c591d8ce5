"""Views of a record of the log for API callers, and the decision who may see it."""

from gateway.kafka.facts import FactReaders, RecordFacts
from gateway.kafka.reader import LogRecord
from gateway.status.views import RecordView
from schemas.access.credentials import Principal, Right
from schemas.catalogue import CODEC
from schemas.errors import Poison
from schemas.kafka import headers


def describe(record: LogRecord, readers: FactReaders) -> RecordView:
    """Decode *record* and let *readers* say what it is; its headers speak where it does not decode."""
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
    read = readers.get(type(decoded))
    facts = RecordFacts() if read is None else read(decoded)
    return RecordView(
        name=type(decoded).__name__,
        tenant=facts.tenant,
        run_id=facts.run_id,
        seq=facts.seq,
        event_id=facts.event_id,
        key=text(record.key),
        written_at=record.written_at,
        problem=None,
    )


def may_see(principal: Principal, record: RecordView) -> bool:
    """Return True if *record* is of the principal's tenant; one that names no tenant is for administrators."""
    if record.tenant is None:
        return Right.ADMIN in principal.rights
    return record.tenant == principal.tenant


def _header(record: LogRecord, name: str) -> str | None:
    return text(headers.find(record.headers, name))


def text(value: bytes | None) -> str | None:
    """Return bytes from the log as text for people; None stays None."""
    return None if value is None else value.decode("utf-8", "backslashreplace")
