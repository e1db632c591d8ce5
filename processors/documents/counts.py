"""
Counts of jobs by outcome, which a transaction adds to `document_totals` as the last thing that it does.

Every group counts in the same few rows. Whoever has locked one waits for nothing any more, and all lock them in one
order: so no two transactions can wait for each other there.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import Any

from psycopg import AsyncCursor

from schemas.documents.states import ENDS, Lane, Phase

ADD = """
    INSERT INTO document_totals (tenant_id, partition, outcome, lane, count, cost)
    SELECT * FROM unnest(%s::text[], %s::integer[], %s::text[], %s::text[], %s::bigint[], %s::bigint[])
        AS added (tenant_id, partition, outcome, lane, count, cost)
    ORDER BY tenant_id, partition, outcome, lane
    ON CONFLICT (tenant_id, partition, outcome, lane) DO UPDATE
    SET count = document_totals.count + excluded.count, cost = document_totals.cost + excluded.cost
"""


class JobCounts:
    """The counts that one transaction adds: of `SUBMITTED` each job that it stores, of an end each that comes to it."""

    def __init__(self) -> None:
        self._added: defaultdict[tuple[str, int, str, str], tuple[int, int]] = defaultdict(lambda: (0, 0))
        self._ended: Counter[Phase] = Counter()

    @property
    def ended(self) -> Mapping[Phase, int]:
        """Return how many jobs came to each end."""
        return self._ended

    def add(self, tenant: str, partition: int, outcome: Phase, *, lane: Lane, cost: int) -> None:
        """Count a job."""
        if outcome in ENDS:
            self._ended[outcome] += 1
        self._change(tenant, partition, outcome, lane, count=1, cost=cost)

    def take_back(self, tenant: str, partition: int, outcome: Phase, *, lane: Lane, cost: int) -> None:
        """Count a job no longer: it had come to *outcome*, and runs again."""
        self._change(tenant, partition, outcome, lane, count=-1, cost=-cost)

    def correct(self, tenant: str, partition: int, *, lane: Lane, by: int) -> None:
        """Change the cost that a submitted job was counted with."""
        self._change(tenant, partition, Phase.SUBMITTED, lane, count=0, cost=by)

    async def write(self, cursor: AsyncCursor[Any]) -> None:
        """Add what was counted to the totals; the caller's transaction locks nothing after this."""
        if self._added:
            rows = [(*key, *added) for key, added in self._added.items()]
            await cursor.execute(ADD, [list(column) for column in zip(*rows, strict=True)])

    def _change(self, tenant: str, partition: int, outcome: Phase, lane: Lane, *, count: int, cost: int) -> None:
        key = (tenant, partition, outcome.value, lane.value)
        before = self._added[key]
        self._added[key] = (before[0] + count, before[1] + cost)
