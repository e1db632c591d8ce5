"""The codes that a route can refuse with, by what it does: for the OpenAPI document."""

from schemas.errors import ErrorCode

KEYED = (
    ErrorCode.UNAUTHENTICATED,
    ErrorCode.FORBIDDEN,
    ErrorCode.VALIDATION_ERROR,
    ErrorCode.RATE_LIMIT_EXCEEDED,
)
WRITES = (
    *KEYED,
    ErrorCode.TOON_VALIDATION_ERROR,
    ErrorCode.BAD_REQUEST,
    ErrorCode.REQUEST_TIMEOUT,
    ErrorCode.PAYLOAD_TOO_LARGE,
    ErrorCode.UNSUPPORTED_MEDIA_TYPE,
    ErrorCode.BACKPRESSURE,
    ErrorCode.LOG_UNAVAILABLE,
)
FOLLOWS = (ErrorCode.SEQUENCE_ERROR, ErrorCode.IDEMPOTENCY_CONFLICT, ErrorCode.RUN_FINALIZED)
READS = (*KEYED, ErrorCode.STORE_UNAVAILABLE)
LOOKS_INTO_LOG = (*KEYED, ErrorCode.BACKPRESSURE, ErrorCode.LOG_UNAVAILABLE)
