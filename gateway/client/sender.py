"""
The sender of one run's events: numbered without a gap, in batches, until each is accepted or refused for good.

A refused event leaves its number to the next one. An event whose outcome is unknown keeps its number and is sent again
unchanged until the gateway reports the outcome; only then may the events behind it get other numbers.
"""

import asyncio
import json
import logging
import time
from collections.abc import Callable, Sequence

from gateway.client.answers import EventResult
from gateway.client.bounds import Bounds
from gateway.client.delivery import Delivery, Request
from gateway.client.encoding import Agent, PendingEvent
from gateway.client.errors import Refused, SendAgainLater

FAILURES_MAX = 5  # answers INTERNAL_ERROR in a row to one event; it is dropped, and the next ones go on
RENUMBERED_MAX = 100  # how often one event may be numbered again: finding a run's end takes at most 64 steps

# The next event would be refused for the same reason.
_OF_THE_RUN = frozenset({"RUN_FINALIZED", "UNAUTHENTICATED", "FORBIDDEN"})
# An answer of this kind shows that no earlier attempt was taken: the gateway looks for that first.
_ENDS_DOUBT = frozenset(
    {"SEQUENCE_ERROR", "IDEMPOTENCY_CONFLICT", "RUN_FINALIZED", "TOON_VALIDATION_ERROR", "VALIDATION_ERROR"}
    | {"PAYLOAD_TOO_LARGE"}
)

OnAccepted = Callable[[PendingEvent, EventResult], None]
OnDropped = Callable[[str, str, str], None]  # type, code, detail

logger = logging.getLogger(__name__)


