"""The view of webhook endpoints in the status and in receipts, and who may see their groups and those of sinks."""

from collections.abc import Mapping

from gateway.status.views import EndpointStatus
from schemas.access.credentials import Principal, Right
from schemas.kafka.places import RecordPlace
from schemas.kafka.topics import Group
from schemas.runs.endpoints import is_wanted
from schemas.runs.records import EndpointState, RunRecord
from schemas.runs.topics import endpoint_of
from schemas.sinks.topics import sink_of


class EndpointViews:
    """The endpoints as their workers told the log."""

    def __init__(self, states: Mapping[str, EndpointState]) -> None:
        """Look at *states*, by endpoint, which change."""
        self._states = states

    def is_seen(self, group: Group, principal: Principal) -> bool:
        """
        Return True if *principal* may see *group*: not that of another tenant's endpoint, nor of a sink, which is the
        deployment's own, without the right to administer.
        """
        if sink_of(group) is not None:
            return Right.ADMIN in principal.rights
        endpoint = endpoint_of(group)
        if endpoint is None:
            return True
        state = self._states.get(endpoint)
        if state is None:
            return Right.ADMIN in principal.rights  # whose it is, its worker has not said
        return state.tenant in (None, principal.tenant)

    def want(self, endpoint: str | None, record: RunRecord) -> bool:
        """Return True if *endpoint* asks for *record* in its current configuration, or if that is unknown."""
        state = self._states.get(endpoint or "")
        return state is None or is_wanted(record, tenant=state.tenant, types=state.types)

    def began_behind(self, endpoint: str | None, place: RecordPlace) -> bool:
        """Return True if *place* is known to be before the one where the group of *endpoint* began."""
        state = self._states.get(endpoint or "")
        firsts = (state and state.first_offsets) or ()
        return place.partition < len(firsts) and place.offset < firsts[place.partition]

    def status(self, endpoint: str | None) -> EndpointStatus | None:
        """Return the status of *endpoint*; None if its worker has not reported one."""
        state = self._states.get(endpoint or "")
        if state is None:
            return None
        return EndpointStatus(
            name=state.endpoint,
            tenant=state.tenant,
            types=state.types,
            breaker=state.breaker.value,
            reason=state.reason,
            since=state.since,
        )
