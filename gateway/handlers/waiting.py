"""`?wait=GROUP`: an answer held until the group has committed past the record, so that one reads one's own write."""

from aiohttp import web
from msgspec import UNSET, UnsetType

from gateway.context import Call
from gateway.errors import BadQuery
from gateway.publisher import Receipt
from schemas.topics import GROUPS, RUN_EVENTS

WAIT_MAX_S = 10.0
NAMES = tuple(group.name for group in GROUPS if group.source is RUN_EVENTS)


def read_wait(request: web.BaseRequest) -> str | None:
    """The group that is to be waited for; None waits for none. Asked before anything is published."""
    if not request.query_string:
        return None
    name = request.query.get("wait")
    if name is not None and name not in NAMES:
        raise BadQuery(f"wait is one of {', '.join(NAMES)}")
    return name


async def wait_past(call: Call, group: str | None, receipt: Receipt) -> bool | UnsetType:
    """Whether *group* has committed past *receipt* within `WAIT_MAX_S`; unset where nobody asked."""
    if group is None:
        return UNSET
    return await call.parts.followers[group].wait_past(receipt, timeout_s=WAIT_MAX_S)
