"""
One pass of retention: runs, rejected records, then objects that nothing refers to any more.

Each step is judged with what Kafka says right before it, and a pass that ends halfway leaves nothing half done: what a
transaction did not remove, and objects whose events are gone, are found by the next one.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime

from processors.runs.retention import rules
from processors.runs.retention.log import GroupsProgress, everything_passed
from processors.runs.retention.objects import Objects
from processors.runs.retention.policy import Retention
from processors.runs.retention.report import Count, Removed, Report
from processors.runs.retention.rules import RejectedFacts, RunKey, StoredObject
from processors.runs.retention.store import RetentionStore
from schemas.objects.references import owner_of


class RetentionPass:
    """One pass of retention and its dependencies."""

    def __init__(
        self,
        opened: Callable[[], AbstractAsyncContextManager[RetentionStore]],
        *,
        progress: GroupsProgress,
        objects: Objects,
        clock: Callable[[], datetime],
        removed: Removed,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Open a store for each pass; *removed* is told what went, when it did."""
        self._opened = opened
        self._progress = progress
        self._objects = objects
        self._clock = clock
        self._removed = removed
        self._sleep = sleep

    async def run(self, retention: Retention, *, dry_run: bool) -> Report:
        """
        Remove what *retention* says, or only count it.

        Raises:
            RunsElsewhere: another one does it.
            Transient: something is away; what is done stays done.
        """
        count = Count(report=Report(dry_run=dry_run), removed=self._removed)
        if retention.is_off:
            return count.report
        async with self._opened() as store:
            if not dry_run:
                await store.lock()
            now = self._clock()
            await self._remove_runs(store, retention, count, now=now)
            await self._remove_rejected(store, retention, count, now=now)
            await self._remove_objects(store, retention, count, now=now)
        return count.report

    async def _remove_runs(self, store: RetentionStore, retention: Retention, count: Count, *, now: datetime) -> None:
        async for runs in store.old_runs(retention, now=now):
            passed = await self._progress.passed()
            if count.report.dry_run:
                facts = await store.facts(runs)
                judged = [(run, rules.judge_run(run, retention, passed, now=now)) for run in facts]
            else:
                judged = list(await store.remove_runs(runs, retention, passed, now=now))
            for run, hold in judged:
                if hold is None:
                    count.run(run.tenant, events=run.event_count, size_bytes=run.size_bytes)
                count.holds("runs", hold)

    async def _remove_rejected(
        self, store: RetentionStore, retention: Retention, count: Count, *, now: datetime
    ) -> None:
        async for records in store.old_rejected(retention, now=now):
            if not records:
                continue
            passed = await self._progress.passed()
            judged = [(record, rules.judge_rejected(record, retention, passed, now=now)) for record in records]
            gone = [record for record, hold in judged if hold is None]
            if gone and not count.report.dry_run:
                await store.remove_rejected(gone)
            for record, hold in judged:
                if hold is None:
                    count.rejected(record.tenant, record.size_bytes)
                count.holds("rejected", hold)

    async def _remove_objects(
        self, store: RetentionStore, retention: Retention, count: Count, *, now: datetime
    ) -> None:
        # An object that is old has its record, if any, in the log by now.
        if not await everything_passed(self._progress, sleep=self._sleep):
            count.report.held_objects = "records in the log that a group has not passed may refer to them"
            return
        letters = await self._progress.held_objects()
        async for page in self._old_objects(retention, now=now):
            for found in await self._unreferred(store, page, letters, retention, count, now=now):
                if not count.report.dry_run:
                    # Sent once more since the listing: it is young again, and its record is on its way.
                    latest = await self._objects.stat(found.key)
                    if latest is None or rules.judge_object(latest, retention, now=self._clock()) is not None:
                        continue
                    await self._objects.delete(found.key)
                owner = owner_of(found.key)
                assert owner is not None, "the rule asks for it"
                count.object(owner[0], found.size_bytes)

    async def _old_objects(self, retention: Retention, *, now: datetime) -> AsyncIterator[Sequence[StoredObject]]:
        async for page in self._objects.pages():
            old = [each for each in page if rules.judge_object(each, retention, now=now) is None]
            if old:
                yield old

    async def _unreferred(
        self,
        store: RetentionStore,
        page: Sequence[StoredObject],
        letters: Collection[str],
        retention: Retention,
        count: Count,
        *,
        now: datetime,
    ) -> Sequence[StoredObject]:
        keys = [each.key for each in page]
        runs, rejected = await store.referring_runs(keys), await store.referring_rejected(keys)
        gone: Collection[RunKey] = ()
        gone_rejected: Collection[RejectedFacts] = ()
        if count.report.dry_run:
            # A real pass would have removed these by now.
            passed = await self._progress.passed()
            facts = await store.facts(sorted({run for those in runs.values() for run in those}))
            gone = {run.key for run in facts if rules.judge_run(run, retention, passed, now=now) is None}
            records = [record for those in rejected.values() for record in those]
            gone_rejected = [each for each in records if rules.judge_rejected(each, retention, passed, now=now) is None]
        return [
            each
            for each in page
            if not rules.is_referred(
                each.key,
                runs=[run for run in runs.get(each.key, ()) if run not in gone],
                rejected=[record for record in rejected.get(each.key, ()) if record not in gone_rejected],
                letters=letters,
            )
        ]
