"""
The connection to one gateway: one attempt at a request, and the repeated attempts at a single one.

The body is made once, so each attempt carries the same idempotency key and signature.
"""

import asyncio
import io
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from types import TracebackType
from typing import Self, TypeVar

import aiohttp

from gateway.client.answers import Answer, EventResult, read_position, read_promise, read_results
from gateway.client.bounds import Bounds
from gateway.client.errors import Refused, SendAgainLater

ANSWER_BYTES_MAX = 8 * 1024 * 1024  # 1,000 results with faults have a tenth of it
WHOLE_BYTES_MAX = 256 * 1024  # of a body that is written in one go

Result = TypeVar("Result")

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """An HTTP request; each attempt sends the same bytes."""

    method: str
    path: str
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)  # instead of the connection's own, by their names


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """The gateway's promise: the record is in the log at `wal_id`."""

    wal_id: str
    duplicate: bool  # it was there before this attempt
    elapsed_s: float  # of the attempt that was answered


class Delivery:
    """The connection to one gateway."""

    def __init__(self, url: str, *, api_key: str, bounds: Bounds, trust_env: bool = False) -> None:
        """Connect on entry; *trust_env* lets proxy settings of the environment apply."""
        if not url.startswith(("http://", "https://")):
            raise ValueError(f"{url!r} is not an HTTP address: it must begin with http:// or https://")
        self.away = asyncio.Event()  # set while the last attempt found no gateway that takes requests
        self._url = url.rstrip("/")
        self._api_key = api_key
        self._bounds = bounds
        self._trust_env = trust_env
        self._session: aiohttp.ClientSession

    async def __aenter__(self) -> Self:
        """Open the session."""
        self._session = aiohttp.ClientSession(
            headers={
                "X-API-Key": self._api_key,
                "Content-Type": "application/json",
                "Accept-Encoding": "identity",  # an answer is small, and a compressed one could be made to be huge
            },
            timeout=aiohttp.ClientTimeout(total=self._bounds.request_timeout_s),
            connector=aiohttp.TCPConnector(limit=0),  # one request a run is in flight; runs are the caller's to bound
            trust_env=self._trust_env,
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
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
        return await self._until_answered(lambda: self.attempt(request), on_retry)

    async def ask(self, request: Request, read: Callable[[Answer], Result]) -> Result:
        """Send *request* until its answer can be *read*. Raises as `deliver`."""
        return await self._until_answered(lambda: self._ask(request, read))

    async def _until_answered(
        self, attempt_once: Callable[[], Awaitable[Result]], on_retry: Callable[[SendAgainLater], None] | None = None
    ) -> Result:
        in_doubt = False
        deadline_s = time.monotonic() + self._bounds.give_up_after_s
        for attempt in count():
            try:
                return await attempt_once()
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

    async def attempt(self, request: Request) -> Receipt:
        """Send *request* once. Raises Refused or SendAgainLater."""
        began_s = time.monotonic()
        wal_id, duplicate = await self._ask(request, read_promise)
        return Receipt(wal_id=wal_id, duplicate=duplicate, elapsed_s=time.monotonic() - began_s)

    async def attempt_batch(self, request: Request, *, event_count: int) -> Sequence[EventResult]:
        """Send a batch of *event_count* events once. Raises Refused or SendAgainLater."""
        return await self._ask(request, lambda answer: read_results(answer, event_count))

    async def read_position(self, path: str) -> int:
        """Ask once how many events of the run at *path* are stored. Raises Refused or SendAgainLater."""
        return await self._ask(Request(method="GET", path=path), read_position)

    async def _ask(self, request: Request, read: Callable[[Answer], Result]) -> Result:
        try:
            result = read(await self._exchange(request))
        except SendAgainLater as later:
            if later.in_doubt:  # a 429 comes from a gateway that is there
                self._note_away(later)
            raise
        except Refused:
            self._note_back()
            raise
        self._note_back()
        return result

    async def _exchange(self, request: Request) -> Answer:
        try:
            async with self._session.request(
                request.method,
                self._url + request.path,
                data=_in_parts(request.body),
                headers=request.headers,
                allow_redirects=False,
            ) as response:
                return await _read_whole(response)
        except TimeoutError as error:
            detail = f"no answer within {self._bounds.request_timeout_s} s"
            raise SendAgainLater(code="TIMEOUT", detail=detail, in_doubt=True) from error
        except SendAgainLater:
            raise
        except Exception as error:  # whatever the other side sends must not end the sender
            detail = str(error) or type(error).__name__
            raise SendAgainLater(code="CONNECTION", detail=detail, in_doubt=True) from error

    def _note_away(self, answer: SendAgainLater) -> None:
        if not self.away.is_set():
            self.away.set()
            logger.warning("gateway %s takes no requests (%s); they are repeated", self._url, answer)

    def _note_back(self) -> None:
        if self.away.is_set():
            self.away.clear()
            logger.warning("gateway %s takes requests again", self._url)


def _in_parts(body: bytes) -> bytes | io.BytesIO | None:
    # aiohttp warns of bytes over 1 MiB, since it would write them in one go; a file is written in parts.
    return io.BytesIO(body) if len(body) > WHOLE_BYTES_MAX else body or None


async def _read_whole(response: aiohttp.ClientResponse) -> Answer:
    body = bytearray()
    async for part in response.content.iter_any():
        body += part
        if len(body) > ANSWER_BYTES_MAX:
            detail = f"the answer has more than {ANSWER_BYTES_MAX} bytes"
            raise SendAgainLater(code="ANSWER_TOO_LARGE", detail=detail, in_doubt=True)
    return Answer(
        status=response.status,
        reason=response.reason or "",
        body=bytes(body),
        retry_after=response.headers.get("Retry-After", ""),
    )
