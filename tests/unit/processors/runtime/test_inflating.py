"""Batches of records inflate to what they were, and to no more than is allowed."""

import zlib
from collections.abc import Callable
from random import Random

import cramjam
import pytest
from aiokafka import codec

from processors.runtime.inflating import (
    INFLATE,
    INFLATED_BYTES_MAX,
    InflatesTooMuch,
    NotInflated,
    _lz4_bytes_max,
    inflate_gzip,
    inflate_lz4,
    inflate_snappy,
    inflate_zstd,
)

NOISE = Random(20261129).randbytes(300_000)
PACKED: list[tuple[str, Callable[[bytes], bytes], Callable[[bytes], bytes]]] = [
    ("gzip", codec.gzip_encode, inflate_gzip),
    ("zstd", codec.zstd_encode, inflate_zstd),
    ("lz4", codec.lz4_encode, inflate_lz4),
    ("lz4, fast", lambda content: codec.lz4_encode(content, level=1), inflate_lz4),
    ("snappy, bare", lambda content: codec.snappy_encode(content, xerial_compatible=False), inflate_snappy),
    ("snappy of Java", codec.snappy_encode, inflate_snappy),
]
by_coding = pytest.mark.parametrize(
    ("pack", "inflate"), [each[1:] for each in PACKED], ids=[each[0] for each in PACKED]
)


@by_coding
@pytest.mark.parametrize("content", [b"a", b"abc" * 100_000, NOISE, bytes(INFLATED_BYTES_MAX)], ids=len)
def test_what_was_packed_comes_out(
    pack: Callable[[bytes], bytes], inflate: Callable[[bytes], bytes], content: bytes
) -> None:
    assert inflate(pack(content)) == content


@by_coding
@pytest.mark.parametrize("size_bytes", [INFLATED_BYTES_MAX + 1, 200_000_000])
def test_what_inflates_to_more_than_is_allowed_does_not_come_out(
    pack: Callable[[bytes], bytes], inflate: Callable[[bytes], bytes], size_bytes: int
) -> None:
    """Regression: 200 MB of zeros are 7 KB on the wire, and took a worker's memory."""
    with pytest.raises(InflatesTooMuch):
        inflate(pack(bytes(size_bytes)))


@by_coding
def test_what_is_cut_short_or_damaged_is_an_error_of_ours(
    pack: Callable[[bytes], bytes], inflate: Callable[[bytes], bytes]
) -> None:
    packed = bytes(pack(NOISE))
    for broken in (packed[:-5], packed[: len(packed) // 2], packed[:3], b"\xff" * 100):
        with pytest.raises(NotInflated):
            inflate(broken)


@pytest.mark.parametrize(("pack", "inflate"), [(codec.gzip_encode, inflate_gzip), (codec.zstd_encode, inflate_zstd)])
def test_several_streams_one_after_the_other_are_bounded_together(
    pack: Callable[[bytes], bytes], inflate: Callable[[bytes], bytes]
) -> None:
    assert inflate(pack(b"a") + pack(b"b")) == b"ab"
    with pytest.raises(InflatesTooMuch):
        inflate(pack(b"a") + pack(bytes(INFLATED_BYTES_MAX)))


def test_an_lz4_frame_with_another_behind_it_is_inflated_with_care() -> None:
    small, large = codec.lz4_encode(b"a"), codec.lz4_encode(bytes(200_000_000))
    assert _lz4_bytes_max(small) <= INFLATED_BYTES_MAX
    assert _lz4_bytes_max(small + large) > INFLATED_BYTES_MAX


def test_the_usual_batch_takes_the_short_way() -> None:
    """Of librdkafka: blocks of 64 to 256 KB. The other way takes a buffer of the whole bound."""
    packed = bytes(cramjam.lz4.compress(NOISE))
    assert len(NOISE) <= _lz4_bytes_max(packed) <= INFLATED_BYTES_MAX


def test_each_of_aiokafkas_codings_has_one_of_ours() -> None:
    assert {name for name in dir(codec) if name.endswith("_decode")} == set(INFLATE)


def test_the_bound_is_that_of_the_output_and_not_of_what_comes_in() -> None:
    assert len(inflate_gzip(zlib.compress(NOISE, wbits=31))) == len(NOISE)
