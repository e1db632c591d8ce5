"""
Charges of a request: the limits of its key and address before it is read, those of its events once they are valid.

A refused charge takes nothing; what the log then refuses is given back.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from time import monotonic

from gateway.errors import SlowedDown
from gateway.limits.limits import Bound, Kind, Limits, OverLimit, Quota
from schemas.access.credentials import Credentials, Principal
from schemas.pacing.admission import Admission
from schemas.process.settings import setting


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitSettings:
    """Limits of each gateway on events or requests within any 60 s; a tenant's limit is in the credentials file."""

    run_per_min: int = setting("TIDEGATE_LIMIT_RUN_PER_MIN", 1_000, help="Events of one run; 0: no limit")
    agent_per_min: int = setting("TIDEGATE_LIMIT_AGENT_PER_MIN", 10_000, help="Events of one agent; 0: no limit")
    user_per_min: int = setting(
        "TIDEGATE_LIMIT_USER_PER_MIN", 10_000, help="User events sent with the tokens of one user; 0: no limit"
    )
    key_per_min: int = setting("TIDEGATE_LIMIT_KEY_PER_MIN", 0, help="Requests with one API key; 0: no limit")
    address_per_min: int = setting("TIDEGATE_LIMIT_ADDRESS_PER_MIN", 0, help="Requests from one address; 0: no limit")
    admission_lag_max: int = setting(
        "TIDEGATE_ADMISSION_LAG_MAX",
        1_000_000,
        help="Events of runs are admitted more slowly from four fifths of this lag of persistence on, user events from "
        "that of events",
        unit="records",
    )


UNNAMED = ""  # what records are charged under that no agent speaks for


class Throttle:
    """The limits of one gateway; a limit of 0 means no limit."""

    def __init__(
        self,
        settings: LimitSettings,
        *,
        admission: Admission,
        limits: Limits | None = None,
        clock_s: Callable[[], float] = monotonic,
    ) -> None:
        """Admit events by *admission*, and charge them to *limits*, which others may charge as well."""
        self.admission = admission
        self._settings = settings
        self._limits = Limits() if limits is None else limits
        self._clock_s = clock_s

    def charge_address(self, address: str) -> None:
        """Charge one request to the address that it comes from. Raises OverLimit."""
        self._charge_request(Kind.ADDRESS, address, self._settings.address_per_min)

    def charge_key(self, key_id: str) -> None:
        """Charge one request to its key. Raises OverLimit."""
        self._charge_request(Kind.KEY, key_id, self._settings.key_per_min)

    def check_admission(self, count_max: int) -> None:
        """
        Turn away a request of up to *count_max* events that would have to wait, before any work is done for it.

        Raises:
            SlowedDown: persistence lags, and the rate is held down.
        """
        _slow_down(self.admission.wait_s(count_max, self._clock_s()))

    def charge_events(
        self, run_id: str, agents: Mapping[str, int], principal: Principal, credentials: Credentials
    ) -> "Charge":
        """
        Charge the events of *agents*, by number, to their run, agents and tenant: all or none.

        Raises:
            SlowedDown: persistence lags, and the rate is held down.
            OverLimit: more than one of them may send.
        """
        now_s = self._clock_s()
        charge = self._charge(run_id, agents, principal.tenant, credentials, now_s)
        try:
            _slow_down(self.admission.admit(sum(agents.values()), now_s))
        except SlowedDown:
            charge.give_back(agents)
            raise
        return charge

    def charge_records(self, count: int, principal: Principal, credentials: Credentials) -> "Charge":
        """
        Charge records that no agent speaks for to the tenant, and those that a token brought to its user: all or none.

        Raises:
            SlowedDown: their rows lag, and the rate is held down.
            OverLimit: more than one of them may send.
        """
        now_s = self._clock_s()
        bounds: list[Bound] = []
        if principal.user_id is not None and self._settings.user_per_min:
            bounds.append((Kind.USER, (principal.tenant, principal.user_id), self._settings.user_per_min))
        bounds += _tenant_bounds(principal.tenant, credentials)
        charge = Charge(self._limits)
        if bounds:
            charge.add(UNNAMED, self._limits.charge(bounds, count, now_s))
        try:
            _slow_down(self.admission.admit(count, now_s))
        except SlowedDown:
            charge.give_back({UNNAMED: count})
            raise
        return charge

    def _charge(
        self, run_id: str, agents: Mapping[str, int], tenant: str, credentials: Credentials, now_s: float
    ) -> "Charge":
        charge = Charge(self._limits)
        if len(agents) > 1:
            self._try_together(run_id, agents, tenant, credentials, now_s)
        try:
            for agent_id, count in agents.items():
                if bounds := self._bounds(run_id, agent_id, tenant, credentials):
                    charge.add(agent_id, self._limits.charge(bounds, count, now_s))
        except OverLimit:
            charge.give_back(agents)
            raise
        return charge

    def _try_together(
        self, run_id: str, agents: Mapping[str, int], tenant: str, credentials: Credentials, now_s: float
    ) -> None:
        """Raise OverLimit where all events do not fit into what their agents share, with the wait until they do."""
        count = sum(agents.values())
        bounds = self._bounds(run_id, next(iter(agents)), tenant, credentials)
        if shared := [bound for bound in bounds if bound[0] is not Kind.AGENT]:
            self._limits.give_back(self._limits.charge(shared, count, now_s), count)

    def _charge_request(self, kind: Kind, name: str, limit: int) -> None:
        if limit:
            self._limits.charge([(kind, name, limit)], 1, self._clock_s())

    def _bounds(self, run_id: str, agent_id: str, tenant: str, credentials: Credentials) -> Sequence[Bound]:
        bounds: list[Bound] = []
        if self._settings.run_per_min:
            bounds.append((Kind.RUN, (tenant, run_id), self._settings.run_per_min))
        if self._settings.agent_per_min:
            bounds.append((Kind.AGENT, (tenant, agent_id), self._settings.agent_per_min))
        bounds += _tenant_bounds(tenant, credentials)
        return bounds


class Charge:
    """The charges for the events of a request, by agent; of other records under no name."""

    __slots__ = ("_limits", "_quotas")

    def __init__(self, limits: Limits) -> None:
        """Charge nothing yet."""
        self._limits = limits
        self._quotas: dict[str, Quota] = {}

    def add(self, agent_id: str, quota: Quota) -> None:
        """Note what was charged for the events of *agent_id*."""
        self._quotas[agent_id] = quota

    @property
    def tightest(self) -> Quota | None:
        """Return the quota of which the least is left, as it was when it was charged; None where nothing is limited."""
        return min(self._quotas.values(), key=lambda quota: quota.remaining, default=None)

    def give_back(self, agents: Mapping[str, int]) -> None:
        """Give back so many events of each agent."""
        for agent_id, count in agents.items():
            if agent_id in self._quotas and count:
                self._limits.give_back(self._quotas[agent_id], count)


def _tenant_bounds(tenant: str, credentials: Credentials) -> Sequence[Bound]:
    limit = credentials.tenants[tenant].events_per_min
    return () if limit is None else ((Kind.TENANT, tenant, limit),)


def _slow_down(wait_s: float) -> None:
    if wait_s > 0:
        raise SlowedDown(retry_after_s=ceil(wait_s))
