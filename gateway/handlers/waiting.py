"""`?wait=GROUP`: an answer held until the group has committed past the record, so that one reads one's own write."""

from msgspec import UNSET, UnsetType

from gateway.context import Call
from gateway.errors import BadQuery, LogUnavailable, QueueFull
from gateway.log.followers import GroupFollower
from schemas.catalogue import GROUPS
from schemas.errors import Fault
from schemas.kafka.places import RecordPlace
from schemas.runs.topics import endpoint_of

WAIT_MAX_S = 10.0
# Of every deployment; an endpoint's group, such as evaluation.default, is asked for by its name as well.
NAMES = tuple(group.name for group in GROUPS)


def read_wait(call: Call) -> GroupFollower | None:
    """Who follows the group that is to be waited for; None waits for none. Asked before anything is published."""
    if not call.request.query_string or (name := call.request.query.get("wait")) is None:
        return None
    seen = {
        group: follower
        for group, follower in call.parts.followers.items()
        if call.parts.endpoints.are_seen(endpoint_of(follower.group), call.principal)
    }
    if name not in seen:
        detail = f"wait must be one of {', '.join(seen)}"
        raise BadQuery([Fault(pointer="", detail=detail, parameter="wait")])
    return seen[name]


async def wait_past(call: Call, follower: GroupFollower | None, receipt: RecordPlace) -> bool | UnsetType:
    """
    Return whether the group has committed past *receipt* within `WAIT_MAX_S`; unset where nobody asked.

    A position that has outlived its log, and so may lie beyond what was written just now, does not count.
    """
    if follower is None:
        return UNSET
    if not await follower.wait_past(receipt, timeout_s=WAIT_MAX_S):
        return False
    try:
        position = follower.progress()[receipt.partition].position
        return not await call.parts.log.faults(receipt.topic, {receipt.partition: position})
    except (LogUnavailable, QueueFull):
        return False
