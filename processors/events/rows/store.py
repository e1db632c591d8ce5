"""
The tables of user events, written one partition slice a transaction.

As for runs, COPY goes straight into the table: nearly every slice is new as a whole, and one that is not fails on a
unique key, is rolled back and done again with a look at what is there.
"""

from collections.abc import Callable, Mapping, Sequence

from psycopg import errors

from processors.events.rows.lookup import stored_state
from processors.events.rows.rows import Derivation, derive_again, write, write_users
from processors.events.rows.verdicts import StoredUserEvents, judge, may_repeat_stored
from processors.postgres.writes import PostgresWrites
from processors.runtime.contract import Arrival, Tally
from processors.runtime.errors import Transient
from processors.runtime.failpoints import Failpoint, reach
from schemas.events.records import UserEvent

DELETE_HANDLED = """
    DELETE FROM {table}
    USING unnest(%(partitions)s::integer[], %(offsets)s::bigint[]) AS arrived (kafka_partition, kafka_offset)
    WHERE {table}.kafka_partition = arrived.kafka_partition AND {table}.kafka_offset = arrived.kafka_offset
"""
FORGET_DUPLICATES = DELETE_HANDLED.format(table="event_duplicates")
FORGET_REJECTIONS = DELETE_HANDLED.format(table="event_rejections")

# Of types whose function was taken out of the file: nothing would ever end their wait.
RELEASE = "UPDATE events SET status = 'processed' WHERE status = 'pending' AND NOT type = ANY(%s)"


class _MustLookUp(Exception):
    """The slice depends on rows that were not looked up: judge it again with them."""


class UserEventStore:
    """The tables of user events."""

    def __init__(
        self,
        writes: PostgresWrites,
        derivation: Derivation,
        *,
        count_clocks: Callable[[Mapping[str, int]], None],
        replays: bool = False,
        rewrites: bool = False,
    ) -> None:
        """
        Write by the connections of *writes*; *count_clocks* is given what each slice stored, by the senders' clocks.

        A store that *replays* stores what was rejected and is valid now; one that *rewrites* derives again what is
        derived from stored events.
        """
        self._writes = writes
        self._derivation = derivation
        self._count_clocks = count_clocks
        self._replays = replays
        self._rewrites = rewrites

    async def append(self, arrivals: Sequence[Arrival[UserEvent]]) -> Tally:
        """
        Store a slice in one transaction: each event once, in log order.

        Raises:
            Transient, Poison: see `Handler`.
            LogRewritten: the store holds something else from these places of the log.
        """
        try:
            return await self._append(arrivals, look_up=self._replays)
        except _MustLookUp:
            return await self._append(arrivals, look_up=True)

    async def release(self) -> int:
        """
        Mark events as processed that wait for a function which their type no longer has; return how many.

        Raises:
            Transient: Postgres is away.
        """
        async with self._writes.transaction() as (connection, _):
            return (await connection.execute(RELEASE, [self._derivation.pending_types])).rowcount

    async def _append(self, arrivals: Sequence[Arrival[UserEvent]], *, look_up: bool) -> Tally:
        reach(Failpoint.BEFORE_TX)
        try:
            async with self._writes.transaction() as (connection, _), connection.cursor() as cursor:
                known = await stored_state(cursor, arrivals) if look_up else StoredUserEvents()
                verdicts = judge(arrivals, known)
                if not look_up and may_repeat_stored(verdicts):
                    raise _MustLookUp
                if self._replays:
                    places = {
                        "partitions": [arrival.raw.partition for arrival in arrivals],
                        "offsets": [arrival.raw.offset for arrival in arrivals],
                    }
                    await cursor.execute(FORGET_DUPLICATES, places)
                    await cursor.execute(FORGET_REJECTIONS, places)
                await write_users(cursor, verdicts.events)
                clocks = await write(cursor, verdicts, self._derivation)
                if self._rewrites:
                    await derive_again(cursor, verdicts.again, self._derivation)
                reach(Failpoint.BEFORE_COMMIT)
        except errors.UniqueViolation as error:
            # Stored before, or by another worker since we looked: it took the partition over.
            raise Transient("another worker writes the same rows") if look_up else _MustLookUp from error
        self._count_clocks(clocks)
        return verdicts.tally
