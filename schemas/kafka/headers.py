"""
The headers of a record: what a consumer may know without decoding the value, and what a dead letter tells.

Values are text. Dead letters have Kafka Connect's
`__connect.errors.*` headers, so that existing tools show them.
"""

from collections.abc import Iterable
from datetime import UTC, datetime
from functools import lru_cache

EVENT_ID = "event-id"
TENANT = "tenant"
SEQ = "seq"
TRACEPARENT = "traceparent"
RECEIVED_AT = "received-at"
GATEWAY_MAC = "gateway-mac"

ORIGINAL_TOPIC = "original-topic"
ORIGINAL_PARTITION = "original-partition"
ORIGINAL_OFFSET = "original-offset"
ATTEMPT = "attempt"
FAILED_PART = "failed-part"
ERROR_TOPIC = "__connect.errors.topic"
ERROR_PARTITION = "__connect.errors.partition"
ERROR_OFFSET = "__connect.errors.offset"
ERROR_STAGE = "__connect.errors.stage"
ERROR_CLASS = "__connect.errors.exception.class.name"
ERROR_MESSAGE = "__connect.errors.exception.message"

# On a dead letter that does not have all bytes of its record: which parts are cut off ("value", "key value headers"),
# and of a value that was seen whole its length and digest.
CUT_PARTS = "cut-parts"
CUT_VALUE_BYTES = "cut-value-bytes"
CUT_VALUE_SHA256 = "cut-value-sha256"

# What a dead letter has beside the headers of the record that it was.
OF_DEAD_LETTERS = frozenset(
    {
        *(ORIGINAL_TOPIC, ORIGINAL_PARTITION, ORIGINAL_OFFSET, ATTEMPT, FAILED_PART),
        *(ERROR_TOPIC, ERROR_PARTITION, ERROR_OFFSET, ERROR_STAGE, ERROR_CLASS, ERROR_MESSAGE),
        *(CUT_PARTS, CUT_VALUE_BYTES, CUT_VALUE_SHA256),
    }
)

SETTLED_AS = "settled-as"
SETTLED_AT = "settled-at"

NUMBER_MAX = 2**63 - 1
NUMBER_DIGITS_MAX = len(str(NUMBER_MAX))

Headers = list[tuple[str, str | bytes]]


def find(headers: Iterable[tuple[str, bytes | None]], name: str) -> bytes | None:
    """Return the first header called *name*, or None."""
    for header, value in headers:
        if header == name:
            return value
    return None


@lru_cache(maxsize=16)  # the events of a batch share theirs
def timestamp(moment: datetime) -> bytes:
    """Return a moment as `received-at` has it: RFC 3339, UTC, milliseconds."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z").encode()


def number_of(value: bytes | None) -> int | None:
    """Return the number from 0 to 2**63 - 1 that a header spells; None if it spells none."""
    if value is None or not value.isdigit() or len(value) > NUMBER_DIGITS_MAX:
        return None
    return number if (number := int(value)) <= NUMBER_MAX else None


def moment_of(timestamp_ms: int) -> datetime | None:
    """Return the moment of a record's timestamp; None if it is in no year from 1 to 9999: producers choose freely."""
    try:
        return datetime.fromtimestamp(timestamp_ms / 1000, UTC)
    except (OverflowError, OSError, ValueError):
        return None
