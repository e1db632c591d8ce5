"""`?wait=GROUP`: an answer held until the group has committed past the record, so that one reads one's own write."""

from msgspec import UNSET, UnsetType

from gateway.context import Call
from gateway.errors import BadQuery
from gateway.publisher import Receipt
from schemas.topics import GROUPS

WAIT_MAX_S = 10.0
# Of every deployment; an endpoint's group, such as evaluation.default, is asked for by its name as well.
NAMES = tuple(group.name for group in GROUPS)


def read_wait(call: Call) -> str | None:
    """The group that is to be waited for; None waits for none. Asked before anything is published."""
    if not call.request.query_string:
        return None
    name = call.request.query.get("wait")
    names = call.parts.followers
    if name is not None and name not in names:
        raise BadQuery(f"wait is one of {', '.join(names)}")
    return name


async def wait_past(call: Call, group: str | None, receipt: Receipt) -> bool | UnsetType:
    """Whether *group* has committed past *receipt* within `WAIT_MAX_S`; unset where nobody asked."""
    if group is None:
        return UNSET
    return await call.parts.followers[group].wait_past(receipt, timeout_s=WAIT_MAX_S)
