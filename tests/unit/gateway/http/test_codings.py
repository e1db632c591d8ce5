"""Packed bodies: what is in them, within a bound."""

import contextlib
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.errors import BadBody, EventTooLarge, UnsupportedCoding
from gateway.http.codings import Coding, coding_of, inflate
from tests.support.packing import MIB, PACK, bomb, zstd

CODINGS = st.sampled_from(Coding)


@settings(deadline=None)
@given(CODINGS, st.binary(max_size=1000), st.integers(1, 300))
def test_what_was_packed_is_what_is_inflated(coding: Coding, piece: bytes, times: int) -> None:
    body = piece * times
    assert inflate(PACK[coding](body), coding, bytes_max=len(body)) == body


@settings(deadline=None)
@given(CODINGS, st.binary(min_size=1, max_size=1000), st.integers(1, 300))
def test_one_byte_over_the_bound_is_refused(coding: Coding, piece: bytes, times: int) -> None:
    body = piece * times
    with pytest.raises(EventTooLarge):
        inflate(PACK[coding](body), coding, bytes_max=len(body) - 1)


@settings(deadline=None)
@given(CODINGS, st.binary(max_size=1000), st.data())
def test_a_stream_that_is_cut_short_is_refused(coding: Coding, body: bytes, data: st.DataObject) -> None:
    packed = PACK[coding](body)
    cut = data.draw(st.integers(0, len(packed) - 1))
    with pytest.raises(BadBody, match="cut short"):
        inflate(packed[:cut], coding, bytes_max=1000)


@settings(deadline=None)
@given(CODINGS, st.binary(max_size=200_000), st.binary(min_size=1, max_size=200_000))
def test_bytes_after_the_end_are_refused(coding: Coding, body: bytes, more: bytes) -> None:
    with pytest.raises(BadBody):
        inflate(PACK[coding](body) + more, coding, bytes_max=200_000)


@pytest.mark.parametrize("coding", Coding)
def test_a_second_stream_is_refused(coding: Coding) -> None:
    """Concatenated members would make one body of what another reader takes for two."""
    with pytest.raises(BadBody):
        inflate(PACK[coding](b"{}") * 2, coding, bytes_max=1000)


@settings(deadline=None)
@given(CODINGS, st.binary(max_size=300))
def test_any_bytes_are_inflated_or_refused(coding: Coding, packed: bytes) -> None:
    with contextlib.suppress(BadBody, EventTooLarge):
        inflate(packed, coding, bytes_max=10_000)


@settings(deadline=None)
@given(CODINGS, st.binary(min_size=100, max_size=1000), st.data())
def test_a_stream_with_one_wrong_byte_never_breaks_the_decoder(
    coding: Coding, body: bytes, data: st.DataObject
) -> None:
    packed = bytearray(PACK[coding](body))
    packed[data.draw(st.integers(0, len(packed) - 1))] ^= data.draw(st.integers(1, 255))
    with contextlib.suppress(BadBody, EventTooLarge):
        inflate(bytes(packed), coding, bytes_max=10_000)


def test_zstd_may_not_ask_for_a_larger_window_than_http_allows() -> None:
    """A frame that claims 128 MiB would have the decoder hold as much (RFC 9659)."""
    packed = zstd.compress(b" " * MIB * 20, options={zstd.CompressionParameter.window_log: 24})
    with pytest.raises(BadBody):
        inflate(packed, Coding.ZSTD, bytes_max=100)


@pytest.mark.parametrize(
    ("fields", "coding"),
    [(["gzip"], Coding.GZIP), (["X-GZIP"], Coding.GZIP), ([" Br "], Coding.BR), (["identity"], None)],
)
def test_a_coding_is_named_in_any_case(fields: list[str], coding: Coding | None) -> None:
    assert coding_of(fields) is coding


@pytest.mark.parametrize(
    "fields", [["gzip, br"], ["gzip", "gzip"], ["identity, gzip"], ["compress"], [""], ["gzip;q=1"]]
)
def test_one_coding_only(fields: list[str]) -> None:
    with pytest.raises(UnsupportedCoding):
        coding_of(fields)


BOMB_IN_A_PROCESS = """
import sys
from pathlib import Path
from gateway.errors import EventTooLarge
from gateway.http.codings import Coding, inflate

def peak_kib():
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:"))

packed, coding = sys.stdin.buffer.read(), Coding(sys.argv[1])
before_kib = peak_kib()
try:
    inflate(packed, coding, bytes_max=10 * 1024 * 1024)
except EventTooLarge:
    print(peak_kib() - before_kib)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak of memory from /proc")
@pytest.mark.parametrize("coding", Coding)
def test_a_bomb_takes_no_more_memory_than_the_bound_and_a_window(coding: Coding) -> None:
    """10 MiB, at most 16 MiB of brotli's window, and some slack; the bomb holds 200 MiB."""
    packed = bomb(coding, 200 * MIB)
    assert len(packed) < MIB
    ended = subprocess.run(
        [sys.executable, "-c", BOMB_IN_A_PROCESS, coding], input=packed, capture_output=True, check=True, timeout=60
    )
    assert 8 * 1024 < int(ended.stdout) < 40 * 1024
