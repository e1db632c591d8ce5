"""A part of the API, and what all parts share."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from gateway.http.call import Clock
from gateway.http.child.parsing import BodyParser
from gateway.http.connections import Deadlines
from gateway.http.routes import Route
from gateway.kafka.followers import GroupFollower
from gateway.kafka.publisher import Publisher
from gateway.kafka.reader import Log
from gateway.limits.throttle import Throttle
from gateway.tokens.verifier import TokenVerifier
from schemas.access.credentials import CurrentCredentials
from schemas.process.telemetry import Telemetry

P = TypeVar("P")


@dataclass(slots=True)
class Readiness:
    """A flag: True while this process accepts requests, False once it shuts down."""

    accepting: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """The dependencies that all features share."""

    publisher: Publisher
    parser: BodyParser
    throttle: Throttle
    log: Log
    followers: Mapping[str, GroupFollower]  # by group name
    credentials: CurrentCredentials
    tokens: TokenVerifier
    clock: Clock
    telemetry: Telemetry
    readiness: Readiness
    deadlines: Deadlines
    origins: Sequence[str] = ()  # of web pages that may call the routes of users
    tenant_of_anyone: str | None = None  # of requests without a key, on routes that take anyone; None: nobody's


@dataclass(frozen=True, slots=True, kw_only=True)
class Feature(Generic[P]):
    """A part of the API: its routes, and what their handlers work with."""

    routes: Sequence[Route[P]]
    parts: P
