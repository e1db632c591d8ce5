"""The keys of a command for a whole collection: one record of it in each partition."""

from collections.abc import Sequence

from schemas.documents.records import share_key
from schemas.kafka.partitioner import partition_of

# So many keys for each partition miss one of a thousand once in 10^23 times.
KEYS_EACH_MAX = 64


class NoShares(Exception):
    """No key was found for a partition. Never seen; try another name."""


def shares_of(tenant: str, collection: str, partition_count: int) -> Sequence[int]:
    """Return for each partition the lowest share whose key is in it. Raises NoShares."""
    found: dict[int, int] = {}
    for share in range(KEYS_EACH_MAX * partition_count):
        found.setdefault(partition_of(share_key(tenant, collection, share), partition_count), share)
        if len(found) == partition_count:
            return [found[partition] for partition in range(partition_count)]
    raise NoShares(f"no keys of {collection!r} for {partition_count} partitions")
