"""
Events of a run, each after the one before it: the one way by which events and finalizations go to the log.

Between the decision on an event and its hand-over nothing is awaited, so no two requests can be given the same place.
Where a large payload has to be kept first, the decision is made again afterwards.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from itertools import islice
from typing import Literal

import msgspec

from gateway.errors import EventTooLarge, HttpError, IdempotencyConflict, LogUnavailable
from gateway.kafka.publisher import Publisher
from gateway.kafka.records import OutgoingRecord
from gateway.objects.uploads import Uploads
from gateway.runs.parsing.prepared import EventIdentity, PreparedEvent
from gateway.runs.sequence.decision import Decision, conflict, decide
from gateway.runs.sequence.memory import KnownEvent, Run, RunEnd, RunKey, RunState, Unread
from gateway.runs.sequence.state_reader import RunStateReader
from schemas.kafka.places import RecordPlace
from schemas.runs.records import RunStatus

RUNS_MAX = 20_000  # remembered; the others are looked up when they go on
EVICTION_LOOKS = 8  # how many of the oldest are asked whether they are at rest
WAITS_MAX = 20  # how often the decision on one event is made again


class Submission(msgspec.Struct, frozen=True, kw_only=True):
    """A record that is in the log or on its way."""

    sent: KnownEvent | RunEnd
    duplicate: bool  # it was before this request
    verified: bool  # whether the log could be read, if there was a need to

    @property
    def status(self) -> Literal["accepted", "duplicate"]:
        """Return what the answer says."""
        return "duplicate" if self.duplicate else "accepted"

    async def acknowledged(self) -> RecordPlace:
        """Return the record's place. Raises as `Delivery.acknowledged`."""
        return await self.sent.acknowledged()


class _Request:
    """Events that are submitted together, and what was found out for all of them."""

    def __init__(self, key: RunKey, run: Run, events: Sequence[PreparedEvent]) -> None:
        self.key = key
        self.run = run
        self.events = events
        self.state: RunState | Unread = Unread.NOT_YET
        self.kept: Mapping[str, HttpError | None] = {}  # payloads by key; None: it is in object storage


