"""A route: one method of one path, with all that the router, the edge and the OpenAPI document need."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from aiohttp import web

from gateway.errors import Problem
from gateway.http.bodies import DOCUMENTS
from gateway.http.call import Call
from schemas.access.credentials import Right
from schemas.errors import ErrorCode

P = TypeVar("P")

Handler = Callable[[P, Call], Awaitable[web.StreamResponse]]
"""Answers a call with the parts of its feature."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BodySpec:
    """The request body of a route."""

    type: Any
    bytes_max: int
    media_types: tuple[str, ...] = DOCUMENTS
    packed: bool = True  # whether it may be, by Content-Encoding
    plain_types: tuple[str, ...] = ()  # of a body that is no document, but the text or the file itself


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One query parameter."""

    name: str
    type: Any
    description: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Route(Generic[P]):
    """One method of one path. Its handler's docstring is its summary."""

    method: str
    path: str  # without the trailing slash, which is always optional
    handler: Handler[P]
    answer: Any  # type of the answer's body; a tuple where it is one of several
    status: int = 200
    also: Mapping[int, str] = field(default_factory=dict)  # answers of the same form under another status, and when
    right: Right | None = None  # None: no key is needed
    takes_tokens: bool = False  # whether a user's token opens it; if not, only keys do
    takes_basic: bool = False  # whether a key may be the user name of Basic authentication (RFC 7617)
    takes_anyone: bool = False  # whether it is open without a key where the deployment names a tenant for that
    body: BodySpec | None = None
    patterns: Mapping[str, str] = field(default_factory=dict)  # of the names in the path that are no ids
    query: tuple[Parameter, ...] = ()
    ignores_query: bool = False  # whether parameters are let pass that it does not have; else they are refused
    refusals: tuple[ErrorCode, ...] = ()
    media_type: str = "application/json"  # of the answer
    mistakes: Mapping[int, str] = field(default_factory=dict)  # errors in a form of the route's own: status, and when
    mistake: Any = None  # the type of that form
    dialect: Callable[[Problem], Problem] | None = None  # returns a refusal as clients of another dialect expect it

    @property
    def is_for_users(self) -> bool:
        """Return True if users call it themselves, from web pages too; other routes are for servers."""
        return self.takes_tokens or self.takes_anyone

    @property
    def answers(self) -> tuple[Any, ...]:
        """Return the types that the answer's body may have."""
        return self.answer if isinstance(self.answer, tuple) else (self.answer,)

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names in the path, in order: ("run_id",)."""
        return tuple(segment[1:-1] for segment in self.path.split("/") if segment.startswith("{"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Chapter(Generic[P]):
    """The routes of one feature, which the API's description has under one tag."""

    tag: str  # generators make a module or a class of it
    description: str
    routes: Sequence[Route[P]]
