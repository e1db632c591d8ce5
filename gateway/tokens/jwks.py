"""
The keys of issuers whose JWK Set is at an address: read in the background, and kept when a read fails.

A token with an unknown `kid` asks for one more read, for all who ask, at most every `ASKED_EVERY_S`: random ones cost
neither the issuer nor other requests anything.
"""

import asyncio
import random
from collections.abc import Callable
from contextlib import suppress
from time import monotonic
from typing import Protocol

import aiohttp
import structlog

from gateway.errors import KeysUnavailable
from schemas.access import jwt
from schemas.access.issuers import Issuer
from schemas.access.jwt import Keys, KeysInvalid
from schemas.outbound.connector import connector
from schemas.process.telemetry import KEY_SET_AGE, KEY_SETS_READ, Telemetry

RENEW_EVERY_S = 300.0
JITTER = 0.2  # of the pause, either way
ASKED_EVERY_S = 30.0
KEPT_S = 24 * 3600.0  # the last good set, while reads fail
TIMEOUT_S = 5.0
BYTES_MAX = 256 * 1024
CHUNK_BYTES = 16 * 1024

log = structlog.get_logger()


class FetchFailed(Exception):
    """The address does not give a JWK Set; the text says why."""


class Fetch(Protocol):
    """The port to the addresses of JWK Sets."""

    async def __call__(self, url: str) -> str:
        """Return the text at *url*. Raises FetchFailed."""


class HttpFetch:
    """`Fetch` over HTTPS: no redirects, no internal addresses, bounded in time and bytes."""

    def __init__(self, *, internal_allowed: bool) -> None:
        """
        Fetch over HTTPS only; *internal_allowed* also allows one's own network's addresses and plain HTTP: for
        development.
        """
        self._internal_allowed = internal_allowed

    async def __call__(self, url: str) -> str:
        """See `Fetch`."""
        if not self._internal_allowed and not url.startswith("https://"):
            raise FetchFailed("not https")
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
        try:
            async with (
                aiohttp.ClientSession(
                    connector=connector(internal_allowed=self._internal_allowed), timeout=timeout, trust_env=False
                ) as session,
                session.get(url, allow_redirects=False, headers={"Accept": "application/json"}) as answer,
            ):
                if answer.status != 200:  # noqa: PLR2004
                    raise FetchFailed(f"answered {answer.status}")
                body = bytearray()
                async for chunk in answer.content.iter_chunked(CHUNK_BYTES):
                    body += chunk
                    if len(body) > BYTES_MAX:
                        raise FetchFailed(f"more than {BYTES_MAX} bytes")
            return body.decode()
        except (aiohttp.ClientError, OSError, TimeoutError, UnicodeDecodeError, ValueError) as error:
            raise FetchFailed(f"{type(error).__name__}: {error}") from error


class RemoteKeys:
    """The keys of one issuer at an address; its task ends with `close`."""

    def __init__(
        self,
        name: str,
        issuer: Issuer,
        fetch: Fetch,
        *,
        changed: Callable[[], None],
        telemetry: Telemetry,
        clock_s: Callable[[], float] = monotonic,
    ) -> None:
        """Begin to read; *changed* is called when the keys are others than before."""
        self._name = name
        self._issuer = issuer
        self._fetch = fetch
        self._changed = changed
        self._clock_s = clock_s
        self._keys: Keys | None = None
        self._text = ""
        self._read_at_s = float("-inf")
        self._tried_at_s = float("-inf")
        self._wanted = asyncio.Event()
        self._reads = telemetry[KEY_SETS_READ]
        telemetry[KEY_SET_AGE].labels(name).set_function(self._age_s)
        self._task = asyncio.create_task(self._go_on_reading())

    @property
    def keys(self) -> Keys:
        """Return the last good set. Raises KeysUnavailable."""
        if self._keys is None or self._age_s() > KEPT_S:
            raise KeysUnavailable(f"the keys of issuer {self._name} could not be read yet")
        return self._keys

    def ask(self) -> None:
        """Request another read of the set, unless one was made a moment ago."""
        if self._clock_s() - self._tried_at_s >= ASKED_EVERY_S:
            self._wanted.set()

    def _age_s(self) -> float:
        return self._clock_s() - self._read_at_s

    def stop(self) -> None:
        """Read no more."""
        self._task.cancel()

    async def close(self) -> None:
        """Read no more, and wait for the end of a read that is under way."""
        self.stop()
        await asyncio.gather(self._task, return_exceptions=True)

    async def refresh(self) -> None:
        """Read once; what cannot be used leaves the last good set in force."""
        self._tried_at_s = self._clock_s()
        try:
            text = await self._fetch(self._issuer.jwks_url or "")
            keys = jwt.keys_in(text, self._issuer)
        except (FetchFailed, KeysInvalid) as error:
            self._reads.labels(self._name, "failed").inc()
            log.warning("keys of issuer not read, the last ones stay", issuer=self._name, error=str(error))
            return
        except Exception:  # whatever a stranger's bytes do: this task must go on
            self._reads.labels(self._name, "failed").inc()
            log.exception("keys of issuer not read, the last ones stay", issuer=self._name)
            return
        self._reads.labels(self._name, "ok").inc()
        self._read_at_s = self._clock_s()
        if text != self._text or self._keys is None:
            self._keys, self._text = keys, text
            self._changed()

    async def _go_on_reading(self) -> None:
        while True:
            await self.refresh()
            self._wanted.clear()
            pause_s = RENEW_EVERY_S * random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311  no secret
            if self._keys is None:
                pause_s = min(pause_s, ASKED_EVERY_S)
            with suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._wanted.wait()
