"""What status and receipts say of webhook endpoints, and to whom."""

from collections.abc import Mapping

from gateway.status.views import EndpointStatus
from schemas.access.credentials import Principal, Right
from schemas.kafka.places import RecordPlace
from schemas.runs.endpoints import is_wanted
from schemas.runs.records import EndpointState, RunRecord


class EndpointViews:
    """The endpoints as their workers told the log."""

    def __init__(self, states: Mapping[str, EndpointState]) -> None:
        """Look at *states*, by endpoint, which change."""
        self._states = states

    def are_seen(self, endpoint: str | None, principal: Principal) -> bool:
        """Return whether *principal* may hear of *endpoint*: not of another tenant's. None is no endpoint's group."""
        if endpoint is None:
            return True
        state = self._states.get(endpoint)
        if state is None:
            return Right.ADMIN in principal.rights  # whose it is, its worker has not said
        return state.tenant in (None, principal.tenant)

    def want(self, endpoint: str | None, record: RunRecord) -> bool:
        """Return whether *endpoint* asks for *record*, as it is set up now, or may for all that is known."""
        state = self._states.get(endpoint or "")
        return state is None or is_wanted(record, tenant=state.tenant, types=state.types)

    def began_behind(self, endpoint: str | None, place: RecordPlace) -> bool:
        """Return whether *place* is known to lie before the one where the group of *endpoint* began."""
        state = self._states.get(endpoint or "")
        firsts = (state and state.first_offsets) or ()
        return place.partition < len(firsts) and place.offset < firsts[place.partition]

    def status(self, endpoint: str | None) -> EndpointStatus | None:
        """Return how *endpoint* is doing; None if its worker has not said."""
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
