"""
The errors of a request, and the one problem document (RFC 9457) for each code.

Any code may raise; the edge calls `problem_of` and answers. Errors of the contract (`Invalid`, `NotJson`,
`KeyRefused`) are mapped here too, so that handlers need not catch them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from schemas.access.credentials import KeyRefused
from schemas.errors import ErrorCode, Fault, Invalid
from schemas.strictjson import NotJson

RETRY_AFTER_S = 1

STATUS: dict[ErrorCode, tuple[int, str]] = {
    ErrorCode.BAD_REQUEST: (400, "Bad request"),
    ErrorCode.BAD_PARAMETERS: (400, "The task type does not take this"),
    ErrorCode.UNAUTHENTICATED: (401, "No valid API key or token"),
    ErrorCode.FORBIDDEN: (403, "Not allowed for this key"),
    ErrorCode.SIGNATURE_INVALID: (403, "The event's signature is missing, wrong or not allowed"),
    ErrorCode.NOT_FOUND: (404, "Not found"),
    ErrorCode.METHOD_NOT_ALLOWED: (405, "Method not allowed"),
    ErrorCode.REQUEST_TIMEOUT: (408, "The body did not arrive in time"),
    ErrorCode.SEQUENCE_ERROR: (409, "Not the next event of the run"),
    ErrorCode.IDEMPOTENCY_CONFLICT: (409, "The same key or number was used for other content"),
    ErrorCode.RUN_FINALIZED: (409, "The run is finalized"),
    ErrorCode.JOB_STATE: (409, "The state does not allow this"),
    ErrorCode.NOT_YET_STORED: (409, "The revision is not stored yet"),
    ErrorCode.PRECONDITION_FAILED: (412, "The document has another revision"),
    ErrorCode.PAYLOAD_TOO_LARGE: (413, "The body is too large"),
    ErrorCode.UNSUPPORTED_MEDIA_TYPE: (415, "Unsupported media type"),
    ErrorCode.VALIDATION_ERROR: (422, "The request is not valid"),
    ErrorCode.TOON_VALIDATION_ERROR: (422, "The TOON body is not valid"),
    ErrorCode.RATE_LIMIT_EXCEEDED: (429, "Too many requests"),
    ErrorCode.BACKPRESSURE: (429, "Too many requests wait for the log"),
    ErrorCode.INTERNAL_ERROR: (500, "Internal error"),
    ErrorCode.LOG_UNAVAILABLE: (503, "Kafka does not acknowledge"),
    ErrorCode.STORE_UNAVAILABLE: (503, "Postgres is not reachable"),
    ErrorCode.KEYS_UNAVAILABLE: (503, "The keys of the token's issuer cannot be read"),
}


class HttpError(Exception):
    """A request that is not carried out; each subclass says what the client does next."""

    code: ClassVar[ErrorCode]
    retry_after_s: int | None = None
    faults: Sequence[Fault] = ()
    expected_seq: int | None = None

    def headers(self) -> Sequence[tuple[str, str]]:
        """Return the headers of the answer."""
        return () if self.retry_after_s is None else (("Retry-After", str(self.retry_after_s)),)


class BadQuery(HttpError):
    """A query parameter is unknown, repeated or not valid; each fault names one. Correct the request."""

    code = ErrorCode.VALIDATION_ERROR

    def __init__(self, faults: Sequence[Fault]) -> None:
        """Carry every fault that was found."""
        super().__init__("; ".join(fault.detail for fault in faults))
        self.faults = faults


class BadBody(HttpError):
    """The body's framing or its packing is broken. Send it again whole."""

    code = ErrorCode.BAD_REQUEST


class Malformed(HttpError):
    """A request that is not valid HTTP/1.1; the connection is closed. Correct the client."""

    code = ErrorCode.BAD_REQUEST


class Forbidden(HttpError):
    """The key lacks the right or the agent. Use another key."""

    code = ErrorCode.FORBIDDEN


