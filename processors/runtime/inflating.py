"""
Compressed batches of records, inflated within a bound.

aiokafka inflates a batch whole, however large it becomes: 200 MB of zeros are 7 KB on the wire. These four functions
stand in for those of `aiokafka.codec`; `transport` puts them there.
"""

import sys
import zlib
from collections.abc import Callable
from typing import Protocol

import cramjam

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

MIB = 1024 * 1024
# Above any record that we handle (11 MiB) and any batch of ours (as much). What waits in memory is a multiple of it.
INFLATED_BYTES_MAX = 16 * MIB

_GZIP_WBITS = 16 + zlib.MAX_WBITS
_XERIAL_MAGIC = b"\x82SNAPPY\0"
_XERIAL_HEADER_BYTES = 16  # the magic and two versions
_SIZE_BYTES = 4


class NotInflated(ValueError):
    """A batch of records that cannot be inflated. No retry changes that."""


class InflatesTooMuch(NotInflated):
    """A batch of records that inflates to more than `INFLATED_BYTES_MAX`."""

    def __init__(self) -> None:
        """Name the bound in the message."""
        super().__init__(f"the record's batch inflates to more than {INFLATED_BYTES_MAX} bytes")


def inflate_gzip(payload: bytes) -> bytes:
    """Inflate gzip, of one member or several."""
    return _inflate_parts(payload, lambda: zlib.decompressobj(_GZIP_WBITS), name="gzip", broken=zlib.error)


def inflate_zstd(payload: bytes) -> bytes:
    """Inflate Zstandard, of one frame or several."""
    return _inflate_parts(payload, zstd.ZstdDecompressor, name="zstd", broken=zstd.ZstdError)


class _Decoder(Protocol):
    """The common interface of `zlib` and `zstd`: a decoder of one part, which may be followed by others."""

    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


def _inflate_parts(payload: bytes, decode: Callable[[], _Decoder], *, name: str, broken: type[Exception]) -> bytes:
    rest, chunks, left = bytes(payload), [], INFLATED_BYTES_MAX + 1
    while rest:
        decoder = decode()
        try:
            chunks.append(decoder.decompress(rest, left))
        except broken as error:
            raise NotInflated(f"the record's batch is not {name}: {error}") from error
        left -= len(chunks[-1])
        if left <= 0:
            raise InflatesTooMuch
        if not decoder.eof:
            raise NotInflated(f"the record's batch is not whole {name}")
        rest = decoder.unused_data
    return b"".join(chunks)


def inflate_snappy(payload: bytes) -> bytes:
    """Inflate Snappy: bare, or in the blocks of the library snappy-java."""
    packed = bytes(payload)
    if not packed.startswith(_XERIAL_MAGIC):
        return _snappy_block(packed, INFLATED_BYTES_MAX)
    place, blocks, left = _XERIAL_HEADER_BYTES, [], INFLATED_BYTES_MAX
    while place < len(packed):
        end = place + _SIZE_BYTES + int.from_bytes(packed[place : place + _SIZE_BYTES], "big")
        blocks.append(_snappy_block(packed[place + _SIZE_BYTES : end], left))
        left -= len(blocks[-1])
        place = end
    return b"".join(blocks)


def _snappy_block(block: bytes, bytes_max: int) -> bytes:
    try:
        if cramjam.snappy.decompress_raw_len(block) > bytes_max:
            raise InflatesTooMuch
        return bytes(cramjam.snappy.decompress_raw(block))
    except cramjam.DecompressionError as error:
        raise NotInflated(f"the record's batch is not snappy: {error}") from error


def inflate_lz4(payload: bytes) -> bytes:
    """Inflate an LZ4 frame."""
    packed = bytes(payload)
    most = _lz4_bytes_max(packed)
    if most <= INFLATED_BYTES_MAX:
        try:
            return bytes(cramjam.lz4.decompress(packed))
        except cramjam.DecompressionError as error:
            raise NotInflated(f"the record's batch is not lz4: {error}") from error
    room = bytearray(INFLATED_BYTES_MAX)
    try:
        size_bytes = cramjam.lz4.decompress_into(packed, room)
    except cramjam.DecompressionError as error:
        raise InflatesTooMuch from error  # or broken: this library does not tell them apart
    return bytes(memoryview(room)[:size_bytes])


_LZ4_MAGIC = b"\x04\x22\x4d\x18"
_LZ4_BLOCK_BYTES = {4: 64 * 1024, 5: 256 * 1024, 6: MIB, 7: 4 * MIB}  # by the frame's BD byte
_LZ4_HEADER_BYTES = 7  # magic, FLG, BD, checksum; a content size or a dictionary's id come on top
_LZ4_SIZE_FLAG, _LZ4_DICTIONARY_FLAG, _LZ4_BLOCK_CHECKSUM_FLAG, _LZ4_CHECKSUM_FLAG = 0x08, 0x01, 0x10, 0x04
_LZ4_BLOCK_SIZE_MASK = 0x7FFF_FFFF  # the highest bit says that a block is not packed


def _lz4_bytes_max(packed: bytes) -> int:
    """Return how much one LZ4 frame can inflate to, by its blocks; of anything else, more than is allowed."""
    unknown = INFLATED_BYTES_MAX + 1
    if len(packed) < _LZ4_HEADER_BYTES or not packed.startswith(_LZ4_MAGIC):
        return unknown
    flags, block_bytes = packed[4], _LZ4_BLOCK_BYTES.get(packed[5] >> 4 & 7, unknown)
    place = _LZ4_HEADER_BYTES + 8 * bool(flags & _LZ4_SIZE_FLAG) + 4 * bool(flags & _LZ4_DICTIONARY_FLAG)
    blocks = 0
    while place + _SIZE_BYTES <= len(packed):
        size_bytes = int.from_bytes(packed[place : place + _SIZE_BYTES], "little") & _LZ4_BLOCK_SIZE_MASK
        place += _SIZE_BYTES
        if not size_bytes:  # the frame's end
            place += 4 * bool(flags & _LZ4_CHECKSUM_FLAG)
            return blocks * block_bytes if place == len(packed) else unknown
        place += size_bytes + 4 * bool(flags & _LZ4_BLOCK_CHECKSUM_FLAG)
        blocks += 1
    return unknown


INFLATE: dict[str, Callable[[bytes], bytes]] = {
    "gzip_decode": inflate_gzip,
    "snappy_decode": inflate_snappy,
    "lz4_decode": inflate_lz4,
    "zstd_decode": inflate_zstd,
}
"""By the name that aiokafka has for it."""


class Meter:
    """A count of inflated bytes, for the bound on memory."""

    def __init__(self) -> None:
        """Start at 0."""
        self.inflated_bytes = 0

    def counting(self, inflate: Callable[[bytes], bytes]) -> Callable[[bytes], bytes]:
        """Return *inflate*, its output counted."""

        def counted(payload: bytes) -> bytes:
            content = inflate(payload)
            self.inflated_bytes += len(content)
            return content

        return counted


meter = Meter()
