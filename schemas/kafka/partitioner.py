"""
The partition of a key, as every producer of ours decides it (`murmur2_random`, Java's default).

For code that must find a key's partition without producing to it.
"""

_SEED = 0x9747B28C
_M = 0x5BD1E995
_MASK = 0xFFFFFFFF

# Of a key that a valid record of a run may have. Longer ones are not worth the time: anyone may write one of megabytes.
KEY_BYTES_MAX = 128


def partition_of(key: bytes, count: int) -> int:
    """Return the partition of *key* among *count*."""
    return (_murmur2(key) & 0x7FFFFFFF) % count


def _murmur2(data: bytes) -> int:
    whole = len(data) & ~3
    digest = _SEED ^ len(data)
    for start in range(0, whole, 4):
        block = int.from_bytes(data[start : start + 4], "little") * _M & _MASK
        block = (block ^ block >> 24) * _M & _MASK
        digest = digest * _M & _MASK ^ block
    if rest := data[whole:]:
        digest = (digest ^ int.from_bytes(rest, "little")) * _M & _MASK
    digest = (digest ^ digest >> 13) * _M & _MASK
    return digest ^ digest >> 15