class SignatureInvalid(HttpError):
    """The event is not signed as its agent must. Sign it again."""

    code = ErrorCode.SIGNATURE_INVALID


class SequenceError(HttpError):
    """An event that is not the run's next one. Send the one that is expected."""

    code = ErrorCode.SEQUENCE_ERROR

    def __init__(self, *, expected_seq: int, seq: int) -> None:
        """Name what is expected."""
        super().__init__(f"seq {expected_seq} is expected, not {seq}")
        self.expected_seq = expected_seq


class IdempotencyConflict(HttpError):
    """The same seq, key or finalization is in the log with other content. Never retry."""

    code = ErrorCode.IDEMPOTENCY_CONFLICT


class RunClosed(HttpError):
    """The run was finalized. Never retry."""

    code = ErrorCode.RUN_FINALIZED


class StateForbids(HttpError):
    """The job, queue or schedule is in a state that does not allow the change. Look at it first."""

    code = ErrorCode.JOB_STATE


class PreconditionFailed(HttpError):
    """The document has another revision than the one that If-Match names, or there is one. Read it first."""

    code = ErrorCode.PRECONDITION_FAILED


class NotYetStored(HttpError):
    """The revision that a search must see was not live in time. Search again later."""

    code = ErrorCode.NOT_YET_STORED
    retry_after_s = RETRY_AFTER_S


class NotFound(HttpError):
    """The tenant has nothing of that name (yet)."""

    code = ErrorCode.NOT_FOUND


class MethodNotAllowed(HttpError):
    """The path has no such method. Use one of `allowed`."""

    code = ErrorCode.METHOD_NOT_ALLOWED

    def __init__(self, allowed: Sequence[str]) -> None:
        """Name the methods that the path has."""
        super().__init__(f"this path has {', '.join(allowed)}")
        self._allowed = allowed

    def headers(self) -> Sequence[tuple[str, str]]:
        """See `HttpError.headers`."""
        return (("Allow", ", ".join(self._allowed)),)


class ClientGone(ConnectionError):
    """The client closed the connection before its request was whole. There is nobody to answer."""


class BodyTimeout(HttpError):
    """The body came too slowly. Send it again."""

    code = ErrorCode.REQUEST_TIMEOUT


class EventTooLarge(HttpError):
    """A body or record over the limit of the route or of the topic. Never retry."""

    code = ErrorCode.PAYLOAD_TOO_LARGE


class BadParameters(Invalid):
    """A job of an unknown type or queue, or with parameters that its type does not take. Correct it."""


class InvalidPath(Invalid):
    """A part of the path cannot name what it is to name. Correct it."""


class NotToon(ValueError):
    """The text is no TOON document at all. Never retry it."""


class UnsupportedMediaType(HttpError):
    """A media type that the route does not accept. Send JSON or TOON."""

    code = ErrorCode.UNSUPPORTED_MEDIA_TYPE


class UnsupportedCoding(HttpError):
    """A body with an unknown content coding, or with several. Use one of `taken`, or none."""

    code = ErrorCode.UNSUPPORTED_MEDIA_TYPE

    def __init__(self, taken: Sequence[str]) -> None:
        """Name the codings that are taken."""
        super().__init__(f"Content-Encoding must be one of {', '.join(taken)}, once")
        self._taken = taken

    def headers(self) -> Sequence[tuple[str, str]]:
        """See `HttpError.headers`."""
        return (("Accept-Encoding", ", ".join(self._taken)),)


class QueueFull(HttpError):
    """The producer's queue is at its bound. Nothing was written; retry later."""

    code = ErrorCode.BACKPRESSURE
    retry_after_s = RETRY_AFTER_S


