"""A client of the gateway's routes of user events."""

from typing import Any
from urllib.parse import quote

from tests.support.api import ApiClient


class UserEventClient(ApiClient):
    """Asks the stack's gateway for user events."""

    def shown(self, event_id: str) -> dict[str, Any]:
        """Return an event, which must be there."""
        status, event = self.ask("GET", f"/api/v1/events/{quote(event_id, safe='')}")
        assert status == 200, event
        found: dict[str, Any] = event
        return found

    def settled(self, wal_id: str, group_name: str = "events") -> dict[str, Any]:
        """Return what a group made of a record, once it has committed past it."""
        return super().settled(wal_id, group_name)
