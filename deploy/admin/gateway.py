"""Reads of a gateway, over HTTP with an API key; what is busy or away for a moment is asked again."""

import time
from collections.abc import Callable
from contextlib import closing
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from urllib.parse import urlsplit

import msgspec

from deploy.errors import CommandFailed, NotReachable

TIMEOUT_S = 30.0
ATTEMPTS_MAX = 5
PAUSE_S = 1.0
PAUSE_MAX_S = 10.0
ANSWER_BYTES_MAX = 64 * 1024 * 1024  # a page of the largest events has some 20 MiB
AGAIN = (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.BAD_GATEWAY)


class _Problem(msgspec.Struct):
    code: str
    detail: str = ""


class GatewayReads:
    """Reads of what one API key may see."""

    def __init__(self, url: str, *, api_key: str, sleep: Callable[[float], None] = time.sleep) -> None:
        """Ask the gateway at *url*."""
        address = urlsplit(url)
        if address.scheme not in ("http", "https") or not address.hostname:
            raise CommandFailed(f"{url} is no http address")
        self._connect = HTTPSConnection if address.scheme == "https" else HTTPConnection
        self._host, self._port, self._prefix = address.hostname, address.port, address.path.rstrip("/")
        self._api_key = api_key
        self._sleep = sleep

    def read(self, path: str) -> bytes | None:
        """
        Return the JSON at *path*; None if the gateway answers 404.

        Raises:
            NotReachable: no gateway answers, or it stays busy.
            CommandFailed: it refuses; says why.
        """
        why = ""
        for attempt in range(ATTEMPTS_MAX):
            try:
                status, retry_after_s, body = self._ask(self._prefix + path)
            except (OSError, HTTPException) as error:
                raise NotReachable(f"no gateway answers at {self._host}: {error}") from error
            if status == HTTPStatus.OK:
                return body
            if status == HTTPStatus.NOT_FOUND:
                return None
            why = _why(status, body)
            if status not in AGAIN:
                raise CommandFailed(f"the gateway refuses: {why}")
            if attempt < ATTEMPTS_MAX - 1:
                self._sleep(min(retry_after_s, PAUSE_MAX_S))
        raise NotReachable(f"the gateway cannot answer now: {why}")

    def _ask(self, path: str) -> tuple[int, float, bytes]:
        with closing(self._connect(self._host, self._port, timeout=TIMEOUT_S)) as connection:
            connection.request("GET", path, headers={"X-API-Key": self._api_key})
            answer = connection.getresponse()
            body = answer.read(ANSWER_BYTES_MAX + 1)
            if len(body) > ANSWER_BYTES_MAX:
                raise CommandFailed(f"the gateway answers with more than {ANSWER_BYTES_MAX} bytes")
            text = answer.headers.get("Retry-After", "")
            return answer.status, float(text) if text.isdecimal() else PAUSE_S, body


def _why(status: int, body: bytes) -> str:
    try:
        problem = msgspec.json.decode(body, type=_Problem)
    except msgspec.MsgspecError:
        return f"HTTP {status}"
    return f"{problem.code}: {problem.detail}"
