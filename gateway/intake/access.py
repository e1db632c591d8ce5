"""Who makes a request, and for which agents it may speak."""

from collections.abc import Mapping
from datetime import datetime

from gateway.errors import Forbidden, SignatureInvalid
from schemas.credentials import Agent, Credentials, KeyRefused, Principal, Right
from schemas.validity import signature_fault

BEARER = "Bearer "


def authenticate(headers: Mapping[str, str], credentials: Credentials, *, now: datetime) -> Principal:
    """
    Return whose key the request bears, in `X-API-Key` or as a bearer token.

    Raises:
        KeyRefused: none, or none that is valid.
    """
    presented = headers.get("X-API-Key")
    if presented is None:
        authorization = headers.get("Authorization", "")
        if authorization[: len(BEARER)].lower() != BEARER.lower():
            raise KeyRefused("an API key is needed, in X-API-Key or as a bearer token")
        presented = authorization[len(BEARER) :].strip()
    return credentials.authenticate(presented, now=now)


def require(principal: Principal, right: Right) -> None:
    """Raise Forbidden unless *principal* has *right*."""
    if right not in principal.rights:
        raise Forbidden(f"the key does not have the right {right.value!r}")


def speaker(agent_id: str, principal: Principal, credentials: Credentials) -> Agent:
    """
    Return the agent that *principal* speaks for.

    Raises:
        Forbidden: the tenant has no such agent, or the key may not speak for it; the answer does not say which.
    """
    agent = credentials.tenants[principal.tenant].agents.get(agent_id)
    if agent is None or (principal.agents is not None and agent_id not in principal.agents):
        raise Forbidden(f"the key may not speak for agent {agent_id!r}")
    return agent


def check_signature(event: Mapping[str, object], agent: Agent) -> None:
    """Raise SignatureInvalid unless the valid *event* is signed as *agent* must."""
    if (detail := signature_fault(event, agent)) is not None:
        raise SignatureInvalid(detail)
