"""Who makes a request, and for which agents it may speak."""

from collections.abc import Mapping
from datetime import datetime

from gateway.errors import Forbidden
from schemas.access.credentials import Agent, Credentials, CurrentCredentials, KeyRefused, Principal, Right
from schemas.access.credentials import authenticate as of_key

BEARER = "Bearer "


def authenticate(
    headers: Mapping[str, str], credentials: CurrentCredentials, *, now: datetime
) -> tuple[Principal, Credentials]:
    """
    Return whose key the request has in `X-API-Key` or as a bearer token, and the credentials that have that key.

    Raises:
        KeyRefused: none, or none that is valid.
    """
    presented = headers.get("X-API-Key")
    if presented is None:
        authorization = headers.get("Authorization", "")
        if authorization[: len(BEARER)].lower() != BEARER.lower():
            raise KeyRefused("an API key is needed, in X-API-Key or as a bearer token")
        presented = authorization[len(BEARER) :].strip()
    return of_key(presented, credentials, now=now)


def require(principal: Principal, right: Right) -> None:
    """Raise Forbidden unless *principal* has *right*."""
    if right not in principal.rights:
        raise Forbidden(f"the key does not have the right {right.value!r}")


def agent_for(agent_id: str, principal: Principal, credentials: Credentials) -> Agent:
    """
    Return the agent that *principal* speaks for.

    Raises:
        Forbidden: the tenant has no such agent, or the key may not speak for it. A key that is bound to other agents is
            not told which there are.
    """
    tenant = credentials.tenants.get(principal.tenant)  # None: removed since the key was checked
    agent = None if tenant is None else tenant.agents.get(agent_id)
    if principal.agents is not None and agent_id not in principal.agents:
        raise Forbidden(f"the key may not speak for agent {agent_id!r}")
    if agent is None:
        raise Forbidden(f"no such agent: the tenant has no agent {agent_id!r}; `tidegate agents add` makes one")
    return agent
