"""
A request and what becomes of it: one judged exchange, repeated while the answer asks for patience.

This is the client's only retry policy. The body is made once, so each attempt bears the same key and signature.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from itertools import count
from types import TracebackType
from typing import Self, TypeVar

import aiohttp
import msgspec

from gateway.client.bounds import Bounds
from gateway.client.errors import Refused, SendAgainLater

Document = TypeVar("Document")


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is sent, byte for byte, at each attempt."""

    method: str
    path: str
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """The gateway's promise: the record is in the log at `wal_id`."""

    wal_id: str
    duplicate: bool  # it was there before this attempt
    elapsed_s: float  # of the attempt that was answered


class _Promise(msgspec.Struct):
    status: str
    wal_id: str


class _Problem(msgspec.Struct):
    code: str
    detail: str = ""
    errors: list[dict[str, str]] = []


class Delivery:
    """The connection to one gateway."""

    def __init__(self, url: str, *, api_key: str, bounds: Bounds, trust_env: bool = False) -> None:
        """Connect on entry; *trust_env* lets proxy settings of the environment apply."""
        if not url.startswith(("http://", "https://")):
            raise ValueError(f"{url!r} is no http address")
        self._url = url.rstrip("/")
        self._api_key = api_key
        self._bounds = bounds
        self._trust_env = trust_env
        self._session: aiohttp.ClientSession

    async def __aenter__(self) -> Self:
        """Open the session."""
        self._session = aiohttp.ClientSession(
            headers={"X-API-Key": self._api_key, "Content-Type": "application/json"},
            timeout=aiohttp.ClientTimeout(total=self._bounds.request_timeout_s),
            connector=aiohttp.TCPConnector(limit=0),  # one request a run is in flight; runs are the caller's to bound
            trust_env=self._trust_env,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the session."""
        await self._session.close()

    async def deliver(self, request: Request, *, on_retry: Callable[[SendAgainLater], None] | None = None) -> Receipt:
        """
        Send *request* until it is taken or refused; *on_retry* sees each answer that was neither.

        Raises:
            Refused: never send it again as it is.
            SendAgainLater: patience is over; the last answer.
            Both are `in_doubt` if any attempt was.
        """
        in_doubt = False
        deadline_s = time.monotonic() + self._bounds.give_up_after_s
        for attempt in count():
            try:
                return await self._exchange(request)
            except Refused as refused:
                refused.in_doubt = in_doubt
                raise
            except SendAgainLater as answer:
                if on_retry is not None:
                    on_retry(answer)
                in_doubt = answer.in_doubt = answer.in_doubt or in_doubt
                pause_s = self._bounds.pause_s(attempt, answer.retry_after_s)
                if time.monotonic() + pause_s > deadline_s:
                    raise
            await asyncio.sleep(pause_s)
        raise AssertionError("count() has no end")

    async def _exchange(self, request: Request) -> Receipt:
        began_s = time.monotonic()
        try:
            async with self._session.request(
                request.method, self._url + request.path, data=request.body, allow_redirects=False
            ) as response:
                body = await response.read()
        except TimeoutError as error:
            detail = f"no answer within {self._bounds.request_timeout_s} s"
            raise SendAgainLater(code="TIMEOUT", detail=detail, in_doubt=True) from error
        except (aiohttp.ClientError, OSError) as error:
            raise SendAgainLater(code="CONNECTION", detail=str(error) or type(error).__name__, in_doubt=True) from error
        return _judge(response, body, elapsed_s=time.monotonic() - began_s)


def _judge(response: aiohttp.ClientResponse, body: bytes, *, elapsed_s: float) -> Receipt:
    """Turn an answer into a receipt, or into the error that says what to do."""
    # A repeated request may be told by 409 as well as by 202 that its first attempt was taken.
    if response.status in (HTTPStatus.ACCEPTED, HTTPStatus.CONFLICT) and (promise := _read(body, _Promise)):
        return Receipt(wal_id=promise.wal_id, duplicate=promise.status == "duplicate", elapsed_s=elapsed_s)
    code, detail = _fault(response, body)
    # A 2xx without a receipt promises nothing: something other than a gateway may have answered.
    if response.ok or response.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        raise SendAgainLater(code=code, detail=detail, retry_after_s=_retry_after_s(response), in_doubt=True)
    if response.status == HTTPStatus.TOO_MANY_REQUESTS:
        raise SendAgainLater(code=code, detail=detail, retry_after_s=_retry_after_s(response), in_doubt=False)
    raise Refused(status=response.status, code=code, detail=detail)


def _fault(response: aiohttp.ClientResponse, body: bytes) -> tuple[str, str]:
    problem = _read(body, _Problem)
    if problem is None:
        return f"HTTP_{response.status}", response.reason or "no problem document"
    faults = [f"{fault.get('pointer') or '/'}: {fault.get('detail', '')}" for fault in problem.errors]
    return problem.code, "; ".join(([problem.detail] if problem.detail else []) + faults)


def _read(body: bytes, kind: type[Document]) -> Document | None:
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.MsgspecError:
        return None


def _retry_after_s(response: aiohttp.ClientResponse) -> float:
    text = response.headers.get("Retry-After", "")
    return float(text) if text.isdecimal() else 0.0  # the date form is of no use to a client with a wrong clock
