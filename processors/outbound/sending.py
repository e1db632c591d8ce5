"""One request to a receiver outside, and what its answer means."""

from collections.abc import Callable, Mapping
from datetime import datetime
from enum import Enum
from typing import NamedTuple

import aiohttp
import msgspec

from schemas.outbound.addresses import url_fault
from schemas.outbound.connector import AddressRefused
from schemas.outbound.retry_after import retry_after_s
from schemas.texts import printable

ANSWER_BYTES_MAX = 64 * 1024
DETAIL_CHARACTERS_MAX = 200

# Says "later", though it is a 4xx (RFC 9110, RFC 8470, RFC 6585).
LATER = frozenset({408, 409, 425, 429})
_GONE = 410


class AttemptResult(Enum):
    """The result of an attempt."""

    TAKEN = "taken"
    FAILED = "failed"  # not this time
    REFUSED = "refused"  # this record never
    GONE = "gone"  # the endpoint wants no more


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """The result of an attempt; `detail` is for people, `retry_after_s` what the receiver asked for, if anything."""

    verdict: AttemptResult
    detail: str = ""
    retry_after_s: float | None = None


class Received(NamedTuple):
    """The whole answer of a receiver, as far as we read it."""

    status: int
    body: bytes
    is_cut: bool  # the body is longer than what was asked for
    retry_after_s: float | None


class ReceiverAway(Exception):
    """The receiver gave no whole answer. Try again later; whether it did what was asked is unknown."""


class AddressWrong(Exception):
    """Nothing can be sent to the address as it is: its name is unknown, it is internal, or its certificate is bad."""


class Poster:
    """An HTTP POST client: it follows no redirect, keeps no cookie, uses no proxy, and reads little of an answer."""

    def __init__(
        self, connector: aiohttp.TCPConnector, *, internal_allowed: bool, clock: Callable[[], datetime]
    ) -> None:
        """Send through *connector*, which checks each address; `close` closes it."""
        self._internal_allowed = internal_allowed
        self._clock = clock
        self._session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
            headers={"User-Agent": "Tidegate"},
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._session.close()

    async def post(self, url: str, body: bytes, headers: Mapping[str, str], *, timeout_s: float) -> Answer:
        """Make one attempt within *timeout_s*; whatever goes wrong is an answer, not an exception."""
        try:
            return self._answer(await self.exchange(url, body, headers, timeout_s=timeout_s))
        except (ReceiverAway, AddressWrong) as failure:
            return Answer(verdict=AttemptResult.FAILED, detail=str(failure))

    async def exchange(
        self,
        url: str,
        body: bytes,
        headers: Mapping[str, str],
        *,
        timeout_s: float,
        answer_bytes_max: int = ANSWER_BYTES_MAX,
    ) -> Received:
        """
        Make one attempt within *timeout_s*; return the answer, of its body *answer_bytes_max* at most.

        Raises:
            ReceiverAway: no whole answer came.
            AddressWrong: nothing can be sent to *url*.
        """
        if fault := url_fault(url, internal_allowed=self._internal_allowed):
            raise AddressWrong(f"its URL cannot be sent to: {fault}")
        try:
            async with self._session.post(
                url,
                data=body,
                headers=headers,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=timeout_s),
            ) as response:
                answered = await _read_some(response, answer_bytes_max + 1)
                asked = retry_after_s(response.headers.get("Retry-After", ""), now=self._clock())
                return Received(response.status, answered[:answer_bytes_max], len(answered) > answer_bytes_max, asked)
        except TimeoutError as error:
            raise ReceiverAway(f"no whole answer within {timeout_s:g} s") from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise (AddressWrong if _is_of_address(error) else ReceiverAway)(_detail(error)) from error

    def _answer(self, received: Received) -> Answer:
        detail = f"HTTP {received.status}"
        if 200 <= received.status < 300:  # noqa: PLR2004  the classes of RFC 9110
            return Answer(verdict=AttemptResult.TAKEN, detail=detail)
        if received.status == _GONE:
            return Answer(verdict=AttemptResult.GONE, detail=detail)
        if 400 <= received.status < 500 and received.status not in LATER:  # noqa: PLR2004
            return Answer(verdict=AttemptResult.REFUSED, detail=detail)
        return Answer(verdict=AttemptResult.FAILED, detail=detail, retry_after_s=received.retry_after_s)


def failed_attempt(error: Exception) -> Answer:
    """Return the answer for an attempt that ended with *error*; its detail is printable, whatever the receiver sent."""
    return Answer(verdict=AttemptResult.FAILED, detail=_detail(error))


def _detail(error: Exception) -> str:
    return printable(f"{type(error).__name__}: {error}", characters_max=DETAIL_CHARACTERS_MAX)


def _is_of_address(error: Exception) -> bool:
    if isinstance(error, aiohttp.ClientConnectorDNSError | aiohttp.ClientSSLError | aiohttp.InvalidURL):
        return True
    return isinstance(error, aiohttp.ClientConnectorError) and isinstance(error.os_error, AddressRefused)


async def _read_some(response: aiohttp.ClientResponse, bytes_max: int) -> bytes:
    # Read to its end a connection serves again; what is longer is left, and its connection closed.
    read = bytearray()
    while len(read) < bytes_max and (chunk := await response.content.read(bytes_max - len(read))):
        read += chunk
    return bytes(read)
