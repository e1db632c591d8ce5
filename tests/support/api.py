"""A client of the gateway's API."""

import json
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlsplit

from tests.support.stack import RunningStack, wait_until

STORED_S = 30


class ApiClient:
    """Asks the stack's gateway, with the key of its tenant or with *headers*."""

    def __init__(self, stack: RunningStack, headers: dict[str, str] | None = None) -> None:
        """Connect to nothing yet."""
        self._address = urlsplit(stack.addresses.gateway)
        self._headers = {"X-API-Key": stack.addresses.api_key} if headers is None else headers

    def ask(
        self, method: str, path: str, body: object = None, content_type: str = "application/json", **headers: str
    ) -> tuple[int, Any]:
        """Return the status and the decoded body of an answer; of *headers*, an underscore stands for a hyphen."""
        more = {name.replace("_", "-"): value for name, value in headers.items()}
        connection = HTTPConnection(self._address.hostname or "", self._address.port, timeout=30)
        sent = body if isinstance(body, (str, bytes)) or body is None else json.dumps(body)
        connection.request(method, path, body=sent, headers=self._headers | {"Content-Type": content_type} | more)
        answer = connection.getresponse()
        text = answer.read()
        connection.close()
        return answer.status, json.loads(text)

    def accepted(self, path: str, body: object, content_type: str = "application/json") -> dict[str, Any]:
        """Return the body of an answer, which must be a 202."""
        status, answer = self.ask("POST", path, body, content_type)
        assert status == 202, answer
        found: dict[str, Any] = answer
        return found

    def settled(self, wal_id: str, group_name: str) -> dict[str, Any]:
        """Return what a group made of a record, once it has committed past it."""

        def group() -> dict[str, Any]:
            status, receipt = self.ask("GET", f"/api/wal/{wal_id}")
            assert status == 200, receipt
            [found] = [each for each in receipt["groups"] if each["group"] == group_name]
            return dict(found)

        wait_until(lambda: group()["state"] == "done", timeout_s=STORED_S, what=f"{wal_id} to be done")
        effect: dict[str, Any] = group()["effect"]
        return effect
