"""Readiness of a process, as its management address reports it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from http import HTTPStatus
from http.client import HTTPException
from typing import Any

from deploy.admin.reach import get


class State(StrEnum):
    """The state of a process."""

    READY = "ready"
    DEGRADED = "degraded"  # it does, but for a part that waits
    UNREADY = "unready"
    UNREACHABLE = "unreachable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Readiness:
    """The state of a process, and why it is not ready."""

    state: State
    reasons: tuple[str, ...] = ()


def ask(management: str) -> Readiness:
    """Ask the process behind the *management* URL; takes a few seconds at most."""
    try:
        status, content = get(management, "/readyz")
        body = json.loads(content)
    except (OSError, HTTPException, ValueError):
        return Readiness(state=State.UNREACHABLE, reasons=(f"/readyz does not answer at {management}",))
    reasons = tuple(_reasons(body if isinstance(body, dict) else {}))
    if status != HTTPStatus.OK:
        return Readiness(state=State.UNREADY, reasons=reasons or ("it is starting",))
    return Readiness(state=State.DEGRADED if reasons else State.READY, reasons=reasons)


def _reasons(body: Mapping[str, Any]) -> list[str]:
    """Return the reasons in the gateway's or a processor's response."""
    reasons = [str(body["reason"])] if body.get("reason") else []
    if body.get("log") is False:
        reasons.append("Kafka does not acknowledge")
    if body.get("store") is False:
        reasons.append("Postgres does not answer")
    reasons += [str(why) for why in (body.get("waiting") or {}).values()]
    reasons += [f"{path} is not in force: {why}" for path, why in (body.get("files") or {}).items()]
    return reasons
