"""The tables as maintenance sees them: one session a pass, one pass at a time, each deletion a transaction."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, Self

from processors.runs.retention import statements
from processors.runs.retention.letters import object_of
from processors.runs.retention.policy import Retention
from processors.runs.retention.rules import CommittedFloors, Hold, RejectedFacts, RunFacts, RunKey, judge_run
from processors.runs.retention.session import Connection, session
from processors.runtime.failpoints import Failpoint, reach
from processors.runtime.periodic import RunsElsewhere
from schemas.objects.references import owner_of
from schemas.runs.chain import CHAIN_START, link

LOCK_ID = 0x74696465_72657461  # "tidereta" in ASCII
RUNS_A_PAGE = 500
EVENTS_A_TRANSACTION = 20_000  # about so many; a run with more is one by itself
REJECTED_A_PAGE = 1000
FIRST_PLACE = (-(2**31), -1)  # below every place, those that the log has lost included
ABANDONED_A_STATEMENT = 1000
REFERRING_BYTES_MAX = 256 * 1024


class RetentionStore:
    """A session on the runs' tables, in the role tidegate_maintain; made by `opened`."""

    def __init__(self, connection: Connection) -> None:
        """Work on *connection*, which commits each statement outside a transaction."""
        self._connection = connection

    @classmethod
    @asynccontextmanager
    async def opened(cls, dsn: str) -> AsyncIterator[Self]:
        """Open a store on a session of its own; see `session` for what it raises."""
        async with session(dsn) as connection:
            yield cls(connection)

    async def lock(self) -> None:
        """
        Take the lock that allows one pass at a time, for the session. Raises RunsElsewhere if another pass holds it.
        """
        row = await (await self._connection.execute(statements.TRY_LOCK, (LOCK_ID,))).fetchone()
        if row is None or not row["pg_try_advisory_lock"]:
            raise RunsElsewhere("another pass of maintenance is at work")

    async def old_runs(self, retention: Retention, *, now: datetime) -> AsyncIterator[Sequence[RunKey]]:
        """Yield runs last updated before their tenant's cutoff, so many at a time as one transaction removes."""
        after: RunKey = ("", "")
        while True:
            parameters = {
                "tenants": list(retention.tenants),
                "cutoffs": [retention.events_cutoff(each, now=now) for each in retention.tenants],
                "cutoff": retention.events_cutoff("", now=now),
                "after_tenant": after[0],
                "after_run": after[1],
                "limit": RUNS_A_PAGE,
            }
            rows = await (await self._connection.execute(statements.OLD_RUNS, parameters)).fetchall()
            for chunk in _chunks(rows):
                yield [(row["tenant_id"], row["run_id"]) for row in chunk]
            if len(rows) < RUNS_A_PAGE:
                return
            after = rows[-1]["tenant_id"], rows[-1]["run_id"]

    async def facts(self, runs: Sequence[RunKey]) -> Sequence[RunFacts]:
        """Return what is stored of *runs*; those of which nothing is are left out."""
        found: dict[RunKey, RunFacts] = {}
        for row in await (await self._connection.execute(statements.RUN_FACTS, _named(runs))).fetchall():
            key = row["tenant_id"], row["run_id"]
            if key not in found:
                found[key] = RunFacts(
                    tenant=key[0], run_id=key[1], updated_at=row["updated_at"], has_trace=row["has_trace"]
                )
            run, partition, last_offset = found[key], row["kafka_partition"], row["last_offset"]
            run.event_count += row["event_count"]
            run.size_bytes += row["size_bytes"]
            run.last_stored_at = max(run.last_stored_at or row["last_stored_at"], row["last_stored_at"])
            run.last_offsets[partition] = max(last_offset, run.last_offsets.get(partition, last_offset))
        return list(found.values())

    async def remove_runs(
        self, runs: Sequence[RunKey], retention: Retention, passed: CommittedFloors, *, now: datetime
    ) -> Sequence[tuple[RunFacts, Hold | None]]:
        """Remove the events of those of *runs* that may go, in one transaction; return each with why it stays."""
        async with self._connection.transaction():
            locked = await (await self._connection.execute(statements.LOCK_RUNS, _named(runs))).fetchall()
            facts = await self.facts([(row["tenant_id"], row["run_id"]) for row in locked])
            judged = [(run, judge_run(run, retention, passed, now=now)) for run in facts]
            gone = [run for run, hold in judged if hold is None]
            if gone:
                named = _named([run.key for run in gone])
                heads = [await self._chain_head(run) for run in gone]
                await self._connection.execute(statements.MARK_RUNS, {**named, "heads": heads})
                await self._connection.execute(statements.DELETE_EVENTS, named)
                await self._connection.execute(statements.DELETE_DUPLICATES, named)
            reach(Failpoint.BEFORE_COMMIT)
        return judged

    async def old_rejected(self, retention: Retention, *, now: datetime) -> AsyncIterator[Sequence[RejectedFacts]]:
        """Yield rejected records that were stored before their tenant's cutoff, some at a time."""
        after = FIRST_PLACE
        while True:
            parameters = {
                "tenants": list(retention.tenants),
                "cutoffs": [retention.rejected_cutoff(each, now=now) for each in retention.tenants],
                "cutoff": retention.rejected_cutoff("", now=now),
                "after_partition": after[0],
                "after_offset": after[1],
                "limit": REJECTED_A_PAGE,
            }
            rows = await (await self._connection.execute(statements.OLD_REJECTED, parameters)).fetchall()
            yield [_rejected(row) for row in rows]
            if len(rows) < REJECTED_A_PAGE:
                return
            after = rows[-1]["kafka_partition"], rows[-1]["kafka_offset"]

    async def remove_rejected(self, records: Sequence[RejectedFacts]) -> None:
        """Remove *records*, in one transaction."""
        places = {
            "partitions": [record.partition for record in records],
            "offsets": [record.offset for record in records],
        }
        await self._connection.execute(statements.DELETE_REJECTED, places)

    async def referring_runs(self, keys: Sequence[str]) -> Mapping[str, set[RunKey]]:
        """Return, by key, the runs whose stored events refer to that object."""
        rows = await (await self._connection.execute(statements.REFERRING_EVENTS, {"keys": list(keys)})).fetchall()
        found: dict[str, set[RunKey]] = {}
        for row in rows:
            found.setdefault(row["key"], set()).add((row["tenant_id"], row["run_id"]))
        return found

    async def referring_rejected(self, keys: Sequence[str]) -> Mapping[str, Sequence[RejectedFacts]]:
        """
        Return, by key, the rejected records that refer to that object: they may be valid when they are handled again.
        """
        owners = sorted({owner for key in keys if (owner := owner_of(key)) is not None})
        found: dict[str, list[RejectedFacts]] = {}
        async with self._connection.transaction(), self._connection.cursor(name="referring") as rows:
            await rows.execute(statements.REFERRING_REJECTED, {**_named(owners), "size_bytes_max": REFERRING_BYTES_MAX})
            async for row in rows:
                if (key := object_of(row["value"])) is not None:
                    found.setdefault(key, []).append(_rejected(row))
        return found

    async def abandon(self, *, before: datetime) -> int:
        """Give up open runs to which nothing has come since *before*; return how many."""
        count = 0
        while True:
            parameters = {"cutoff": before, "limit": ABANDONED_A_STATEMENT}
            given_up = (await self._connection.execute(statements.ABANDON_RUNS, parameters)).rowcount
            count += given_up
            if given_up < ABANDONED_A_STATEMENT:
                return count

    async def _chain_head(self, run: RunFacts) -> bytes:
        """Return the head of the run's chain now: its trace record's, or that over all its events up to now."""
        if run.has_trace and (trace := await self._one(statements.TRACE_HEAD, run.key)) is not None:
            return bytes(trace["chain_head"])
        before = await self._one(statements.CHAIN_BEFORE, run.key)
        head = CHAIN_START if before is None else bytes(before["events_removed_chain_head"])
        async with self._connection.cursor(name="chain") as rows:
            rows.itersize = 5000
            await rows.execute(statements.CHAIN if before is None else statements.CHAIN_SINCE, run.key)
            async for row in rows:
                head = link(head, row["seq"], row["event_sha256"])
        return head

    async def _one(self, statement: str, run: RunKey) -> Mapping[str, Any] | None:
        return await (await self._connection.execute(statement, run)).fetchone()


def _chunks(rows: Sequence[Mapping[str, Any]]) -> Sequence[Sequence[Mapping[str, Any]]]:
    """Return *rows* in order, each part with about as many events as a transaction is to delete."""
    chunks: list[list[Mapping[str, Any]]] = []
    events = 0
    for row in rows:
        if not chunks or events + row["event_count"] > EVENTS_A_TRANSACTION:
            chunks.append([])
            events = 0
        chunks[-1].append(row)
        events += row["event_count"]
    return chunks


def _named(runs: Sequence[RunKey]) -> dict[str, list[str]]:
    return {"tenants": [tenant for tenant, _ in runs], "runs": [run_id for _, run_id in runs]}


def _rejected(row: Mapping[str, Any]) -> RejectedFacts:
    return RejectedFacts(
        tenant=row["tenant_id"],
        partition=row["kafka_partition"],
        offset=row["kafka_offset"],
        stored_at=row["stored_at"],
        size_bytes=row["size_bytes"],
    )
