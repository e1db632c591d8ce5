"""Bodies packed as clients pack them, and bombs."""

import sys
import zlib
from collections.abc import Callable

import brotli

from gateway.http.codings import Coding

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

MIB = 1024 * 1024


def _zlib(body: bytes, wbits: int) -> bytes:
    packer = zlib.compressobj(wbits=wbits)
    return packer.compress(body) + packer.flush()


PACK: dict[Coding, Callable[[bytes], bytes]] = {
    Coding.GZIP: lambda body: _zlib(body, 31),
    Coding.DEFLATE: lambda body: _zlib(body, 15),
    Coding.BR: lambda body: brotli.compress(body, quality=5, lgwin=24),
    Coding.ZSTD: zstd.compress,
}


def bomb(coding: Coding, inflated_bytes: int) -> bytes:
    """Return a small stream that holds *inflated_bytes* blanks."""
    return PACK[coding](b" " * inflated_bytes)
