"""Authentication of requests, and the agents for which a key may speak."""

import base64
from datetime import datetime

from multidict import CIMultiDictProxy

from gateway.errors import Forbidden
from gateway.tokens.verifier import TokenVerifier
from schemas.access.credentials import Agent, Credentials, CurrentCredentials, KeyRefused, Principal, Right
from schemas.access.credentials import authenticate as of_key

BEARER = "Bearer "
BASIC = "Basic "
KEY_PREFIX = "tg_"  # of our own keys, and of no token


def authenticate(
    headers: CIMultiDictProxy[str],
    credentials: CurrentCredentials,
    tokens: TokenVerifier,
    *,
    now: datetime,
    takes_basic: bool = False,
) -> tuple[Principal, Credentials]:
    """
    Return the sender of a request, and the credentials that authenticate it.

    The sender is the owner of the key in `X-API-Key` or in the bearer token, or the user whose JWT is the bearer token;
    with *takes_basic*, also the owner of the key that is the user name of Basic authentication.

    Raises:
        KeyRefused: neither, or none that is valid.
        KeysUnavailable: the keys of the token's issuer were never read. Answer 503.
    """
    used = credentials()
    tokens.use(used)
    presented = headers.get("X-API-Key")
    if presented is not None:
        return of_key(presented, credentials, now=now)
    authorizations = headers.getall("Authorization", ())
    if takes_basic and len(authorizations) == 1 and authorizations[0][: len(BASIC)].lower() == BASIC.lower():
        return of_key(_user_name(authorizations[0][len(BASIC) :].strip()), credentials, now=now)
    if len(authorizations) != 1 or authorizations[0][: len(BEARER)].lower() != BEARER.lower():
        raise KeyRefused("an API key is needed, in X-API-Key or as a bearer token")
    presented = authorizations[0][len(BEARER) :].strip()
    if not used.issuers or presented.startswith(KEY_PREFIX):
        return of_key(presented, credentials, now=now)
    try:
        return tokens.authenticate(presented, used, now=now), used
    except KeyRefused:
        if (newer := credentials.newer(used)) is None:
            raise
    return tokens.authenticate(presented, newer, now=now), newer


def _user_name(encoded: str) -> str:
    """Return the user name in Basic credentials (RFC 7617). Raises KeyRefused: they are not readable."""
    try:
        return base64.b64decode(encoded, validate=True).decode().partition(":")[0]
    except ValueError:
        raise KeyRefused("the credentials of Basic authentication are not base64 of an API key and a colon") from None


def shows_key(headers: CIMultiDictProxy[str]) -> bool:
    """Return True if a request names who makes it, whether that is valid or not."""
    return "X-API-Key" in headers or "Authorization" in headers


def anyone(tenant: str) -> Principal:
    """Return the principal that sends events to *tenant* without a key."""
    return Principal(key_id="anyone", tenant=tenant, rights=frozenset({Right.INGEST}), agents=frozenset())


def require(principal: Principal, right: Right, *, takes_tokens: bool) -> None:
    """Raise Forbidden unless *principal* has *right*, and is a key or the route *takes_tokens*."""
    if principal.user_id is not None and not takes_tokens:
        raise Forbidden("a user's token does not open this; use an API key")
    if right not in principal.rights:
        what = "key" if principal.user_id is None else "token"
        raise Forbidden(f"the {what} does not have the right {right.value!r}")


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
