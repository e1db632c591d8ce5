"""The faults of input: the codes that clients see, and the reasons kept with a record."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from msgspec import UNSET, UnsetType


class ErrorCode(StrEnum):
    """The stable `code` of a problem document (RFC 9457); the gateway maps each to one HTTP status."""

    UNAUTHENTICATED = "UNAUTHENTICATED"
    FORBIDDEN = "FORBIDDEN"
    NOT_FOUND = "NOT_FOUND"
    METHOD_NOT_ALLOWED = "METHOD_NOT_ALLOWED"
    BAD_REQUEST = "BAD_REQUEST"
    REQUEST_TIMEOUT = "REQUEST_TIMEOUT"
    VALIDATION_ERROR = "VALIDATION_ERROR"  # of a JSON body or of a parameter
    TOON_VALIDATION_ERROR = "TOON_VALIDATION_ERROR"
    BAD_PARAMETERS = "BAD_PARAMETERS"  # of a job: its type or queue is unknown, or the type does not take these
    SEQUENCE_ERROR = "SEQUENCE_ERROR"
    IDEMPOTENCY_CONFLICT = "IDEMPOTENCY_CONFLICT"
    SIGNATURE_INVALID = "SIGNATURE_INVALID"
    RUN_FINALIZED = "RUN_FINALIZED"
    JOB_STATE = "JOB_STATE"
    PRECONDITION_FAILED = "PRECONDITION_FAILED"
    NOT_YET_STORED = "NOT_YET_STORED"  # a search asks for a revision that is not live yet
    RATE_LIMIT_EXCEEDED = "RATE_LIMIT_EXCEEDED"
    BACKPRESSURE = "BACKPRESSURE"
    LOG_UNAVAILABLE = "LOG_UNAVAILABLE"
    STORE_UNAVAILABLE = "STORE_UNAVAILABLE"
    KEYS_UNAVAILABLE = "KEYS_UNAVAILABLE"
    PAYLOAD_TOO_LARGE = "PAYLOAD_TOO_LARGE"
    UNSUPPORTED_MEDIA_TYPE = "UNSUPPORTED_MEDIA_TYPE"
    INTERNAL_ERROR = "INTERNAL_ERROR"


class Reason(StrEnum):
    """The reason why a record had no effect; written to `rejected_events`, to dead letters and to metrics."""

    UNDECODABLE = "undecodable"
    UNKNOWN_SCHEMA = "unknown_schema"
    NUL_CHARACTER = "nul_character"
    NO_ORIGIN = "no_origin"
    TOO_LARGE = "too_large"
    NOT_STORABLE = "not_storable"
    KEY_MISMATCH = "key_mismatch"
    INVALID_EVENT = "invalid_event"
    UNKNOWN_TENANT = "unknown_tenant"
    UNKNOWN_AGENT = "unknown_agent"
    SIGNATURE_INVALID = "signature_invalid"
    UNSIGNED_DIRECT = "unsigned_direct"
    DIGEST_MISMATCH = "digest_mismatch"
    CONFLICT = "conflict"
    RUN_FINALIZED = "run_finalized"
    WRONG_PARTITION = "wrong_partition"  # not where its key belongs, and so in no order with the rest of its run
    DELIVERY_FAILED = "delivery_failed"  # an endpoint did not take it, this time
    ROW_MISSING = "row_missing"  # its event was not stored, and the group that stores events is past it
    PROCESSING_FAILED = "processing_failed"  # its function raised, or was too slow
    DELIVERY_REFUSED = "delivery_refused"  # an endpoint or a sink said that it never will take it
    EMBEDDER_AWAY = "embedder_away"  # an embedder did not answer, this time
    CRASHED = "crashed"  # each process that began it died


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One thing that is wrong in a request: where (RFC 6901 pointer into the body, "" is the whole) and what."""

    pointer: str
    detail: str
    parameter: str | UnsetType = UNSET  # the query parameter that is wrong, where it is not the body


Check = Callable[[object], str | None]
"""Returns what is wrong with a value; None if nothing is."""


def faults_among(
    fields: Mapping[str, object], *, required: Iterable[tuple[str, Check]], optional: Iterable[tuple[str, Check]]
) -> list[Fault]:
    """Return everything that is wrong with *fields*, by name and check; *optional* ones are missing or None too."""
    faults = [
        Fault(pointer=f"/{name}", detail=detail) for name, check in required if (detail := check(fields.get(name)))
    ]
    for name, check in optional:
        value = fields.get(name)
        if value is not None and (detail := check(value)):
            faults.append(Fault(pointer=f"/{name}", detail=detail))
    return faults


class Invalid(ValueError):
    """A document that parses but breaks rules. Never retry it unchanged."""

    def __init__(self, faults: list[Fault]) -> None:
        """Carry every fault, not only the first."""
        super().__init__("; ".join(f"{fault.pointer or '/'}: {fault.detail}" for fault in faults))
        self.faults = faults


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejection:
    """The reason why a decoded record is not valid."""

    reason: Reason
    detail: str


class Poison(ValueError):
    """A record that can never be stored. Dead-letter it with its bytes; never retry it."""

    def __init__(self, reason: Reason, detail: str) -> None:
        """Name the reason for machines and the detail for people."""
        super().__init__(detail)
        self.reason = reason
        self.detail = detail