class Sequencer:
    """The sequencer of open runs: it remembers them, and reads the log where its memory does not suffice."""

    def __init__(
        self, *, publisher: Publisher, states: RunStateReader, uploads: Uploads, runs_max: int = RUNS_MAX
    ) -> None:
        """Publish to *publisher* what is not to be kept by *uploads* first."""
        self._publisher = publisher
        self._states = states
        self._uploads = uploads
        self._runs_max = runs_max
        self._runs: dict[RunKey, Run] = {}  # by use, the one that rested longest first

    async def submit(self, key: RunKey, events: Sequence[PreparedEvent]) -> Sequence[Submission | HttpError]:
        """
        Publish *events* in order, up to the first that is refused, which is the last of the answer.

        The caller awaits `acknowledged` of each.
        """
        run = self._use(key)
        try:
            return await self._submit(key, run, events)
        finally:
            run.users -= 1

    async def close(self, key: RunKey, status: RunStatus, record: OutgoingRecord) -> Submission:
        """
        Finalize the run once what is on its way has arrived.

        Raises:
            IdempotencyConflict: it was finalized otherwise.
            LogUnavailable, QueueFull: see `Publisher`; also when it is not known whether an event was written.
        """
        run = self._use(key)
        try:
            return await self._close(key, run, status, record)
        finally:
            run.users -= 1

    async def _submit(self, key: RunKey, run: Run, events: Sequence[PreparedEvent]) -> Sequence[Submission | HttpError]:
        request = _Request(key, run, events)
        outcomes: list[Submission | HttpError] = []
        for event in events:
            outcomes.append(await self._decide_and_submit(request, event))
            if isinstance(outcomes[-1], HttpError):
                break
        return outcomes

    async def _decide_and_submit(self, request: _Request, event: PreparedEvent) -> Submission | HttpError:
        blocking: KnownEvent | None = None  # what was remembered when the last read began
        for _ in range(WAITS_MAX):
            decision = decide(request.run, event.identity, request.state)
            if decision is Decision.READ:
                remembered = request.run.find(event.identity, request.state)
                if isinstance(request.state, RunState) and remembered is not None and remembered is blocking:
                    # Acknowledged before that read, which did not reach it: it is behind an open transaction.
                    return conflict(event.identity)
                blocking = remembered
                identities = [each.identity for each in request.events]
                request.state = await self._read_state(request.key, request.run, identities)
                continue
            if decision is Decision.SUBMIT and event.upload is not None:
                if event.upload.key not in request.kept:
                    uploads = [each.upload for each in request.events if each.upload is not None]
                    request.kept = await self._uploads.keep(uploads)
                    request.state = Unread.NOT_YET  # the run may have gone on meanwhile
                    continue
                decision = request.kept[event.upload.key] or decision
            outcome = await self._act_on(request.run, event, decision, request.state)
            if outcome is not None:
                return outcome
            request.state = Unread.NOT_YET  # what was on its way has arrived since
        return LogUnavailable("too many others send the same; nothing was written")

    async def _close(self, key: RunKey, run: Run, status: RunStatus, record: OutgoingRecord) -> Submission:
        state: RunState | Unread = Unread.NOT_YET
        if not run.verified or run.closing is not None:
            state = await self._read_state(key, run, [])
        for entry in list(run.in_flight.values()):
            with suppress(EventTooLarge):
                await entry.acknowledged()
        verified = state is not Unread.FAILED
        if (closing := run.closing) is not None and (verified or closing.status == status):
            if closing.status != status:
                await closing.acknowledged()
                raise IdempotencyConflict(f"the run was finalized as {closing.status} before")
            return Submission(sent=closing, duplicate=True, verified=verified)
        delivery = self._publisher.submit(record, reported=run.closing_reported)
        run.closing = RunEnd(status=status, delivery=delivery)
        return Submission(sent=run.closing, duplicate=False, verified=verified)

    async def _read_state(self, key: RunKey, run: Run, identities: Sequence[EventIdentity]) -> RunState | Unread:
        state = await self._states.read(key, identities)
        if state is None:
            return Unread.FAILED
        run.learn(state)
        return state

    async def _act_on(
        self,
        run: Run,
        event: PreparedEvent,
        decision: Decision | KnownEvent | RunEnd | HttpError,
        state: RunState | Unread,
    ) -> Submission | HttpError | None:
        """Return what became of *event*; None if what blocked it has arrived, and the decision must be made again."""
        if isinstance(decision, HttpError):
            return decision
        verified = state is not Unread.FAILED
        if isinstance(decision, KnownEvent) and decision.sha256 == event.identity.sha256:
            return Submission(sent=decision, duplicate=True, verified=verified)
        if isinstance(decision, KnownEvent | RunEnd):
            try:
                await decision.acknowledged()
            except LogUnavailable as unknown:
                return unknown
            except EventTooLarge:
                pass  # it is out of the way
            return None
        seq = event.identity.seq
        try:
            delivery = self._publisher.submit(event.record, reported=partial(run.reported, seq))
        except HttpError as refused:
            return refused
        entry = KnownEvent(
            sha256=event.identity.sha256, idempotency_key=event.identity.idempotency_key, delivery=delivery
        )
        run.sent(seq, entry)
        return Submission(sent=entry, duplicate=False, verified=verified)

    def _use(self, key: RunKey) -> Run:
        run = self._runs.pop(key, None) or Run()
        self._runs[key] = run
        run.users += 1
        if len(self._runs) > self._runs_max:
            self._evict()
        return run

    def _evict(self) -> None:
        for key, run in list(islice(self._runs.items(), EVICTION_LOOKS)):
            if run.at_rest:
                del self._runs[key]
                return
