"""Vectors on their way to Postgres, in the binary form of pgvector's halfvec: its length, and float16 in big-endian."""

import struct
from array import array
from typing import Any

from psycopg import AsyncCursor
from psycopg.adapt import Dumper
from psycopg.pq import Format
from psycopg.types import TypeInfo

from processors.runtime.errors import Unsettled

HALF_BYTES = 2
_HEAD = struct.Struct(">HH")  # dimensions, and a field that pgvector does not use


class HalfVector:
    """A vector as float16 in little-endian, as the log and the cache have it."""

    __slots__ = ("halves",)

    def __init__(self, halves: bytes) -> None:
        self.halves = halves


class HalfVectorDumper(Dumper):
    """The binary form of a `HalfVector`."""

    format = Format.BINARY

    def dump(self, obj: HalfVector) -> bytes:
        """Return the bytes that COPY takes."""
        # As whole numbers: Python's arrays have no float16, and only the order of the bytes changes.
        swapped = array("H", obj.halves)
        swapped.byteswap()
        return _HEAD.pack(len(swapped), 0) + swapped.tobytes()


async def register(cursor: AsyncCursor[Any]) -> None:
    """
    Let *cursor*, and later ones of its connection, take `HalfVector` where a halfvec is expected.

    Raises:
        Unsettled: pgvector is not installed in the database.
    """
    if cursor.adapters.types.get("halfvec") is not None:
        return
    found = await TypeInfo.fetch(cursor.connection, "halfvec")
    if found is None:
        raise Unsettled("pgvector is not installed: run `CREATE EXTENSION vector` as the owner of the database")
    dumper = type("HalfVectorDumper", (HalfVectorDumper,), {"oid": found.oid})
    for context in (cursor.connection, cursor):  # a cursor has copied what its connection knew
        found.register(context)
        context.adapters.register_dumper(HalfVector, dumper)
