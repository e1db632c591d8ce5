"""
The events to send: generated or from a file, by run or by user, each in its order.

A run that could not deliver an event is left, since what follows would break its order: a generated run is
replaced by a new one, the rest of a file's run stays unsent.
"""

import json
import uuid
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import cycle, islice
from pathlib import Path
from typing import Any, Protocol

from schemas.ids import is_id
from schemas.runs.signature import sign_event

USER_EVENTS_PATH = "/api/v1/events"

_FILLER = "the tide comes in over the sill, stands an hour at the gate and goes out again; "


class NotAnEvent(ValueError):
    """A line of a file cannot be sent. Mend the file; the text names the line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OutgoingEvent:
    """One event as it goes over the wire, the same bytes at each attempt."""

    event_id: str  # its idempotency key, or run and seq where it has none
    order: Mapping[str, object]  # what it follows: its run and seq, or its user and their number
    path: str
    body: bytes


class EventSource(Protocol):
    """The events of one worker."""

    def next(self) -> OutgoingEvent | None:
        """Return the next event; None at the end. Call `settle` before the next call."""

    def settle(self, *, accepted: bool) -> None:
        """Take note of what became of that event."""


class GeneratedEvents:
    """Events without end, in turn over a number of runs."""

    def __init__(self, *, run_count: int, agent_id: str, secret: str | None, payload_bytes: int) -> None:
        """Name the runs; with *secret* the events are signed."""
        self._runs = deque((str(uuid.uuid4()), 1) for _ in range(run_count))
        self._agent_id = agent_id
        self._secret = secret
        self._text = "".join(islice(cycle(_FILLER), payload_bytes))

    def next(self) -> OutgoingEvent:
        """Return the next event of the run whose turn it is."""
        run_id, seq = self._runs[0]
        key = uuid.uuid4().hex
        event: dict[str, Any] = {
            "seq": seq,
            "t": datetime.now(UTC).isoformat(),
            "actor": "agent",
            "type": "message",
            "payload": {"text": self._text},
            "meta": {"run_id": run_id, "agent_id": self._agent_id, "idempotency_key": key},
        }
        return _of_run(run_id, seq, event_id=key, body=_signed(event, self._secret))

    def settle(self, *, accepted: bool) -> None:
        """Go on with the next run, and with a new one in place of one that lost an event."""
        run_id, seq = self._runs.popleft()
        self._runs.append((run_id, seq + 1) if accepted else (str(uuid.uuid4()), 1))


class GeneratedUserEvents:
    """User events without end, in turn over a number of users."""

    def __init__(self, *, user_count: int, payload_bytes: int) -> None:
        """Name the users."""
        self._users = deque((f"user-{uuid.uuid4().hex[:12]}", 1) for _ in range(user_count))
        self._text = "".join(islice(cycle(_FILLER), payload_bytes))

    def next(self) -> OutgoingEvent:
        """Return the next event of the user whose turn it is."""
        user_id, number = self._users[0]
        event_id = str(uuid.uuid4())
        event = {
            "id": event_id,
            "type": "user_action",
            "user_id": user_id,
            "occurred_at": datetime.now(UTC).isoformat(),
            "payload": {"number": number, "text": self._text},
        }
        order = {"user_id": user_id, "number": number}
        return OutgoingEvent(event_id=event_id, order=order, path=USER_EVENTS_PATH, body=_encoded(event))

    def settle(self, *, accepted: bool) -> None:  # noqa: ARG002  a lost event breaks no order of the others
        """Go on with the next user."""
        user_id, number = self._users.popleft()
        self._users.append((user_id, number + 1))


class FileEvents:
    """The given events, in turn over their runs."""

    def __init__(self, runs: Iterable[list[OutgoingEvent]]) -> None:
        """Take each run's events in order."""
        self._runs = deque(deque(run) for run in runs if run)

    def next(self) -> OutgoingEvent | None:
        """Return the next event of the run whose turn it is."""
        return self._runs[0][0] if self._runs else None

    def settle(self, *, accepted: bool) -> None:
        """Go on with the next run; what follows a lost event in its run is left."""
        run = self._runs.popleft()
        run.popleft()
        if accepted and run:
            self._runs.append(run)


def read_user_events(path: Path) -> list[list[OutgoingEvent]]:
    """
    Return the user events of a JSON-lines file by user, users in order of their first event.

    Raises:
        NotAnEvent: a line is no JSON object.
    """
    users: dict[str, list[OutgoingEvent]] = {}
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        if line.strip():
            try:
                event = json.loads(line)
                user_id = str(event.get("user_id"))
            except (AttributeError, ValueError) as error:
                raise NotAnEvent(f"{path}, line {number}: no JSON object") from error
            of_user = users.setdefault(user_id, [])
            order = {"user_id": event.get("user_id"), "number": len(of_user) + 1}
            event_id = str(event.get("id", f"{user_id}/{len(of_user) + 1}"))
            of_user.append(OutgoingEvent(event_id=event_id, order=order, path=USER_EVENTS_PATH, body=line))
    return list(users.values())


def read_file(path: Path, *, secret: str | None) -> list[list[OutgoingEvent]]:
    """
    Return the events of a JSON-lines file by run, runs in order of their first event; with *secret* signed again.

    Raises:
        NotAnEvent: a line does not say which run it belongs to, and where.
    """
    runs: dict[str, list[OutgoingEvent]] = {}
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        if line.strip():
            try:
                run_id, outgoing = _outgoing(line, secret)
            except (KeyError, TypeError, ValueError) as error:
                raise NotAnEvent(f"{path}, line {number}: no JSON with seq and meta.run_id") from error
            runs.setdefault(run_id, []).append(outgoing)
    return list(runs.values())


def _outgoing(line: bytes, secret: str | None) -> tuple[str, OutgoingEvent]:
    # Whether it is a valid event is for the gateway to judge.
    event = json.loads(line)
    run_id, seq = event["meta"]["run_id"], event["seq"]
    if not (isinstance(seq, int) and isinstance(run_id, str) and is_id(run_id)):
        raise ValueError(line)
    event_id = event["meta"].get("idempotency_key", f"{run_id}/{seq}")
    body = line if secret is None else _signed(event, secret)  # verbatim, as it is written
    return run_id, _of_run(run_id, seq, event_id=event_id, body=body)


def _of_run(run_id: str, seq: int, *, event_id: str, body: bytes) -> OutgoingEvent:
    order = {"run_id": run_id, "seq": seq}
    return OutgoingEvent(event_id=event_id, order=order, path=f"/api/runs/{run_id}/events/", body=body)


def _signed(event: dict[str, Any], secret: str | None) -> bytes:
    if secret is not None:
        event["meta"]["signature"] = sign_event(event, secret)
    return _encoded(event)


def _encoded(event: Mapping[str, Any]) -> bytes:
    return json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode()
