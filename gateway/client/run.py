"""
One run: its events numbered, signed and sent in the background, in order, and its end told to the gateway.

Why numbers are given when an event is sent and not when it is made: a refused event (too large, say) leaves its
number to the next one, and the rest of the run still arrives without a gap. An event whose fate stays unknown
leaves none: its number may be taken, so nothing more of the run is sent.
"""

import asyncio
import json
import uuid
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self

from gateway.client.bounds import Bounds
from gateway.client.delivery import Delivery, Receipt, Request
from gateway.client.errors import Dropped, Refused, SendAgainLater, Undelivered
from schemas import strictjson
from schemas.errors import Fault, Invalid
from schemas.events import RunStatus
from schemas.signature import sign_event
from schemas.validity import event_faults, is_id

Event = dict[str, Any]  # as it becomes JSON


@dataclass(frozen=True, slots=True, kw_only=True)
class Agent:
    """Who speaks; with a secret it signs."""

    agent_id: str
    secret: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """An event that is in the log."""

    seq: int
    type: str
    wal_id: str
    duplicate: bool  # an earlier attempt had put it there


class Run:
    """An open run; made by `TidegateClient.run`."""

    def __init__(
        self,
        run_id: str,
        *,
        agent: Agent,
        delivery: Delivery,
        environment: bytes,
        bounds: Bounds,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Start sending on entry; *environment* is the JSON text to send first."""
        if not is_id(run_id):
            raise Invalid([Fault(pointer="/meta/run_id", detail="[A-Za-z0-9._:-]{1,128}")])
        self.id = run_id
        self.event_count = 0  # made so far, whatever became of them
        self.accepted_count = 0
        self.dropped_count = 0
        self._agent = agent
        self._delivery = delivery
        self._environment = environment
        self._bounds = bounds
        self._now = now
        self._receipts: deque[Accepted] = deque(maxlen=bounds.receipts_max)
        self._dropped: list[Dropped] = []
        self._queue: asyncio.Queue[Event | RunStatus] = asyncio.Queue(bounds.queue_events_max)  # a status ends it
        self._lost: Refused | SendAgainLater | None = None  # set once the fate of a request is unknown for good
        self._sender: asyncio.Task[None]

    @property
    def receipts(self) -> tuple[Accepted, ...]:
        """What was accepted, oldest first, at most `Bounds.receipts_max`."""
        return tuple(self._receipts)

    @property
    def dropped(self) -> tuple[Dropped, ...]:
        """What could not be delivered so far, at most `Bounds.dropped_max`; raised as `Undelivered` at the end."""
        return tuple(self._dropped)

    async def event(self, type: str, payload: object, *, actor: str = "agent") -> None:  # noqa: A002
        """
        Add an event; waits only while the queue is full.

        Raises:
            Invalid: the event breaks the rules of `schemas.validity`; nothing was added.
            RuntimeError: the run has ended; nothing sends the event.
        """
        meta = {"run_id": self.id, "agent_id": self._agent.agent_id, "idempotency_key": uuid.uuid4().hex}
        event = {
            "seq": self.accepted_count + 1,  # given anew when its turn comes
            "t": self._now().isoformat().replace("+00:00", "Z"),
            "actor": actor,
            "type": type,
            # The caller may change what it handed over: what is sent is what was said.
            "payload": strictjson.decode(json.dumps(payload, ensure_ascii=False)),
            "meta": meta,
        }
        if faults := event_faults(event, run_id=self.id):
            raise Invalid(faults)
        self.event_count += 1
        await self._put(event)

    async def _put(self, event: Event) -> None:
        # Nobody empties a full queue once the sender has ended: wait for either.
        put = asyncio.ensure_future(self._queue.put(event))
        try:
            await asyncio.wait({put, self._sender}, return_when=asyncio.FIRST_COMPLETED)
            if self._sender.done():
                raise RuntimeError(f"run {self.id} has ended")
        finally:
            put.cancel()

    async def __aenter__(self) -> Self:
        """Start sending."""
        self._sender = asyncio.create_task(self._send_all(), name=f"send {self.id}")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Send what waits and finalize; what did not arrive is raised, or noted on the error that ended the run."""
        try:
            async with asyncio.timeout(self._bounds.close_timeout_s):
                await self._queue.put(_status(kind))
                await self._sender
        except TimeoutError:
            pass  # what did not get its turn is listed below
        finally:
            self._sender.cancel()
            while not self._queue.empty():
                self._drop(_name(self._queue.get_nowait()), "NOT_SENT", "the run ended before its turn")
        if self._dropped:
            undelivered = Undelivered(self.id, self._dropped, self.dropped_count)
            if error is None:
                raise undelivered
            error.add_note(str(undelivered))

    async def _send_all(self) -> None:
        environment = Request(method="PUT", path=self._path("environment"), body=self._environment)
        await self._deliver("environment", environment)
        while not isinstance(event := await self._queue.get(), RunStatus):
            await self._send(event)
        # The count of what was made: a run that lost an event shows as incomplete.
        end = _json({"status": event, "event_count": self.event_count})
        await self._deliver("finalize", Request(method="POST", path=self._path("finalize"), body=end))

    async def _send(self, event: Event) -> None:
        event["seq"] = self.accepted_count + 1
        if self._agent.secret is not None:
            event["meta"]["signature"] = sign_event(event, self._agent.secret)
        request = Request(method="POST", path=self._path("events/"), body=_json(event))
        if receipt := await self._deliver(event["type"], request):
            self.accepted_count += 1
            self._receipts.append(
                Accepted(seq=event["seq"], type=event["type"], wal_id=receipt.wal_id, duplicate=receipt.duplicate)
            )

    async def _deliver(self, type: str, request: Request) -> Receipt | None:  # noqa: A002
        if self._lost is not None:
            self._drop(type, "NOT_SENT", f"what came before it is in doubt ({self._lost})")
            return None
        try:
            return await self._delivery.deliver(request)
        except (Refused, SendAgainLater) as error:
            self._drop(type, error.code, error.detail)
            if error.in_doubt:
                self._lost = error
        except asyncio.CancelledError:
            self._drop(type, "CANCELLED", "no answer before the run had to end")
            raise
        return None

    def _drop(self, type: str, code: str, detail: str) -> None:  # noqa: A002
        self.dropped_count += 1
        if len(self._dropped) < self._bounds.dropped_max:
            self._dropped.append(Dropped(type=type, code=code, detail=detail))

    def _path(self, rest: str) -> str:
        return f"/api/runs/{self.id}/{rest}"


def _status(ended_by: type[BaseException] | None) -> RunStatus:
    if ended_by is None:
        return RunStatus.SUCCEEDED
    return RunStatus.CANCELLED if issubclass(ended_by, asyncio.CancelledError) else RunStatus.FAILED


def _name(item: Event | RunStatus) -> str:
    return "finalize" if isinstance(item, RunStatus) else str(item["type"])


def _json(document: Mapping[str, object]) -> bytes:
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