class SlowedDown(HttpError):
    """Earlier requests wait for their handling, and the rate is held down. Nothing was written; retry later."""

    code = ErrorCode.BACKPRESSURE

    def __init__(self, *, retry_after_s: int) -> None:
        """Carry the time to wait, in seconds."""
        super().__init__("what was accepted before waits to be stored")
        self.retry_after_s = retry_after_s


class BacklogFull(HttpError):
    """The tenant has as many unfinished jobs as it may have. Nothing was written; retry later."""

    code = ErrorCode.BACKPRESSURE
    retry_after_s = RETRY_AFTER_S


class LogUnavailable(HttpError):
    """No acknowledgement: the record may or may not have been written. Retry the same event later."""

    code = ErrorCode.LOG_UNAVAILABLE
    retry_after_s = RETRY_AFTER_S


class StoreUnavailable(HttpError):
    """Nothing can be read now; ingestion goes on. Retry later."""

    code = ErrorCode.STORE_UNAVAILABLE
    retry_after_s = RETRY_AFTER_S


class KeysUnavailable(HttpError):
    """The keys of a token's issuer were never read, or too long ago, so that nothing is known of it. Retry later."""

    code = ErrorCode.KEYS_UNAVAILABLE
    retry_after_s = RETRY_AFTER_S


class ObjectsUnavailable(HttpError):
    """Object storage is away: no large payload is kept or shown, and no record was written. Retry later."""

    code = ErrorCode.STORE_UNAVAILABLE
    retry_after_s = RETRY_AFTER_S


# Nothing is wrong with the request: the same may be taken later.
RETRYABLE = (QueueFull, SlowedDown, BacklogFull, LogUnavailable, StoreUnavailable, ObjectsUnavailable)


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """The form in which a client sees an error."""

    code: ErrorCode
    status: int
    detail: str
    faults: Sequence[Fault] = ()
    headers: Sequence[tuple[str, str]] = ()
    expected_seq: int | None = None
    error: str | None = None  # the detail once more, for clients of another dialect: of POST /events
    message: str | None = None  # of Segment's protocol


def problem_of(error: Exception, *, of_toon: bool = False) -> Problem:
    """Return the problem for *error*; *of_toon* if the body is TOON. An internal error reveals nothing of itself."""
    invalid = ErrorCode.TOON_VALIDATION_ERROR if of_toon else ErrorCode.VALIDATION_ERROR
    match error:
        case HttpError():
            problem = _problem(
                error.code,
                str(error),
                faults=error.faults,
                headers=error.headers(),
                expected_seq=error.expected_seq,
            )
        case InvalidPath():
            problem = _problem(ErrorCode.VALIDATION_ERROR, _count(error.faults), faults=error.faults)
        case BadParameters():
            problem = _problem(ErrorCode.BAD_PARAMETERS, _count(error.faults), faults=error.faults)
        case Invalid():
            problem = _problem(invalid, _count(error.faults), faults=error.faults)
        case NotJson() | NotToon():
            form = "JSON" if isinstance(error, NotJson) else "TOON"
            faults = [Fault(pointer="", detail=str(error))]
            problem = _problem(invalid, f"the body is not a {form} document", faults=faults, status=400)
        case KeyRefused():
            problem = _problem(ErrorCode.UNAUTHENTICATED, str(error), headers=[("WWW-Authenticate", "Bearer")])
        case _:
            problem = _problem(ErrorCode.INTERNAL_ERROR, "it is logged under this trace_id")
    return problem


def _problem(
    code: ErrorCode,
    detail: str,
    *,
    status: int | None = None,
    faults: Sequence[Fault] = (),
    headers: Sequence[tuple[str, str]] = (),
    expected_seq: int | None = None,
) -> Problem:
    return Problem(
        code=code,
        status=status or STATUS[code][0],
        detail=detail,
        faults=faults,
        headers=headers,
        expected_seq=expected_seq,
    )


def _count(faults: Sequence[Fault]) -> str:
    return f"{len(faults)} faults" if len(faults) > 1 else "1 fault"
