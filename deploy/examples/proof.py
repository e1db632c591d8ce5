"""A check that all the agent reported is stored once and in order: its report, HTTP and Postgres must agree."""

from collections.abc import Sequence
from dataclasses import dataclass

import psycopg
from psycopg.rows import class_row

from gateway.client import Run


@dataclass(frozen=True, slots=True)
class SentEvent:
    """An event as the agent told it."""

    type: str
    actor: str
    payload: object


class Diary:
    """A run, and what was told to it: an agent's `Report`."""

    def __init__(self, run: Run) -> None:
        """Begin empty."""
        self.run = run
        self.told: list[SentEvent] = []

    async def event(self, type: str, payload: object, *, actor: str = "agent") -> None:  # noqa: A002
        """Pass the event on, and remember it."""
        await self.run.event(type, payload, actor=actor)
        self.told.append(SentEvent(type, actor, payload))

    @property
    def receipts(self) -> list[str]:
        """Return the place in the log of each event, by seq."""
        return [accepted.wal_id for accepted in self.run.receipts]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A row of `trace_events`."""

    run_id: str
    seq: int
    actor: str
    type: str
    wal_id: str


# In the order of the log, to be held against the order in the run.
ROWS = """
    SELECT run_id, seq, actor, type, 'run.events/' || kafka_partition || '/' || kafka_offset AS wal_id
    FROM trace_events WHERE run_id = ANY(%(run_ids)s) ORDER BY kafka_partition, kafka_offset
"""


def read_rows(dsn: str, run_ids: Sequence[str]) -> list[Row]:
    """Return the rows of these runs in Postgres, in the order of the log."""
    with psycopg.connect(dsn) as connection, connection.cursor(row_factory=class_row(Row)) as cursor:
        return cursor.execute(ROWS, {"run_ids": list(run_ids)}).fetchall()


def differences(
    told: Sequence[SentEvent], receipts: Sequence[str], read: Sequence[object], rows: Sequence[Row]
) -> list[str]:
    """
    Return the events of one run that are lost, stored twice, out of order or changed; empty if all is well.
    """
    numbers = list(range(1, len(told) + 1))
    found = []
    if read != [
        {"seq": seq, "type": event.type, "actor": event.actor, "payload": event.payload}
        for seq, event in zip(numbers, told, strict=True)
    ]:
        found.append(f"HTTP shows {len(read)} events that are not the {len(told)} that were told")
    if [row.seq for row in rows] != numbers:
        found.append(f"Postgres has seq {[row.seq for row in rows]} in the log's order instead of 1 to {len(told)}")
    if [row.wal_id for row in rows] != receipts:
        found.append("the rows' places in the log are not those of the receipts")
    return found
