"""A gateway's reads, over HTTP with an API key; what is busy or away for a moment is asked again."""

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from urllib.parse import quote, urlencode, urlsplit

import msgspec

from deploy.errors import CommandFailed, NotReachable
from schemas.runs.views import EventView, RunView

TIMEOUT_S = 30.0
ATTEMPTS_MAX = 5
PAUSE_S = 1.0
PAUSE_MAX_S = 10.0
PAGE_EVENTS = 500
ANSWER_BYTES_MAX = 64 * 1024 * 1024  # a page of the largest events has some 20 MiB
AGAIN = (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.BAD_GATEWAY)


class _Page(msgspec.Struct):
    events: list[EventView]
    next_cursor: str | None


class _Problem(msgspec.Struct):
    code: str
    detail: str = ""


class Gateway:
    """Reads of one tenant's runs."""

    def __init__(self, url: str, *, api_key: str, sleep: Callable[[float], None] = time.sleep) -> None:
        """Ask the gateway at *url*."""
        address = urlsplit(url)
        if address.scheme not in ("http", "https") or not address.hostname:
            raise CommandFailed(f"{url} is no http address")
        self._connect = HTTPSConnection if address.scheme == "https" else HTTPConnection
        self._host, self._port, self._prefix = address.hostname, address.port, address.path.rstrip("/")
        self._api_key = api_key
        self._sleep = sleep

    def run(self, run_id: str) -> RunView:
        """Return the run. Raises as `read`, and CommandFailed if the run does not exist."""
        return msgspec.json.decode(self.need(run_id, ""), type=RunView)

    def events(self, run_id: str) -> Iterator[EventView]:
        """Yield its events by seq, payloads resolved, a page in memory at a time."""
        cursor: str | None = None
        while True:
            query = {"limit": str(PAGE_EVENTS), "resolve": "true"} | ({"cursor": cursor} if cursor else {})
            page = msgspec.json.decode(self.need(run_id, f"/events?{urlencode(query)}"), type=_Page)
            yield from page.events
            cursor = page.next_cursor
            if cursor is None:
                return

    def need(self, run_id: str, rest: str) -> bytes:
        """Return what `read` finds. Raises CommandFailed if it finds nothing."""
        found = self.read(run_id, rest)
        if found is None:
            raise CommandFailed(f"the tenant of this key has no run {run_id}")
        return found

    def read(self, run_id: str, rest: str) -> bytes | None:
        """
        Return the JSON at /api/runs/*run_id* and *rest*; None if the gateway answers 404.

        Raises:
            NotReachable: no gateway answers, or it stays busy.
            CommandFailed: it refuses; says why.
        """
        path = f"{self._prefix}/api/runs/{quote(run_id, safe='')}{rest}"
        why = ""
        for attempt in range(ATTEMPTS_MAX):
            try:
                status, retry_after_s, body = self._ask(path)
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
