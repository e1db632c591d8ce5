"""What handlers are given: one call, with the parts of the application that it may need."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import msgspec
from aiohttp import web

from gateway.connections import Deadlines
from gateway.intake.records import Stamp
from gateway.judging.judge import Judge
from gateway.live import LiveCursors
from gateway.log.followers import GroupFollower
from gateway.log.identity import LogIdentity
from gateway.log.reader import Log
from gateway.objects.pages import Pages
from gateway.publisher import Publisher
from gateway.queries.runs import RunStore
from gateway.receipts.endpoints import EndpointViews
from gateway.receipts.receipts import Receipts
from gateway.receipts.survey import Survey
from gateway.room import Room
from gateway.sequence.sequencer import Sequencer
from gateway.throttle import Throttle
from schemas.access.credentials import Credentials, CurrentCredentials, Principal
from schemas.process.telemetry import Telemetry

Clock = Callable[[], datetime]

# Who calls a route that needs no key.
NOBODY = Principal(key_id="", tenant="", rights=frozenset(), agents=frozenset())


@dataclass(slots=True)
class Readiness:
    """Whether this process means to take requests; not once it is told to stop."""

    accepting: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What the application is made of."""

    publisher: Publisher
    judge: Judge
    sequencer: Sequencer
    throttle: Throttle
    store: RunStore
    pages: Pages
    receipts: Receipts
    survey: Survey
    live: LiveCursors
    identity: LogIdentity
    log: Log
    followers: Mapping[str, GroupFollower]  # by group name
    endpoints: EndpointViews
    credentials: CurrentCredentials
    clock: Clock
    telemetry: Telemetry
    readiness: Readiness
    deadlines: Deadlines
    room: Room
    openapi: bytes


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """One admitted request."""

    request: web.BaseRequest
    parts: Parts
    run_id: str  # the first name in the path, or ""; not validated yet: see `check_run_id`
    names: Sequence[str]  # all names in the path, percent-decoded, in order, such as topic, partition, offset
    principal: Principal
    credentials: Credentials  # in force when the request came
    stamp: Stamp
    body_bytes_max: int
