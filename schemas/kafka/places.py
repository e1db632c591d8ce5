"""Positions of partitions and records, as values."""

from typing import NamedTuple

import msgspec

# Rows of records that the log has lost have a negative partition: by how many it falls with each acceptance
# (`sql/0004_lost_places.sql`).
LOST_PARTITIONS = 100_000


class Partition(NamedTuple):
    """A partition of a topic."""

    topic: str
    partition: int

    def __str__(self) -> str:
        return f"{self.topic}/{self.partition}"


class RecordPlace(msgspec.Struct, frozen=True, gc=False):
    """The position of a record in the log."""

    topic: str
    partition: int
    offset: int

    @property
    def wal_id(self) -> str:
        """
        Return the position as users see it: run.events/3/1042.

        A position that the log has lost, as rows of the store may have it, is run.events/3/1042/lost.
        """
        if self.partition < 0:
            return f"{self.topic}/{self.partition % LOST_PARTITIONS}/{self.offset}/lost"
        return f"{self.topic}/{self.partition}/{self.offset}"
