"""Lookups in the store that decide about the records of a slice."""

from collections.abc import Sequence
from typing import Any

from psycopg import AsyncCursor

from processors.events.rows.verdicts import StoredUserEvent, StoredUserEvents
from processors.runtime.contract import Arrival
from schemas.events.records import UserEvent, uid_of

# What is stored under the slice's identities and places: two index look-ups a record.
KNOWN_EVENTS = """
    SELECT uid, event_sha256, kafka_partition, kafka_offset
    FROM events
    WHERE uid = ANY(%(uids)s)
  UNION
    SELECT uid, event_sha256, kafka_partition, kafka_offset
    FROM events
    JOIN unnest(%(partitions)s::integer[], %(offsets)s::bigint[]) AS arrived (kafka_partition, kafka_offset)
        USING (kafka_partition, kafka_offset)
"""


async def stored_state(cursor: AsyncCursor[Any], arrivals: Sequence[Arrival[UserEvent]]) -> StoredUserEvents:
    """Return the stored events that *arrivals* repeat or collide with."""
    await cursor.execute(
        KNOWN_EVENTS,
        {
            "uids": [uid_of(arrival.record) for arrival in arrivals],
            "partitions": [arrival.raw.partition for arrival in arrivals],
            "offsets": [arrival.raw.offset for arrival in arrivals],
        },
    )
    known = StoredUserEvents()
    for uid, event_sha256, partition, offset in await cursor.fetchall():
        known.events[uid] = StoredUserEvent((partition, offset), event_sha256)
        known.at[partition, offset] = uid
    return known
