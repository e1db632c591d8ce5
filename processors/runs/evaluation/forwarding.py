"""
Slices to one endpoint: the events of a run one after the other, runs side by side.

A record is tried again in place for a few seconds. One that fails then, while the endpoint takes others, is left to
the delay tiers, and its run goes on. While the breaker is open nothing is attempted and nothing moved: the slice
waits, and with it the group's offset.

An endpoint that wants the payloads in object storage waits while that is away; its breaker does not count that.

What is known of a slice that has to wait is remembered, so that what was delivered of it is not sent again by this
process. A single run that begins with a record on which its receiver always fails keeps an otherwise idle endpoint's
breaker open until another run's record is taken: nothing but that tells an outage from one bad record.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from contextlib import nullcontext
from time import monotonic
from typing import NamedTuple

import structlog

from processors.outbound.breaker import Breaker
from processors.outbound.sending import Answer, AttemptResult, failed_attempt
from processors.runs.evaluation.sending import Send
from processors.runs.evaluation.webhook import message_of
from processors.runtime.contract import Arrival, FailedRecord, Outcome, Settled, Tally
from processors.runtime.errors import Transient
from processors.runtime.failpoints import Failpoint, reach
from processors.runtime.payloads import Payloads
from schemas.errors import Reason
from schemas.runs.endpoints import Endpoint, is_wanted
from schemas.runs.records import RunRecord, reference_of

ALIVE_S = 60.0  # how far back a success says that the endpoint takes others
JITTER = 0.2
REMEMBERED_MAX = 50_000  # records of slices that wait
RESOLVED_MAX = 4  # at once; each holds a payload of up to 10 MiB

Run = tuple[str, str]  # tenant, run id
Place = tuple[str, int, int, int]  # topic, partition, offset, tier
End = tuple[Outcome, Reason | None]  # as a tally counts it


class Undelivered(NamedTuple):
    """A record that the endpoint did not take."""

    failed: FailedRecord[RunRecord]
    is_final: bool  # it never will


log = structlog.get_logger()


class Forwarder:
    """The handler of one endpoint's group."""

    def __init__(
        self,
        endpoint: Callable[[], Endpoint],
        *,
        send: Send,
        payloads: Payloads,
        breaker: Breaker,
        concurrency: int,
        clock_s: Callable[[], float] = monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """Send as *endpoint* says at each attempt, at most *concurrency* at once; *payloads* has the large ones."""
        self._endpoint = endpoint
        self._send = send
        self._payloads = payloads
        self._breaker = breaker
        self._slots = asyncio.Semaphore(concurrency)
        self._slots_of_resolved = asyncio.Semaphore(RESOLVED_MAX)
        self._clock_s = clock_s
        self._sleep = sleep
        self._jitter = jitter
        self._settled: dict[Place, End | Undelivered] = {}

    async def forward(self, arrivals: Sequence[Arrival[RunRecord]]) -> Settled[RunRecord]:
        """See `Handler`."""
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._forward_run(run)) for run in self._runs(arrivals)]
        held = [reason for task in tasks if (reason := task.result()) is not None]
        settled = [self._settled.get(_place(arrival)) for arrival in arrivals]
        if held:
            raise held[0]
        if None in settled:
            raise Transient(f"the endpoint's breaker is {self._breaker.state}: {self._breaker.reason}")
        for arrival in arrivals:
            self._settled.pop(_place(arrival), None)
        undelivered = [each for each in settled if isinstance(each, Undelivered)]
        return Settled(
            Tally(each for each in settled if each is not None and not isinstance(each, Undelivered)),
            retry_later=[each.failed for each in undelivered if not each.is_final],
            dead=[each.failed for each in undelivered if each.is_final],
        )

    def _runs(self, arrivals: Sequence[Arrival[RunRecord]]) -> Sequence[Sequence[Arrival[RunRecord]]]:
        """Return the records to send, by run."""
        endpoint = self._endpoint()
        runs: dict[Run, list[Arrival[RunRecord]]] = {}
        for arrival in arrivals:
            if arrival.rejection is not None:
                self._settle(arrival, (Outcome.REJECTED, arrival.rejection.reason))
            elif not is_wanted(arrival.record, tenant=endpoint.tenant, types=endpoint.types):
                self._settle(arrival, (Outcome.FILTERED, None))
            elif _place(arrival) not in self._settled:
                runs.setdefault(_run(arrival), []).append(arrival)
        return list(runs.values())

    async def _forward_run(self, run: Sequence[Arrival[RunRecord]]) -> Transient | None:
        """Deliver the events of a run in order, as far as the breaker admits; return what the rest has to wait for."""
        for arrival in run:
            try:
                settled = await self._deliver(arrival)
            except Transient as reason:
                return reason
            if settled is None:
                return None
            self._settle(arrival, settled)
        return None

    async def _deliver(self, arrival: Arrival[RunRecord]) -> End | Undelivered | None:
        """
        Try in place; None if the breaker does not let it.

        Raises:
            Transient: the payload cannot be had now.
        """
        began_s, failures = self._clock_s(), 0
        while True:
            endpoint = self._endpoint()
            answer = await self._attempt(arrival, endpoint)
            if answer is None or answer.verdict is AttemptResult.GONE:
                return None
            if answer.verdict is AttemptResult.TAKEN:
                return Outcome.DONE, None
            if answer.verdict is AttemptResult.REFUSED:
                return Undelivered(FailedRecord(arrival, Reason.DELIVERY_REFUSED, answer.detail), is_final=True)
            failures += 1
            if failures > len(endpoint.retries_s) and self._takes_others(since_s=began_s):
                return Undelivered(FailedRecord(arrival, Reason.DELIVERY_FAILED, answer.detail), is_final=False)
            base_s = endpoint.retries_s[min(failures, len(endpoint.retries_s)) - 1]
            await self._sleep(_pause_s(base_s, answer.retry_after_s, jitter=self._jitter()))

    async def _attempt(self, arrival: Arrival[RunRecord], endpoint: Endpoint) -> Answer | None:
        reference = reference_of(arrival.record) if endpoint.resolve else None
        async with nullcontext() if reference is None else self._slots_of_resolved, self._slots:
            if not self._breaker.admits(self._clock_s(), who=_run(arrival)):
                return None
            reach(Failpoint.BEFORE_POST)
            try:
                kept = None if reference is None else await self._payloads.fetch(reference)
                answer = await self._send(endpoint, message_of(arrival, kept))
            except (asyncio.CancelledError, Transient):
                self._breaker.abandoned(who=_run(arrival))
                raise
            except Exception as error:
                # A receiver's answer must not end the worker, whatever it makes our libraries raise.
                log.exception("unexpected error in a webhook attempt; it counts as failed", place=_place(arrival))
                answer = failed_attempt(error)
            reach(Failpoint.AFTER_POST)
            self._note(arrival, endpoint, answer)
            return answer

    def _note(self, arrival: Arrival[RunRecord], endpoint: Endpoint, answer: Answer) -> None:
        now_s = self._clock_s()
        if answer.verdict is AttemptResult.GONE:
            self._breaker.disabled(answer.detail)
        elif answer.verdict is AttemptResult.FAILED:
            self._breaker.failed(now_s, answer.detail, who=_run(arrival), open_s=endpoint.breaker_open_s)
        else:
            self._breaker.succeeded(now_s)

    def _takes_others(self, *, since_s: float) -> bool:
        alive_from_s = min(since_s, self._clock_s() - ALIVE_S)
        return self._breaker.is_closed and self._breaker.succeeded_at_s >= alive_from_s

    def _settle(self, arrival: Arrival[RunRecord], settled: End | Undelivered) -> None:
        if len(self._settled) >= REMEMBERED_MAX:
            # Of slices that were given up with their partitions. To forget costs a second delivery, no record.
            self._settled.pop(next(iter(self._settled)))
        self._settled[_place(arrival)] = settled


def _pause_s(base_s: float, asked_s: float | None, *, jitter: float) -> float:
    # A receiver may slow us down, not stop us.
    return min(max(asked_s or 0.0, base_s), 2 * base_s) * (1 + JITTER * jitter)


def _place(arrival: Arrival[RunRecord]) -> Place:
    raw = arrival.raw
    return raw.topic, raw.partition, raw.offset, raw.tier


def _run(arrival: Arrival[RunRecord]) -> Run:
    return arrival.record.tenant, arrival.record.run_id
