"""
Events of a run, each after the one before it: the one way by which events and finalizations go to the log.

Between the verdict on an event and its hand-over nothing is awaited, so no two requests can be given the same place.
Where a large payload has to be kept first, the event is judged again afterwards.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from itertools import islice
from typing import Literal

import msgspec

from gateway.errors import EventTooLarge, IdempotencyConflict, LogUnavailable, Refused
from gateway.kafka.publisher import Publisher
from gateway.kafka.records import Outgoing
from gateway.objects.uploads import Uploads
from gateway.runs.parsing.offers import Candidate, Offer
from gateway.runs.sequence.looks import Looks
from gateway.runs.sequence.memory import Closing, Entry, Known, Run, RunKey, Unlooked, Verdict, conflict, judge
from schemas.kafka.places import RecordPlace
from schemas.runs.records import RunStatus

RUNS_MAX = 20_000  # remembered; the others are looked up when they go on
EVICTION_LOOKS = 8  # how many of the oldest are asked whether they are at rest
WAITS_MAX = 20  # how often one event is judged again


class Taken(msgspec.Struct, frozen=True, kw_only=True):
    """A record that is in the log or on its way."""

    sent: Entry | Closing
    duplicate: bool  # it was before this request
    verified: bool  # whether the log could be looked at, if there was a need to

    @property
    def status(self) -> Literal["accepted", "duplicate"]:
        """Return what the answer says."""
        return "duplicate" if self.duplicate else "accepted"

    async def acknowledged(self) -> RecordPlace:
        """Return the record's place. Raises as `Delivery.acknowledged`."""
        return await self.sent.acknowledged()


class _Request:
    """Events that are offered together, and what was found out for all of them."""

    def __init__(self, key: RunKey, run: Run, offers: Sequence[Offer]) -> None:
        self.key = key
        self.run = run
        self.offers = offers
        self.looked: Known | Unlooked = Unlooked.NOT_YET
        self.kept: Mapping[str, Refused | None] = {}  # payloads by key; None: it is in object storage


class Sequencer:
    """Remembers the runs that go on, and looks at the log where memory does not suffice."""

    def __init__(self, *, publisher: Publisher, looks: Looks, uploads: Uploads, runs_max: int = RUNS_MAX) -> None:
        """Publish to *publisher* what is not to be kept by *uploads* first."""
        self._publisher = publisher
        self._looks = looks
        self._uploads = uploads
        self._runs_max = runs_max
        self._runs: dict[RunKey, Run] = {}  # by use, the one that rested longest first

    async def take(self, key: RunKey, offers: Sequence[Offer]) -> Sequence[Taken | Refused]:
        """
        Hand *offers* to the log, in order, up to the first that is refused: that one is the last of the answer.

        Who asks awaits `acknowledged` of each.
        """
        run = self._use(key)
        try:
            return await self._take(key, run, offers)
        finally:
            run.users -= 1

    async def close(self, key: RunKey, status: RunStatus, record: Outgoing) -> Taken:
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

    async def _take(self, key: RunKey, run: Run, offers: Sequence[Offer]) -> Sequence[Taken | Refused]:
        request = _Request(key, run, offers)
        outcomes: list[Taken | Refused] = []
        for offer in offers:
            outcomes.append(await self._settle(request, offer))
            if isinstance(outcomes[-1], Refused):
                break
        return outcomes

    async def _settle(self, request: _Request, offer: Offer) -> Taken | Refused:
        in_the_way: Entry | None = None  # what was remembered when the last look began
        for _ in range(WAITS_MAX):
            verdict = judge(request.run, offer.event, request.looked)
            if verdict is Verdict.LOOK:
                remembered = request.run.find(offer.event, request.looked)
                if isinstance(request.looked, Known) and remembered is not None and remembered is in_the_way:
                    # Acknowledged before that look, which did not reach it: it is behind an open transaction.
                    return conflict(offer.event)
                in_the_way = remembered
                events = [each.event for each in request.offers]
                request.looked = await self._look(request.key, request.run, events)
                continue
            if verdict is Verdict.TAKE and offer.upload is not None:
                if offer.upload.key not in request.kept:
                    uploads = [each.upload for each in request.offers if each.upload is not None]
                    request.kept = await self._uploads.keep(uploads)
                    request.looked = Unlooked.NOT_YET  # the run may have gone on meanwhile
                    continue
                verdict = request.kept[offer.upload.key] or verdict
            outcome = await self._outcome(request.run, offer, verdict, request.looked)
            if outcome is not None:
                return outcome
            request.looked = Unlooked.NOT_YET  # what was on its way has arrived since
        return LogUnavailable("too many others send the same; nothing was written")

    async def _close(self, key: RunKey, run: Run, status: RunStatus, record: Outgoing) -> Taken:
        looked: Known | Unlooked = Unlooked.NOT_YET
        if not run.verified or run.closing is not None:
            looked = await self._look(key, run, [])
        for entry in list(run.in_flight.values()):
            with suppress(EventTooLarge):
                await entry.acknowledged()
        verified = looked is not Unlooked.IN_VAIN
        if (closing := run.closing) is not None and (verified or closing.status == status):
            if closing.status != status:
                await closing.acknowledged()
                raise IdempotencyConflict(f"the run was finalized as {closing.status} before")
            return Taken(sent=closing, duplicate=True, verified=verified)
        delivery = self._publisher.submit(record, reported=run.closing_reported)
        run.closing = Closing(status=status, delivery=delivery)
        return Taken(sent=run.closing, duplicate=False, verified=verified)

    async def _look(self, key: RunKey, run: Run, events: Sequence[Candidate]) -> Known | Unlooked:
        known = await self._looks.look(key, events)
        if known is None:
            return Unlooked.IN_VAIN
        run.learn(known)
        return known

    async def _outcome(
        self, run: Run, offer: Offer, verdict: Verdict | Entry | Closing | Refused, looked: Known | Unlooked
    ) -> Taken | Refused | None:
        """Return what became of *offer*; None if what stood in its way has arrived, and it is to be judged again."""
        if isinstance(verdict, Refused):
            return verdict
        verified = looked is not Unlooked.IN_VAIN
        if isinstance(verdict, Entry) and verdict.sha256 == offer.event.sha256:
            return Taken(sent=verdict, duplicate=True, verified=verified)
        if isinstance(verdict, Entry | Closing):
            try:
                await verdict.acknowledged()
            except LogUnavailable as unknown:
                return unknown
            except EventTooLarge:
                pass  # it is out of the way
            return None
        seq = offer.event.seq
        try:
            delivery = self._publisher.submit(offer.record, reported=partial(run.reported, seq))
        except Refused as refused:
            return refused
        entry = Entry(sha256=offer.event.sha256, idempotency_key=offer.event.idempotency_key, delivery=delivery)
        run.sent(seq, entry)
        return Taken(sent=entry, duplicate=False, verified=verified)

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
