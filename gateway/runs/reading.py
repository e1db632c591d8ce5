"""Records of runs as the log has them: decoded, and checked."""

from gateway.kafka.reader import LogRecord
from schemas.access.credentials import CurrentCredentials
from schemas.errors import Rejection
from schemas.runs.codec import RUN_CODEC
from schemas.runs.records import RunRecord
from schemas.runs.validity import check_record_now


def read_record(record: LogRecord, credentials: CurrentCredentials) -> tuple[RunRecord, Rejection | None]:
    """
    Return what *record* holds, and why it is not valid; None if it is.

    Raises:
        Poison: it can never be stored.
    """
    decoded = RUN_CODEC.decode(record.value)
    rejection = check_record_now(
        decoded,
        topic=record.place.topic,
        key=record.key,
        value=record.value or b"",
        headers=record.headers,
        credentials=credentials,
    )
    return decoded, rejection
