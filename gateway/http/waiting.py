"""`?wait=GROUP`: an answer held until the group has committed past the record, so that one reads one's own write."""

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated

from msgspec import UNSET, Meta, UnsetType

from gateway.errors import BadQuery, LogUnavailable, QueueFull
from gateway.http.call import Call
from gateway.http.routes import Parameter
from gateway.kafka.followers import GroupFollower
from gateway.kafka.reader import Log
from schemas.access.credentials import Principal
from schemas.errors import Fault
from schemas.kafka.places import RecordPlace
from schemas.kafka.topics import Group

WAIT_MAX_S = 10.0


def wait_parameter(names: Sequence[str], *, others: str = "") -> Parameter:
    """Return the query parameter `wait` of a route whose records the groups of these *names* read, and *others*."""
    return Parameter(
        name="wait",
        type=Annotated[str, Meta(extra_json_schema={"enum": names})],
        description=f"Hold the response until this group ({', '.join(names)}{others}) has committed past the record, "
        f"{WAIT_MAX_S:g} s at most; `waited` in the answer says whether it has",
    )


class Waiting:
    """The waits of requests until a consumer group has committed past a record."""

    def __init__(
        self, followers: Mapping[str, GroupFollower], *, log: Log, is_seen: Callable[[Group, Principal], bool]
    ) -> None:
        """Ask *followers*, by group name, of the groups that a caller may see (*is_seen*)."""
        self._followers = followers
        self._log = log
        self._is_seen = is_seen

    def read(self, call: Call) -> GroupFollower | None:
        """
        Return the follower of the group that `?wait` names; None without it. Call it before anything is published.

        Raises:
            BadQuery: there is no such group, or the caller may not see it.
        """
        if not call.request.query_string or (name := call.request.query.get("wait")) is None:
            return None
        seen = {
            group: follower
            for group, follower in self._followers.items()
            if self._is_seen(follower.group, call.principal)
        }
        if name not in seen:
            detail = f"wait must be one of {', '.join(seen)}"
            raise BadQuery([Fault(pointer="", detail=detail, parameter="wait")])
        return seen[name]

    async def past(self, follower: GroupFollower | None, place: RecordPlace) -> bool | UnsetType:
        """
        Return True if the group has committed past *place* within `WAIT_MAX_S`; unset where nobody waits.

        See `has_passed`.
        """
        if follower is None:
            return UNSET
        return await has_passed(follower, place, log=self._log, timeout_s=WAIT_MAX_S)


async def has_passed(follower: GroupFollower, place: RecordPlace, *, log: Log, timeout_s: float) -> bool:
    """
    Return True if a group has committed past *place* within *timeout_s*.

    A position that has outlived its log, and so may lie beyond what was written just now, does not count.
    """
    if not await follower.wait_past(place, timeout_s=timeout_s):
        return False
    try:
        position = follower.progress()[place.partition].position
        return not await log.faults(place.topic, {place.partition: position})
    except (LogUnavailable, QueueFull):
        return False
