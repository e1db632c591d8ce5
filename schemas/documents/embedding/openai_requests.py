"""One request to an OpenAI-compatible `/v1/embeddings`, and what its status means."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Protocol
from urllib.parse import urlsplit

import aiohttp
import msgspec

from schemas.documents.embedding.openai_answers import AnswerInvalid
from schemas.outbound.addresses import url_fault
from schemas.outbound.connector import AddressRefused, connector
from schemas.outbound.retry_after import retry_after_s
from schemas.process.redaction import HIDDEN, without_secrets

PATH = "/v1/embeddings"
CHUNK_BYTES = 64 * 1024
FAULT_BYTES_MAX = 4 * 1024  # of the body of a refusal
DETAIL_CHARACTERS_MAX = 200
RETRY_AFTER_MAX_S = 300.0  # who asks for more is asked again nevertheless

_OK = 200
_REDIRECTS = range(300, 400)
# The inputs are at fault: too long, too many, or of characters that the model does not know.
_INPUTS_REFUSED = frozenset({400, 413, 422})
# "Later", though it is a 4xx (RFC 9110, RFC 8470, RFC 6585).
_LATER = frozenset({408, 409, 425, 429})
_CLIENT_ERRORS = range(400, 500)


class InputsRefused(Exception):
    """The server does not take one of the inputs, or not as many. Ask again with fewer."""


class NotConfigured(Exception):
    """Key, model or address is wrong. Do not ask again until an operator changed it."""


class ServerAway(Exception):
    """The server is overloaded, late or not there. Ask again later, after `retry_after_s` if it said so."""

    def __init__(self, detail: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(detail)
        self.retry_after_s = retry_after_s


class Post(Protocol):
    """The port to the server."""

    async def __call__(self, document: dict[str, Any], *, answer_bytes_max: int) -> bytes:
        """Return the body of a 200. Raises InputsRefused, NotConfigured, ServerAway and AnswerInvalid."""

    async def close(self) -> None:
        """Close the connections."""


def address_fault(base: str, *, hosts: Sequence[str], internal_allowed: bool) -> str | None:
    """Return what is wrong with the address of a server; None if requests may be sent to it."""
    if fault := url_fault(base, internal_allowed=internal_allowed):
        return fault
    parts = urlsplit(base)
    if parts.scheme not in ("http", "https"):
        return "neither http nor https"
    if parts.query or parts.fragment:
        return "it must end with its path"
    allowed = {host.lower() for host in hosts}
    return None if parts.hostname in allowed else f"host {parts.hostname} is not allowed"


class HttpPost:
    """`Post` over HTTP: no redirects, no proxy, no cookies, bounded in time and bytes. The key is in no message."""

    def __init__(
        self, base: str, *, key: str | None, timeout_s: float, internal_allowed: bool, clock: Callable[[], datetime]
    ) -> None:
        """Send to *base* + `/v1/embeddings`, which `address_fault` found right; needs a running loop."""
        # Many give the address with the version, as OpenAI's own client wants it.
        self._url = base.rstrip("/").removesuffix("/v1") + PATH
        self._key = key
        self._timeout_s = timeout_s
        self._clock = clock
        self._session = aiohttp.ClientSession(
            connector=connector(internal_allowed=internal_allowed),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,  # nothing small can become large
            trust_env=False,
            timeout=aiohttp.ClientTimeout(total=timeout_s),
            headers={
                "User-Agent": "Tidegate",
                "Content-Type": "application/json",
                "Accept": "application/json",
                "Accept-Encoding": "identity",
                **({"Authorization": f"Bearer {key}"} if key else {}),
            },
        )

    async def close(self) -> None:
        """See `Post`."""
        await self._session.close()

    async def __call__(self, document: dict[str, Any], *, answer_bytes_max: int) -> bytes:
        """See `Post`."""
        try:
            async with self._session.post(
                self._url, data=msgspec.json.encode(document), allow_redirects=False
            ) as answer:
                if answer.status == _OK:
                    return await _body(answer, answer_bytes_max)
                raise await self._refusal(answer)
        except TimeoutError as error:
            raise ServerAway(f"no whole answer within {self._timeout_s:g} s") from error
        except aiohttp.ClientConnectorError as error:
            if isinstance(error.os_error, AddressRefused):
                raise NotConfigured(
                    f"{error.os_error.strerror}: set TIDEGATE_OPENAI_INTERNAL=true if it is one of your own"
                ) from error
            raise ServerAway(self._clean(f"{type(error).__name__}: {error}")) from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise ServerAway(self._clean(f"{type(error).__name__}: {error}")) from error

    async def _refusal(self, answer: aiohttp.ClientResponse) -> Exception:
        status = answer.status
        if status in _REDIRECTS:
            return AnswerInvalid(f"HTTP {status}: redirects are not followed, set TIDEGATE_OPENAI_URL to their end")
        detail = self._clean(f"HTTP {status}: {(await answer.content.read(FAULT_BYTES_MAX)).decode(errors='replace')}")
        if status in _INPUTS_REFUSED:
            return InputsRefused(detail)
        if status in _CLIENT_ERRORS and status not in _LATER:
            return NotConfigured(f"{detail}: check TIDEGATE_OPENAI_URL, _MODEL and _KEY")
        if status in _CLIENT_ERRORS or status >= _CLIENT_ERRORS.stop:
            asked_s = retry_after_s(answer.headers.get("Retry-After", ""), now=self._clock())
            return ServerAway(detail, retry_after_s=None if asked_s is None else min(asked_s, RETRY_AFTER_MAX_S))
        return AnswerInvalid(detail)

    def _clean(self, text: str) -> str:
        """Return a text for people, from a server that may repeat what it was sent."""
        shown = text.replace(self._key, HIDDEN) if self._key else text
        printable = "".join(each if each.isprintable() else " " for each in without_secrets(shown))
        return printable[:DETAIL_CHARACTERS_MAX].rstrip(" :")


async def _body(answer: aiohttp.ClientResponse, bytes_max: int) -> bytes:
    body = bytearray()
    async for chunk in answer.content.iter_chunked(CHUNK_BYTES):
        body += chunk
        if len(body) > bytes_max:
            raise AnswerInvalid(f"an answer of more than {bytes_max} bytes")
    return bytes(body)
