"""
The contents of a spool file: one JSON line for each part of a run that was not sent in time.

It contains neither the API key nor the agent's secret: events are signed when they are sent.
"""

import msgspec

from gateway.client.encoding import FRAME_BYTES, PendingEvent
from schemas.ids import is_id


class Spooled(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind"):
    """One line: part of one session of a run. `session` keeps two processes that went on with one run apart."""

    session: str
    run_id: str
    agent_id: str


class SpooledEnvironment(Spooled, frozen=True, kw_only=True, tag="environment"):
    """The environment of the run."""

    environment: msgspec.Raw


class SpooledEvent(Spooled, frozen=True, kw_only=True, tag="event"):
    """An event; `seq` only if an attempt under it may have been taken. `head` is what was sent before it."""

    head: int
    resume: bool
    seq: int | None
    t: str
    actor: str
    type: str
    idempotency_key: str
    payload: msgspec.Raw

    def pending(self) -> PendingEvent:
        """Return the event as it waited."""
        payload = bytes(self.payload)
        return PendingEvent(
            type=self.type,
            actor=self.actor,
            t=self.t,
            idempotency_key=self.idempotency_key,
            payload=payload.decode(),
            size_bytes=len(payload) + FRAME_BYTES,
            seq=self.seq,
            in_doubt=self.seq is not None,
        )


class SpooledEnd(Spooled, frozen=True, kw_only=True, tag="finalize"):
    """The end of a run; `head` as in `SpooledEvent`, `lost_count` and `located` as `RunSender` has them."""

    head: int
    status: str
    lost_count: int
    located: bool = True


Line = SpooledEnvironment | SpooledEvent | SpooledEnd


def encode(line: Line) -> bytes:
    """Return the JSON text of *line*, with its line break."""
    return msgspec.json.encode(line) + b"\n"


def decode(text: bytes) -> Line | None:
    """Return the line that *text* is; None if it is not one."""
    try:
        line: Line = msgspec.json.decode(text, type=Line)
        if isinstance(line, SpooledEvent):
            bytes(line.payload).decode()
        if not is_id(line.run_id):  # it becomes part of a path
            return None
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    return line


def spooled_event(event: PendingEvent, *, session: str, run_id: str, agent_id: str, head: int, resume: bool) -> Line:
    """Return the line of an event that was not sent, or whose fate is not known."""
    return SpooledEvent(
        session=session,
        run_id=run_id,
        agent_id=agent_id,
        head=head,
        resume=resume,
        seq=event.seq if event.in_doubt else None,
        t=event.t,
        actor=event.actor,
        type=event.type,
        idempotency_key=event.idempotency_key,
        payload=msgspec.Raw(event.payload.encode()),
    )
