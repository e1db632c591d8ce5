"""One run: its events are encoded where they are made, sent in the background, and its end is reported."""

import asyncio
import logging
import os
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Future
from contextvars import Token
from dataclasses import dataclass
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self

import msgspec

from gateway.client.answers import EventResult
from gateway.client.bounds import Bounds
from gateway.client.current import CURRENT_RUN
from gateway.client.delivery import Delivery, Request
from gateway.client.encoding import Agent, PendingEvent, encode
from gateway.client.errors import Dropped, SpoolUnusable, Undelivered, dropped
from gateway.client.failures import Scrubber, describe
from gateway.client.resending import Resending
from gateway.client.sender import RunSender
from gateway.client.spooled import Line, SpooledEnd, SpooledEnvironment, spooled_event
from gateway.client.waiting import EventQueue
from schemas.errors import Fault, Invalid
from schemas.ids import is_id
from schemas.runs.records import RunStatus

LOGGED_MAX = 10  # dropped events of a run that are logged at once; the others are counted in the line at its end
STOP_TIMEOUT_S = 1.0  # of a cancelled sender
ENVIRONMENT_TIMEOUT_S = 5.0  # events wait so long for the description of what they come from

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """An event that is in the log."""

    seq: int
    type: str
    wal_id: str
    duplicate: bool  # an earlier attempt had put it there


@dataclass(frozen=True, slots=True, kw_only=True)
class RunParts:
    """The parts that the runs of one client share."""

    agent: Agent
    delivery: Delivery
    bounds: Bounds
    environment: "asyncio.Task[bytes | None]"  # None: none is to be sent
    scrubber: Scrubber
    resending: Resending
    strict: bool


