"""Content codings (RFC 9110): packed bodies are inflated within a bound, whatever they claim of themselves."""

import sys
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import StrEnum

import brotli

from gateway.errors import BadBody, EventTooLarge, UnsupportedCoding

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

CHUNK_BYTES = 64 * 1024
ZSTD_WINDOW_LOG_MAX = 23  # 8 MiB, all that a sender may ask of a receiver (RFC 9659)

_GZIP_WBITS = 16 + zlib.MAX_WBITS


class Coding(StrEnum):
    """The content codings of request bodies. Deflate is zlib's format, as in RFC 9110, not the raw stream."""

    GZIP = "gzip"
    DEFLATE = "deflate"
    BR = "br"
    ZSTD = "zstd"


def coding_of(fields: Sequence[str]) -> Coding | None:
    """
    Return what the Content-Encoding *fields* of a request name; None: the body is as it is.

    Raises:
        UnsupportedCoding: none of ours, or more than one.
    """
    given = ", ".join(fields).strip().lower()
    if given == "identity":
        return None
    coding = _BY_NAME.get(given)
    if coding is None:
        raise UnsupportedCoding(tuple(Coding))
    return coding


def inflate(packed: bytes, coding: Coding, *, bytes_max: int) -> bytes:
    """
    Return what the one stream in *packed* holds; blocks for up to 0.1 s per 10 MiB.

    Raises:
        EventTooLarge: over *bytes_max*; no more than that and a chunk is held, besides the decoder's own window.
        BadBody: no such stream, one that is cut short, or bytes after its end.
    """
    chunks: list[bytes] = []
    held_bytes = 0
    try:
        for chunk in _CHUNKS[coding](packed):
            chunks.append(chunk)
            held_bytes += len(chunk)
            if held_bytes > bytes_max:
                raise EventTooLarge(f"a body of at most {bytes_max} bytes once it is inflated")
    except (zlib.error, brotli.error, zstd.ZstdError) as error:
        raise BadBody(f"the body is not one whole {coding} stream") from error
    return b"".join(chunks)


def _gzip(packed: bytes) -> Iterator[bytes]:
    return _zlib(packed, Coding.GZIP, _GZIP_WBITS)


def _deflate(packed: bytes) -> Iterator[bytes]:
    return _zlib(packed, Coding.DEFLATE, zlib.MAX_WBITS)


def _zlib(packed: bytes, coding: Coding, wbits: int) -> Iterator[bytes]:
    decoder = zlib.decompressobj(wbits)
    rest = memoryview(packed)
    # Slice by slice: the decoder copies what it could not use yet of each piece that it is given.
    while rest and not decoder.eof:
        piece: memoryview | bytes = rest[:CHUNK_BYTES]
        rest = rest[CHUNK_BYTES:]
        while chunk := decoder.decompress(piece, CHUNK_BYTES):
            yield chunk
            piece = decoder.unconsumed_tail
    _check_end(coding, ended=decoder.eof, more=bool(rest or decoder.unused_data))


def _brotli(packed: bytes) -> Iterator[bytes]:
    decoder = brotli.Decompressor()
    # Its limit is kept to within its next block of output; bytes after the end are an error of its own.
    chunk = decoder.process(packed, output_buffer_limit=CHUNK_BYTES)
    while chunk:
        yield chunk
        chunk = b"" if decoder.is_finished() else decoder.process(b"", output_buffer_limit=CHUNK_BYTES)
    _check_end(Coding.BR, ended=decoder.is_finished(), more=False)


def _zstd(packed: bytes) -> Iterator[bytes]:
    decoder = zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: ZSTD_WINDOW_LOG_MAX})
    chunk = decoder.decompress(packed, CHUNK_BYTES)
    while chunk:
        yield chunk
        chunk = b"" if decoder.eof else decoder.decompress(b"", CHUNK_BYTES)
    _check_end(Coding.ZSTD, ended=decoder.eof, more=bool(decoder.eof and decoder.unused_data))


def _check_end(coding: Coding, *, ended: bool, more: bool) -> None:
    if not ended:
        raise BadBody(f"the body's {coding} stream is cut short")
    if more:
        raise BadBody(f"bytes follow the end of the body's {coding} stream")


_BY_NAME: Mapping[str, Coding] = {**{coding.value: coding for coding in Coding}, "x-gzip": Coding.GZIP}
_CHUNKS: Mapping[Coding, Callable[[bytes], Iterator[bytes]]] = {
    Coding.GZIP: _gzip,
    Coding.DEFLATE: _deflate,
    Coding.BR: _brotli,
    Coding.ZSTD: _zstd,
}
