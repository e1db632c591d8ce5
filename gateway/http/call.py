"""A request as its handler receives it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

import msgspec
from aiohttp import web

from gateway.http.budget import BodyBudget
from gateway.kafka.records import Stamp
from schemas.access.credentials import Credentials, Principal

Clock = Callable[[], datetime]

# Who calls a route that needs no key.
NOBODY = Principal(key_id="", tenant="", rights=frozenset(), agents=frozenset())


@dataclass(frozen=True, slots=True, kw_only=True)
class BodyLimits:
    """The bounds of a body while it is read."""

    bytes_max: int
    deadline_s: float
    budget: BodyBudget  # shared by all bodies


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """One admitted request."""

    request: web.BaseRequest
    path: Mapping[str, str]  # the names in the path, percent-decoded and not validated yet: {"run_id": ...}
    principal: Principal
    credentials: Credentials  # in force when the request came
    stamp: Stamp
    body: BodyLimits
