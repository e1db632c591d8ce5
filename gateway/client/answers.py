"""Readers of the gateway's answers: a receipt, the results of a batch, or the error that says what to do next."""

from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Literal, TypeVar

import msgspec

from gateway.client.errors import Refused, SendAgainLater

Document = TypeVar("Document")

# 4xx that say nothing about the request itself: a body that came too slowly, a proxy or a connection at fault.
_PASSING = frozenset(
    {
        HTTPStatus.PROXY_AUTHENTICATION_REQUIRED,
        HTTPStatus.REQUEST_TIMEOUT,
        HTTPStatus.MISDIRECTED_REQUEST,
        HTTPStatus.TOO_EARLY,
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One HTTP response, read whole."""

    status: int
    reason: str
    body: bytes
    retry_after: str  # the header's text, "" without one


class EventResult(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of one event of a batch."""

    status: Literal["accepted", "duplicate", "rejected", "skipped", "retry"]
    wal_id: str | None = None
    sequence: str | None = None
    code: str = ""
    detail: str = ""
    errors: list[dict[str, str]] = []
    expected_seq: int | None = None

    @property
    def explanation(self) -> str:
        """Return `detail` and every fault."""
        return _explain(self.detail, self.errors)


class _Promise(msgspec.Struct):
    status: str
    wal_id: str


class _Results(msgspec.Struct):
    results: list[EventResult]


class _Position(msgspec.Struct):
    last_seq: int


class _Problem(msgspec.Struct):
    code: str
    detail: str = ""
    errors: list[dict[str, str]] = []


def read_promise(answer: Answer) -> tuple[str, bool]:
    """
    Return the `wal_id` of a record that is in the log, and True if it was there before this attempt.

    Raises:
        Refused, SendAgainLater: see `refuse`.
    """
    # A repeated request may be told by 409 as well as by 202 that its first attempt was taken.
    if answer.status in (HTTPStatus.ACCEPTED, HTTPStatus.CONFLICT) and (promise := _read(answer.body, _Promise)):
        return promise.wal_id, promise.status == "duplicate"
    raise refuse(answer)


def read_results(answer: Answer, count: int) -> Sequence[EventResult]:
    """
    Return the result of each of the *count* events of a batch, in order.

    Raises:
        Refused, SendAgainLater: see `refuse`; no event was taken, or it is not known.
    """
    if answer.status in (HTTPStatus.ACCEPTED, HTTPStatus.MULTI_STATUS):
        document = _read(answer.body, _Results)
        if document is not None and len(document.results) == count and all(map(_is_whole, document.results)):
            return document.results
    raise refuse(answer)


def read_position(answer: Answer) -> int:
    """
    Return the highest `seq` of a run that is stored; 0 if there is no such run (yet).

    Raises:
        Refused, SendAgainLater: see `refuse`.
    """
    if answer.status == HTTPStatus.OK and (run := _read(answer.body, _Position)) is not None and run.last_seq >= 0:
        return run.last_seq
    problem = _read(answer.body, _Problem)
    if answer.status == HTTPStatus.NOT_FOUND and problem is not None:
        return 0
    raise refuse(answer)


def refuse(answer: Answer) -> Refused | SendAgainLater:
    """Return the error that an answer without the expected document amounts to."""
    problem = _read(answer.body, _Problem)
    code = problem.code if problem else f"HTTP_{answer.status}"
    detail = _explain(problem.detail, problem.errors) if problem else answer.reason or "no problem document"
    if answer.status == HTTPStatus.TOO_MANY_REQUESTS:
        return SendAgainLater(code=code, detail=detail, retry_after_s=_retry_after_s(answer), in_doubt=False)
    is_refusal = HTTPStatus.BAD_REQUEST <= answer.status < HTTPStatus.INTERNAL_SERVER_ERROR
    # Something other than a gateway answers 2xx without a receipt, redirects, and 404 without a problem document: a
    # proxy whose gateway is away. It promises nothing, and refuses nothing for good.
    if not is_refusal or answer.status in _PASSING or (answer.status == HTTPStatus.NOT_FOUND and problem is None):
        return SendAgainLater(code=code, detail=detail, retry_after_s=_retry_after_s(answer), in_doubt=True)
    return Refused(status=answer.status, code=code, detail=detail)


def _is_whole(result: EventResult) -> bool:
    return result.wal_id is not None or result.status not in ("accepted", "duplicate")


def _explain(detail: str, errors: Sequence[dict[str, str]]) -> str:
    faults = [f"{fault.get('pointer') or '/'}: {fault.get('detail', '')}" for fault in errors]
    return "; ".join(([detail] if detail else []) + faults)


def _read(body: bytes, kind: type[Document]) -> Document | None:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def _retry_after_s(answer: Answer) -> float:
    # The date form is of no use to a client with a wrong clock. Python parses at most 4,300 digits.
    text = answer.retry_after[:20]
    return float(text) if text.isascii() and text.isdecimal() else 0.0
