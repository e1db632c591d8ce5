"""One request to a receiver outside, and what its answer means."""

from collections.abc import Callable, Mapping
from datetime import datetime
from enum import Enum

import aiohttp
import msgspec

from schemas.outbound.addresses import url_fault
from schemas.outbound.retry_after import retry_after_s

ANSWER_BYTES_MAX = 64 * 1024
DETAIL_CHARACTERS_MAX = 200

# Says "later", though it is a 4xx (RFC 9110, RFC 8470, RFC 6585).
_LATER = frozenset({408, 409, 425, 429})
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
        if fault := url_fault(url, internal_allowed=self._internal_allowed):
            return Answer(verdict=AttemptResult.FAILED, detail=f"its URL cannot be sent to: {fault}")
        try:
            async with self._session.post(
                url,
                data=body,
                headers=headers,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=timeout_s),
            ) as response:
                await _read_some(response)
                return self._answer(response)
        except TimeoutError:
            return Answer(verdict=AttemptResult.FAILED, detail=f"no whole answer within {timeout_s:g} s")
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return failed_attempt(error)

    def _answer(self, response: aiohttp.ClientResponse) -> Answer:
        detail = f"HTTP {response.status}"
        if 200 <= response.status < 300:  # noqa: PLR2004  the classes of RFC 9110
            return Answer(verdict=AttemptResult.TAKEN, detail=detail)
        if response.status == _GONE:
            return Answer(verdict=AttemptResult.GONE, detail=detail)
        if 400 <= response.status < 500 and response.status not in _LATER:  # noqa: PLR2004
            return Answer(verdict=AttemptResult.REFUSED, detail=detail)
        retry_after = response.headers.get("Retry-After", "")
        return Answer(
            verdict=AttemptResult.FAILED, detail=detail, retry_after_s=retry_after_s(retry_after, now=self._clock())
        )


def failed_attempt(error: Exception) -> Answer:
    """Return the answer for an attempt that ended with *error*; its detail is printable, whatever the receiver sent."""
    text = f"{type(error).__name__}: {error}"[:DETAIL_CHARACTERS_MAX]
    printable = "".join(one if one.isprintable() else f"\\u{ord(one):04x}" for one in text)
    return Answer(verdict=AttemptResult.FAILED, detail=printable[:DETAIL_CHARACTERS_MAX])


async def _read_some(response: aiohttp.ClientResponse) -> None:
    # Read to its end a connection serves again; what is longer is left, and its connection closed.
    left = ANSWER_BYTES_MAX
    while left > 0 and (chunk := await response.content.read(left)):
        left -= len(chunk)
