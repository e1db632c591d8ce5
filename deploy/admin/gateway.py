"""Calls of a gateway, over HTTP with an API key; what is busy or away for a moment is asked again."""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from types import MappingProxyType
from typing import Any
from urllib.parse import urlencode, urlsplit

import msgspec

from deploy.errors import CommandFailed, NotReachable

TIMEOUT_S = 30.0
ATTEMPTS_MAX = 5
PAUSE_S = 1.0
PAUSE_MAX_S = 10.0
ANSWER_BYTES_MAX = 64 * 1024 * 1024  # a page of the largest events has some 20 MiB
NOT_FOUND = "NOT_FOUND"
AGAIN = (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.BAD_GATEWAY)


class Refused(CommandFailed):
    """The gateway does not take a request as it is; the text has every fault."""

    def __init__(self, code: str, detail: str) -> None:
        """Carry the problem document's `code`, and what it says."""
        super().__init__(f"the gateway refuses: {code}: {detail}")
        self.code = code
        self.detail = detail


class _Fault(msgspec.Struct):
    pointer: str = ""
    detail: str = ""


class _Problem(msgspec.Struct):
    code: str
    detail: str = ""
    errors: Sequence[_Fault] = ()

    def explanation(self) -> str:
        faults = [f"{fault.pointer}: {fault.detail}" if fault.pointer else fault.detail for fault in self.errors]
        return "; ".join(([self.detail] if self.detail else []) + faults)


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
        try:
            return self._exchange("GET", path)
        except Refused as refused:
            if refused.code == NOT_FOUND:
                return None
            raise

    def _exchange(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] = MappingProxyType({}),
        *,
        again: Sequence[int] = AGAIN,
    ) -> bytes:
        """Return the body of a good answer; a status of *again* is answered by another attempt."""
        problem = _Problem(code="")
        for attempt in range(ATTEMPTS_MAX):
            try:
                status, retry_after_s, answer = self._ask(method, self._prefix + path, body, headers)
            except (OSError, HTTPException) as error:
                raise NotReachable(f"no gateway answers at {self._host}: {error}") from error
            if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
                return answer
            problem = _problem(status, answer)
            if status == HTTPStatus.NOT_FOUND:
                raise Refused(NOT_FOUND, problem.explanation())
            if status not in AGAIN:
                raise Refused(problem.code, problem.explanation())
            if status not in again:
                raise NotReachable(f"{problem.code}: {problem.explanation()}; it may have been done all the same")
            if attempt < ATTEMPTS_MAX - 1:
                self._sleep(min(retry_after_s, PAUSE_MAX_S))
        raise NotReachable(f"the gateway cannot answer now: {problem.code}: {problem.explanation()}")

    def _ask(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> tuple[int, float, bytes]:
        with closing(self._connect(self._host, self._port, timeout=TIMEOUT_S)) as connection:
            connection.request(method, path, body=body, headers={"X-API-Key": self._api_key, **headers})
            answer = connection.getresponse()
            body = answer.read(ANSWER_BYTES_MAX + 1)
            if len(body) > ANSWER_BYTES_MAX:
                raise CommandFailed(f"the gateway answers with more than {ANSWER_BYTES_MAX} bytes")
            text = answer.headers.get("Retry-After", "")
            return answer.status, float(text) if text.isdecimal() else PAUSE_S, body


class GatewayCalls(GatewayReads):
    """Reads and changes of what one API key may see and do."""

    def call(
        self,
        method: str,
        path: str,
        document: object = None,
        *,
        headers: Mapping[str, str] = MappingProxyType({}),
        is_repeatable: bool = True,
    ) -> Any:
        """
        Send *document* as JSON, if there is one; return the decoded answer.

        What *is_repeatable* is sent again where it is not known whether it was done.

        Raises:
            NotReachable: no gateway answers, or it stays busy.
            Refused: it does not take the request as it is, or has nothing at *path*.
        """
        body = None if document is None else msgspec.json.encode(document)
        kind = {} if body is None else {"Content-Type": "application/json"}
        again = AGAIN if is_repeatable else (HTTPStatus.TOO_MANY_REQUESTS,)
        return msgspec.json.decode(self._exchange(method, path, body, {**kind, **headers}, again=again) or b"null")

    def found(self, path: str, what: str) -> Any:
        """
        Return the JSON at *path*, which has *what*.

        Raises:
            CommandFailed: the gateway answers 404.
            NotReachable, Refused: see `call`.
        """
        try:
            return self.call("GET", path)
        except Refused as refused:
            if refused.code != NOT_FOUND:
                raise
            raise CommandFailed(f"the tenant of this key has no {what}") from refused

    def listed(self, path: str, name: str, query: Mapping[str, str], *, count: int | None, page_max: int) -> list[Any]:
        """Return the first *count* items of a list, or all; a page has them under *name*. Raises as `call`."""
        items: list[Any] = []
        asked = dict(query) | {"limit": str(page_max if count is None else min(count, page_max))}
        cursor: str | None = ""
        while cursor is not None and (count is None or len(items) < count):
            page = self.call("GET", f"{path}?{urlencode(asked | ({'cursor': cursor} if cursor else {}))}")
            items += page[name]
            cursor = page.get("next_cursor")
        return items[:count]

    def send(self, path: str, body: bytes, *, headers: Mapping[str, str]) -> Any:
        """Post *body* as it is; *headers* have its type, and a key under which it may be repeated. Raises as `call`."""
        return msgspec.json.decode(self._exchange("POST", path, body, headers))


def _problem(status: int, body: bytes) -> _Problem:
    try:
        return msgspec.json.decode(body, type=_Problem)
    except msgspec.MsgspecError:
        return _Problem(code=f"HTTP_{status}")