class Run:
    """
    An open run; made by `TidegateClient.run`, and entered with `async with`.

        async with client.run() as run:
            await run.event("message", {"text": "high water at 14:02"})
            if not found:
                await run.fail("no tide table for this harbour")

    An exception that leaves the block becomes an `error` event, and the run ends as failed.
    """

    def __init__(
        self,
        run_id: str,
        *,
        parts: RunParts,
        resume: bool = False,
        finalize: bool = True,
        environment_timeout_s: float = ENVIRONMENT_TIMEOUT_S,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Start sending on entry."""
        if not is_id(run_id):
            raise Invalid([Fault(pointer="/meta/run_id", detail=f"{run_id!r} does not match [A-Za-z0-9._:-]{{1,128}}")])
        self.id = run_id
        self.event_count = 0  # encoded so far, whatever became of them
        self.accepted_count = 0
        self.dropped_count = 0
        self.spooled_count = 0  # events that the next client sends
        self._parts = parts
        self._resume = resume
        self._finalize = finalize
        self._environment_timeout_s = environment_timeout_s
        self._now = now
        self._receipts: deque[Accepted] = deque(maxlen=parts.bounds.receipts_max)
        self._dropped: list[Dropped] = []
        self._queue = EventQueue(parts.bounds)
        self._sender = RunSender(
            run_id,
            agent=parts.agent,
            delivery=parts.delivery,
            bounds=parts.bounds,
            on_accepted=self._note_accepted,
            on_dropped=self._drop,
            resume=resume,
        )
        self._status: RunStatus | None = None
        self._ended = False
        self._stalled = False  # the last wait for room was in vain
        self._overflow_count = 0
        self._environment_sent = False
        self._finalized = False
        self._pid = os.getpid()
        self._thread_id = 0
        self._loop: asyncio.AbstractEventLoop
        self._sending: asyncio.Task[None]
        self._token: Token[Run | None] | None = None

    @property
    def receipts(self) -> tuple[Accepted, ...]:
        """Return what was accepted, oldest first, at most `Bounds.receipts_max`."""
        return tuple(self._receipts)

    @property
    def dropped(self) -> tuple[Dropped, ...]:
        """Return what was not delivered so far and is not in the spool file, at most `Bounds.dropped_max`."""
        return tuple(self._dropped)

    @property
    def is_in_loop_thread(self) -> bool:
        """
        Return True if the caller must not wait for the event loop, since it is what the loop runs.

        Raises:
            RuntimeError: the run was not entered.
        """
        if not self._thread_id:
            raise RuntimeError(f"run {self.id} is not open: enter it with `async with client.run() as run`")
        return threading.get_ident() == self._thread_id

    @property
    def event_timeout_s(self) -> float:
        """Return how long `event` waits for room at most."""
        return self._parts.bounds.event_timeout_s

    def describe(self, error: BaseException) -> dict[str, object]:
        """Return *error* as the payload of an `error` event: type, message and traceback, without secrets."""
        return describe(error, self._parts.scrubber)

    async def event(
        self,
        type: str,  # noqa: A002
        payload: object,
        *,
        actor: str = "agent",
        at: datetime | None = None,
    ) -> None:
        """
        Add an event that happened now, or *at* a moment with a UTC offset.

        Waits only while the queue is full, at most `Bounds.event_timeout_s` in an outage; then the event is dropped.
        An event that breaks a rule, or whose payload is not JSON, is dropped and logged, and shows in `dropped`.

        Raises:
            Invalid: with `strict=True`, in place of dropping it.
            RuntimeError: with `strict=True`, after the end of the run.
        """
        if not self.is_in_loop_thread:  # called in another event loop: the queue belongs to the run's
            adding = self.event(type, payload, actor=actor, at=at)
            await asyncio.wrap_future(self.hand_over(adding))
            return
        event = self._encode(type, payload, actor=actor, at=at)
        if event is not None:
            await self._wait_for_room(event.size_bytes)
            self._add(event)

    def event_nowait(
        self,
        type: str,  # noqa: A002
        payload: object,
        *,
        actor: str = "agent",
        at: datetime | None = None,
    ) -> None:
        """Add an event as `event` does, from any thread, without waiting: if the queue is full it is dropped."""
        event = self._encode(type, payload, actor=actor, at=at)
        if event is None:
            return
        if self.is_in_loop_thread:
            self._add(event)
            return
        try:
            self._loop.call_soon_threadsafe(self._add, event)
        except RuntimeError:  # the loop is closed
            self._drop_late(event.type)

    def hand_over(self, coroutine: Coroutine[Any, Any, None]) -> "Future[None]":
        """
        Run *coroutine* in the run's event loop, from another thread.

        Raises:
            RuntimeError: that loop is closed.
        """
        try:
            return asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        except RuntimeError:
            coroutine.close()
            raise

    def has_room(self) -> bool:
        """Return True if `event_nowait` will find room, as far as can be seen from any thread."""
        return self._queue.is_half_empty

    async def fail(self, reason: BaseException | str | None = None) -> None:
        """End the run as failed when its block ends, without raising; *reason* becomes an `error` event."""
        self._status = RunStatus.FAILED
        if isinstance(reason, BaseException):
            await self.event("error", self.describe(reason))
        elif reason is not None:
            await self.event("error", {"error": "failed", "message": str(reason)})

    async def __aenter__(self) -> Self:
        """Start sending."""
        self.start()
        self._token = CURRENT_RUN.set(self)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Send what waits and end the run, see `end`."""
        if self._token is not None:
            try:
                CURRENT_RUN.reset(self._token)
            except ValueError:  # it was entered in another task
                CURRENT_RUN.set(None)
        await self.end(error)

    def start(self) -> None:
        """Start sending, in the running event loop. Raises RuntimeError if it was started before."""
        if self._thread_id:
            raise RuntimeError(f"run {self.id} was entered before: open another, by client.run(run_id, resume=True)")
        self._loop = asyncio.get_running_loop()
        self._thread_id = threading.get_ident()
        self._sending = asyncio.create_task(self._send_all(), name=f"send {self.id}")

    async def end(self, error: BaseException | None = None) -> None:
        """
        Send what waits and finalize, within `Bounds.close_timeout_s` if the gateway takes nothing.

        What is left then goes to the spool file, or is dropped and logged.

        Raises:
            Undelivered: with `strict=True`, if something was dropped and *error* is None.
        """
        ended_as = _status(error)
        if error is not None and ended_as is RunStatus.FAILED:
            self._add_failure(error)
        self._status = self._status or ended_as
        self._ended = True
        self._queue.close()
        try:
            await self._wait_sent()
        finally:
            self._sending.cancel()
            self._keep_rest()
        await asyncio.wait({self._sending}, timeout=STOP_TIMEOUT_S)
        self._report(error)

    def _encode(
        self,
        type: str,  # noqa: A002
        payload: object,
        *,
        actor: str,
        at: datetime | None,
    ) -> PendingEvent | None:
        if self._ended or os.getpid() != self._pid:
            self._drop_late(type)
            return None
        moment = self._now() if at is None else at
        try:
            return encode(type, payload, actor=actor, at=moment, run_id=self.id, agent_id=self._parts.agent.agent_id)
        except Invalid as error:
            if self._parts.strict:
                raise
            self._drop(type, "INVALID", str(error))
            return None

    def _drop_late(self, type: str) -> None:  # noqa: A002
        reason = "has ended" if os.getpid() == self._pid else "was opened by another process, before a fork"
        if self._parts.strict:
            raise RuntimeError(f"run {self.id} {reason}: open a run of its own for this event")
        self._drop(type, "RUN_ENDED", f"the run {reason}")

    async def _wait_for_room(self, size_bytes: int) -> None:
        if self._queue.has_room(size_bytes):
            self._stalled = False
            return
        if self._stalled:  # waiting once an outage is enough
            return
        try:
            async with asyncio.timeout(self._parts.bounds.event_timeout_s):
                while not self._queue.has_room(size_bytes) and not self._ended:
                    await self._queue.wait_settled()
        except TimeoutError:
            self._stalled = True

    def _add(self, event: PendingEvent) -> None:
        if self._ended:
            self._drop_late(event.type)
        elif self._queue.has_room(event.size_bytes):
            self.event_count += 1
            self._queue.add(event)
        else:
            self._overflow_count += 1
            self._drop(event.type, "QUEUE_FULL", "the gateway takes events more slowly than they are made")

    def _add_failure(self, error: BaseException) -> None:
        try:
            event = self._encode("error", self.describe(error), actor="agent", at=None)
        except Invalid:  # with strict=True; the exception that ended the run must come out of the block
            return
        if event is not None:
            self.event_count += 1
            self._queue.add(event)  # beyond the bound if need be: it says why the run ended

    async def _send_all(self) -> None:
        await self._parts.resending.wait_for(self.id)
        if self._resume:
            await self._sender.locate()
        await self._send_environment(self._environment_timeout_s)
        while batch := await self._queue.take():
            await self._send(batch)
        if not self._environment_sent:
            await self._send_environment(0)
        if not self._environment_sent:
            self._drop("environment", "NOT_CAPTURED", "it could not be described before the run ended")
        if self._finalize:
            assert self._status is not None, "the queue is closed after that"
            await self._sender.finalize(self._status, lost_count=self._overflow_count)
        self._finalized = True

    async def _send_environment(self, timeout_s: float) -> None:
        await asyncio.wait({self._parts.environment}, timeout=timeout_s)  # shared by all runs
        if not self._parts.environment.done():
            return
        environment = self._parts.environment.result()
        if environment is not None:
            path = f"/api/runs/{self.id}/environment"
            await self._sender.put("environment", Request(method="PUT", path=path, body=environment))
        self._environment_sent = True

    async def _send(self, batch: Sequence[PendingEvent]) -> None:
        try:
            await self._sender.send(batch)
        except Exception as error:  # a fault of ours must not take the rest of the run with it
            logger.exception("run %s: a batch could not be sent", self.id)
            for event in self._sender.unsettled:
                self._drop(event.type, "CLIENT_ERROR", f"{type(error).__name__}: {error}")
            self._sender.unsettled = []
        finally:
            self._queue.settle(len(batch), sum(event.size_bytes for event in batch))

    def _note_accepted(self, event: PendingEvent, result: EventResult) -> None:
        assert event.seq is not None, "it was sent"
        self.accepted_count += 1
        duplicate = result.status == "duplicate"
        self._receipts.append(Accepted(seq=event.seq, type=event.type, wal_id=result.wal_id or "", duplicate=duplicate))

    async def _wait_sent(self) -> None:
        bounds = self._parts.bounds
        began_s = time.monotonic()
        while not self._sending.done():
            until_s = max(began_s, self._sender.progress_s) + bounds.close_timeout_s
            left_s = min(until_s, began_s + bounds.close_max_s) - time.monotonic()
            if left_s <= 0:
                return
            await asyncio.wait({self._sending}, timeout=left_s)

    def _keep_rest(self) -> None:
        """Write what was not sent to the spool file; what does not go there is dropped."""
        if self._sending.done() and self._finalized:
            return
        events = [*self._sender.unsettled, *self._queue.drain()]
        lines = self._lines(events)
        reason = "the gateway did not take it before the run had to end"
        kept_count = 0
        try:
            kept_count = self._parts.resending.keep(lines)
        except SpoolUnusable as error:
            reason = f"{reason}; {error}"
        for line in lines[kept_count:]:
            self._drop(_type_of(line), "NOT_SENT", reason, log=False)
        self.spooled_count = min(kept_count, len(events))

    def _lines(self, events: Sequence[PendingEvent]) -> list[Line]:
        agent_id, head, session = self._parts.agent.agent_id, self._sender.head, uuid.uuid4().hex
        lines: list[Line] = [
            spooled_event(event, session=session, run_id=self.id, agent_id=agent_id, head=head, resume=self._resume)
            for event in events
        ]
        if self._finalize and self._status is not None:
            lost_count = self._sender.lost_count + self._overflow_count
            lines.append(
                SpooledEnd(
                    session=session, run_id=self.id, agent_id=agent_id, head=head, status=self._status,
                    lost_count=lost_count, located=self._sender.located,
                )
            )  # fmt: skip
        captured = self._parts.environment
        environment = captured.result() if captured.done() and not captured.cancelled() else None
        if environment is not None and not self._environment_sent:
            text = msgspec.Raw(environment)
            lines.append(SpooledEnvironment(session=session, run_id=self.id, agent_id=agent_id, environment=text))
        return lines

    def _drop(self, type: str, code: str, detail: str, *, log: bool = True) -> None:  # noqa: A002
        self.dropped_count += 1
        report = dropped(str(type), code, detail)
        if len(self._dropped) < self._parts.bounds.dropped_max:
            self._dropped.append(report)
        if log and self.dropped_count <= LOGGED_MAX:
            logger.warning("run %s: %s dropped: %s: %s", self.id, report.type, code, report.detail)

    def _report(self, error: BaseException | None) -> None:
        if self.spooled_count:
            where = self._parts.resending.path
            logger.warning("run %s: %d events wait in %s for the next client", self.id, self.spooled_count, where)
        if not self._dropped:
            return
        undelivered = Undelivered(self.id, self._dropped, self.dropped_count)
        logger.warning("%s", undelivered)
        if error is not None:
            error.add_note(str(undelivered))
        elif self._parts.strict:
            raise undelivered


def _status(error: BaseException | None) -> RunStatus:
    if error is None or (isinstance(error, SystemExit) and error.code in (None, 0)):
        return RunStatus.SUCCEEDED
    is_cancelled = isinstance(error, (asyncio.CancelledError, KeyboardInterrupt, GeneratorExit))
    return RunStatus.CANCELLED if is_cancelled else RunStatus.FAILED


def _type_of(line: Line) -> str:
    match line:
        case SpooledEnd():
            return "finalize"
        case SpooledEnvironment():
            return "environment"
        case _:
            return line.type
