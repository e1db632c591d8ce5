"""Authentication by a header, a ticket or the URL; the allowed web origins; and the events that a caller may see."""

import operator
from collections.abc import Callable, Mapping
from datetime import datetime

from aiohttp import web

from processors.fanout.messages import Key
from processors.fanout.refusals import HttpError
from processors.fanout.streams.runs import AGENT
from processors.fanout.streams.table import STREAMS
from processors.fanout.tickets import Tickets
from schemas.access.credentials import (
    Credentials,
    CurrentCredentials,
    KeyRefused,
    Principal,
    Right,
    authenticate,
    decide,
)
from schemas.errors import ErrorCode
from schemas.ids import is_id

BEARER = "Bearer "


class Access:
    """The access checks of requests."""

    def __init__(
        self,
        *,
        credentials: CurrentCredentials,
        tickets: Tickets,
        origins: frozenset[str],
        query_keys: bool,
        now: Callable[[], datetime],
    ) -> None:
        """Admit web pages of *origins*; with *query_keys* a key may be in the URL."""
        self._credentials = credentials
        self._tickets = tickets
        self._origins = origins
        self._query_keys = query_keys
        self._now = now

    def check_origin(self, request: web.BaseRequest) -> None:
        """Raise HttpError for a web page of a foreign origin; a program that sends none passes."""
        if "Origin" in request.headers and self.allowed_origin(request) is None:
            raise HttpError(403, ErrorCode.FORBIDDEN, "pages of this origin may not connect")

    def allowed_origin(self, request: web.BaseRequest) -> str | None:
        """Return the origin of the web page that asks, if its pages may."""
        origins = request.headers.getall("Origin", [])
        return origins[0] if len(origins) == 1 and origins[0] in self._origins else None

    def reader(self, request: web.BaseRequest, *, by_url: bool) -> Principal:
        """
        Return the principal of a request, which may read; *by_url* says if a ticket or a key in the URL counts.

        Raises:
            HttpError: there is no valid key or ticket, or it lacks that right.
        """
        principal = self._principal(request.headers, request.query if by_url else {})
        if Right.READ not in principal.rights:
            raise HttpError(403, ErrorCode.FORBIDDEN, "the key does not have the right 'read'")
        return principal

    def check_key(self, key: Key, principal: Principal) -> None:
        """Raise HttpError unless *principal* may follow what *key* names."""
        kind, tenant, name = key
        stream = STREAMS[kind]
        if stream.is_named and not is_id(name):
            raise HttpError(400, ErrorCode.BAD_REQUEST, f"{kind} is [A-Za-z0-9._:-]{{1,128}}")
        if stream.spans_agents and principal.agents is not None:
            raise HttpError(403, ErrorCode.FORBIDDEN, "the stream shows more than the agents that the key is bound to")
        if kind == AGENT and not decide(
            lambda by: _may_follow_agent(name, tenant, principal, by), self._credentials, refuses=operator.not_
        ):
            bound = principal.agents is not None  # such a key is not told which other agents there are
            detail = f"the key may not follow agent {name!r}" if bound else f"no such agent: {name!r}"
            raise HttpError(403, ErrorCode.FORBIDDEN, detail)

    def is_key_valid(self, principal: Principal) -> bool:
        """Return True if the key of *principal* is in force with unchanged rights."""
        return self._credentials().standing(principal.key_id, now=self._now()) == principal

    def _principal(self, headers: Mapping[str, str], query: Mapping[str, str]) -> Principal:
        presented = headers.get("X-API-Key")
        authorization = headers.get("Authorization", "")
        if presented is None and authorization[: len(BEARER)].lower() == BEARER.lower():
            presented = authorization[len(BEARER) :].strip()
        if presented is None and "ticket" in query:
            return self._of_ticket(query["ticket"])
        if presented is None and self._query_keys:
            presented = query.get("api_key")
        if presented is None:
            raise HttpError(401, ErrorCode.UNAUTHENTICATED, "an API key or a ticket is needed")
        try:
            principal, _ = authenticate(presented, self._credentials, now=self._now())
        except KeyRefused as error:
            raise HttpError(401, ErrorCode.UNAUTHENTICATED, str(error)) from error
        return principal

    def _of_ticket(self, text: str) -> Principal:
        principal = self._tickets.redeem(text)
        if principal is None or not self.is_key_valid(principal):
            raise HttpError(401, ErrorCode.UNAUTHENTICATED, "the ticket is used, has run out, or never was one")
        return principal


def _may_follow_agent(agent_id: str, tenant_id: str, principal: Principal, credentials: Credentials) -> bool:
    tenant = credentials.tenants.get(tenant_id)
    return (
        tenant is not None and agent_id in tenant.agents and (principal.agents is None or agent_id in principal.agents)
    )
