"""A gateway's reads of runs."""

from collections.abc import Iterator
from urllib.parse import quote, urlencode

import msgspec

from deploy.admin.gateway import GatewayReads
from deploy.errors import CommandFailed
from schemas.runs.views import EventView, RunView

PAGE_EVENTS = 500


class _Page(msgspec.Struct):
    events: list[EventView]
    next_cursor: str | None


class Gateway:
    """Reads of one tenant's runs."""

    def __init__(self, reads: GatewayReads) -> None:
        """Ask by *reads*."""
        self._reads = reads

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
            NotReachable, CommandFailed: see `GatewayReads.read`.
        """
        return self._reads.read(f"/api/runs/{quote(run_id, safe='')}{rest}")