class RunSender:
    """
    The one task that sends for a run.

    `head` is the highest `seq` that is in the log, or may be. `unsettled` is what `send` has not finished: when it is
    cancelled, those events may be sent again by another sender as they are.
    """

    def __init__(
        self,
        run_id: str,
        *,
        agent: Agent,
        delivery: Delivery,
        bounds: Bounds,
        on_accepted: OnAccepted,
        on_dropped: OnDropped,
        head: int = 0,
        resume: bool = False,
    ) -> None:
        """Begin to number after *head*; with *resume* other senders may have numbers, too."""
        self.head = head
        self.unsettled: list[PendingEvent] = []
        self.lost_count = 0  # events that were refused, and whose number another event has
        self.progress_s = time.monotonic()  # when the gateway last took something, or is to be asked again
        self._path = f"/api/runs/{run_id}"
        self._run_id = run_id
        self._agent = agent
        self._delivery = delivery
        self._bounds = bounds
        self._on_accepted = on_accepted
        self._on_dropped = on_dropped
        self._resume = resume
        self._located = not resume  # `head` is the run's, and no guess
        self._step = 1  # how far to go on where another sender has a number
        self._abandoned_count = 0  # dropped with a number that may be in the log
        self._batch_max = bounds.batch_events_max

    async def locate(self) -> None:
        """
        Ask where the run stands, to number from there on.

        A key without the right `read` may not ask: the first events then find the place by the gateway's refusals.
        The store may also be behind the log, so those refusals count in any case.
        """
        attempt = 0
        while True:
            try:
                self.head = max(self.head, await self._delivery.read_position(self._path))
                self._located = True
            except Refused as refused:
                logger.info("run %s: its position cannot be read (%s)", self._run_id, refused)
            except SendAgainLater as later:
                await self._pause(attempt, later.retry_after_s)
                attempt += 1
                continue
            return

    async def put(self, type: str, request: Request) -> bool:  # noqa: A002
        """Send a request that has no number, until it is taken (True) or dropped."""
        failure_count = attempt = 0
        while True:
            try:
                await self._delivery.attempt(request)
            except Refused as refused:
                self._on_dropped(type, refused.code, refused.detail)
                return False
            except SendAgainLater as later:
                failure_count = failure_count + 1 if later.code == "INTERNAL_ERROR" else 0
                if failure_count == FAILURES_MAX:
                    self._on_dropped(type, later.code, later.detail)
                    return False
                await self._pause(attempt, later.retry_after_s, later)
                attempt += 1
                continue
            self.progress_s = time.monotonic()
            return True

    @property
    def located(self) -> bool:
        """Return True if `head` is the run's, and no guess."""
        return self._located

    async def finalize(self, status: str, *, lost_count: int = 0) -> bool:
        """
        End the run; True if the gateway took it.

        The count says how many events the run should have: one that lost an event shows as incomplete.
        """
        document: dict[str, object] = {"status": status}
        if self._located:
            document["event_count"] = self.head + self.lost_count + lost_count
        body = json.dumps(document).encode()
        return await self.put("finalize", Request(method="POST", path=f"{self._path}/finalize", body=body))

    async def send(self, events: Sequence[PendingEvent]) -> None:
        """Send *events*, in order; returns when each was accepted or dropped."""
        self.unsettled = list(events)
        attempt = failure_count = 0
        while self.unsettled:
            part = self._next_part()
            try:
                results = await self._delivery.attempt_batch(self._request(part), event_count=len(part))
            except Refused as refused:
                self._refuse(part, refused)
                attempt = failure_count = 0
                continue
            except SendAgainLater as later:
                for event in part:
                    event.in_doubt = event.in_doubt or later.in_doubt
                if later.code == "INTERNAL_ERROR" and len(part) > 1:  # find the event at which the gateway fails
                    self._batch_max, attempt, failure_count = len(part) // 2, 0, 0
                elif later.code == "INTERNAL_ERROR" and failure_count == FAILURES_MAX - 1:
                    self._drop(part[0], later.code, later.detail)
                    attempt = failure_count = 0
                else:
                    failure_count = failure_count + 1 if later.code == "INTERNAL_ERROR" else 0
                    if attempt:  # a large body may be what fails: smaller ones have a better chance
                        self._batch_max = max(1, len(part) // 2)
                await self._pause(attempt, later.retry_after_s, later)
                attempt += 1
                continue
            failure_count = 0
            if self._settle(part, results):
                attempt = 0
                self._batch_max = min(2 * self._batch_max, self._bounds.batch_events_max)
            else:
                await self._pause(attempt, 0.0)
                attempt += 1

    def _next_part(self) -> list[PendingEvent]:
        part: list[PendingEvent] = []
        size_bytes = 0
        for event in self.unsettled[: self._batch_max]:
            size_bytes += event.size_bytes
            if part and size_bytes > self._bounds.batch_bytes_max:
                break
            part.append(event)
        self._number()
        return part

    def _number(self) -> None:
        taken = [event.seq for event in self.unsettled if event.in_doubt and event.seq is not None]
        seq = max([self.head, *taken])
        for event in self.unsettled:
            if not event.in_doubt or event.seq is None:
                seq += 1
                event.seq = seq

    def _request(self, part: Sequence[PendingEvent]) -> Request:
        body = b"[" + b",".join(event.body(self._run_id, self._agent) for event in part) + b"]"
        return Request(method="POST", path=f"{self._path}/events/batch", body=body)

    def _settle(self, part: Sequence[PendingEvent], results: Sequence[EventResult]) -> bool:
        """Apply the results; False if nothing came of it and a pause is due."""
        changed = False
        for event, result in zip(part, results, strict=True):
            if result.status in ("accepted", "duplicate"):
                self._accept(event, result)
                changed = True
            elif result.status == "rejected":
                self._reject(event, result)
                changed = True
            elif result.status == "retry":
                event.in_doubt = True
        return changed

    def _accept(self, event: PendingEvent, result: EventResult) -> None:
        assert event.seq is not None, "it was sent"
        self.head = max(self.head, event.seq)
        self.progress_s = time.monotonic()
        self._step, self._located = 1, True
        self._remove(event)
        if self._resume and result.sequence == "unverified":
            logger.warning(
                "run %s: the gateway could not check seq %d; its integrity report will tell", self._run_id, event.seq
            )
        self._on_accepted(event, result)

    def _reject(self, event: PendingEvent, result: EventResult) -> None:
        if event not in self.unsettled:  # dropped with the run, by the result of one before it
            return
        if result.code in _ENDS_DOUBT:
            event.in_doubt = False
        if self._find_number(event, result):
            return
        if result.code in _OF_THE_RUN:
            self._drop_all(result.code, result.explanation)
        elif result.code == "IDEMPOTENCY_CONFLICT" and not self._resume:
            hint = "the run has events of another sender; to go on with it, open it by run(run_id, resume=True)"
            self._drop(event, result.code, f"{result.explanation}: {hint}")
        else:
            self._drop(event, result.code, result.explanation)

    def _find_number(self, event: PendingEvent, result: EventResult) -> bool:
        """Return number *event* again where the gateway says, or where it refuses, that another number is due."""
        assert event.seq is not None, "it was sent"
        if event.renumbered_count == RENUMBERED_MAX:
            return False
        if result.code == "SEQUENCE_ERROR" and result.expected_seq is not None and 1 <= result.expected_seq < event.seq:
            # The log ends before it, so nothing behind it was taken either.
            for other in self.unsettled:
                other.in_doubt = False
            self.lost_count += self._abandoned_count
            self._abandoned_count = 0
            self.head = result.expected_seq - 1
            self._step = 1
        elif result.code == "IDEMPOTENCY_CONFLICT" and self._resume:
            self.head = max(self.head, event.seq + self._step - 1)
            self._step *= 2
        else:
            return False
        event.renumbered_count += 1
        return True

    def _refuse(self, part: Sequence[PendingEvent], refused: Refused) -> None:
        """Drop what a refused batch is about: the run, or else the one event at fault, found by halves."""
        if refused.code in _OF_THE_RUN:
            self._drop_all(refused.code, refused.detail)
        elif len(part) > 1:
            self._batch_max = len(part) // 2
        else:
            if refused.code in _ENDS_DOUBT:
                part[0].in_doubt = False
            self._drop(part[0], refused.code, refused.detail)
            self._batch_max = min(2 * self._batch_max, self._bounds.batch_events_max)

    def _drop_all(self, code: str, detail: str) -> None:
        for event in list(self.unsettled):
            self._drop(event, code, detail)

    def _drop(self, event: PendingEvent, code: str, detail: str) -> None:
        if event.in_doubt and event.seq is not None:
            self.head = max(self.head, event.seq)
            self._abandoned_count += 1
        else:
            self.lost_count += 1
        self._remove(event)
        self.progress_s = time.monotonic()
        self._on_dropped(event.type, code, detail)

    def _remove(self, event: PendingEvent) -> None:
        self.unsettled = [other for other in self.unsettled if other is not event]

    async def _pause(self, attempt: int, retry_after_s: float, later: SendAgainLater | None = None) -> None:
        pause_s = self._bounds.pause_s(attempt, retry_after_s)
        if later is not None and not later.in_doubt:  # a gateway that is there, and asks for patience
            self.progress_s = time.monotonic() + pause_s
        await asyncio.sleep(pause_s)
