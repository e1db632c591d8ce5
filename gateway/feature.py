"""A part of the API, and what all parts share."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from gateway.child.parsing import BodyParser
from gateway.connections import Deadlines
from gateway.context import Clock
from gateway.log.followers import GroupFollower
from gateway.log.reader import Log
from gateway.publisher import Publisher
from gateway.route import Route
from gateway.throttle import Throttle
from schemas.access.credentials import CurrentCredentials
from schemas.process.telemetry import Telemetry

P = TypeVar("P")


@dataclass(slots=True)
class Readiness:
    """Whether this process accepts requests; not once it is told to stop."""

    accepting: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """What every feature may use."""

    publisher: Publisher
    parser: BodyParser
    throttle: Throttle
    log: Log
    followers: Mapping[str, GroupFollower]  # by group name
    credentials: CurrentCredentials
    clock: Clock
    telemetry: Telemetry
    readiness: Readiness
    deadlines: Deadlines


@dataclass(frozen=True, slots=True, kw_only=True)
class Feature(Generic[P]):
    """A part of the API: its routes, and what their handlers work with."""

    routes: Sequence[Route[P]]
    parts: P
