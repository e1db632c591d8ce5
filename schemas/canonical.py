"""
The canonical form of an event (RFC 8785) and its digest.

One documented extension: integers beyond 2^53-1, within 64 bits, are written as their digits, since
ids of that size are common and must not collide after rounding. Other numbers are doubles, as RFC 8785 says.
The library writes strings and doubles; the structure is walked here because it refuses such integers.
"""

import hashlib
from collections.abc import Mapping

import rfc8785


def canonical(value: object) -> bytes:
    """Return the canonical bytes of a decoded JSON *value*, nested at most as deep as `strictjson` admits."""
    parts: list[bytes] = []
    _write(value, parts)
    return b"".join(parts)


def event_digest(event: Mapping[str, object]) -> bytes:
    """Return the SHA-256 (32 bytes) of the canonical form of a decoded *event* without `meta.signature`."""
    return hashlib.sha256(signed_form(event)).digest()


def signed_form(event: Mapping[str, object]) -> bytes:
    """Return the bytes that an agent signs: the canonical event without `meta.signature`."""
    meta = event.get("meta")
    if isinstance(meta, Mapping) and "signature" in meta:
        event = {**event, "meta": {name: value for name, value in meta.items() if name != "signature"}}
    return canonical(event)


def _write(value: object, parts: list[bytes]) -> None:
    if isinstance(value, str):
        parts.append(_string(value))
    elif isinstance(value, Mapping):
        opening = b"{"
        for name in sorted(value, key=_utf16):
            parts.extend((opening, _string(name), b":"))
            _write(value[name], parts)
            opening = b","
        parts.append(b"}" if opening == b"," else b"{}")
    elif isinstance(value, int) and not isinstance(value, bool):
        parts.append(b"%d" % value)
    elif isinstance(value, (list, tuple)):
        opening = b"["
        for item in value:
            parts.append(opening)
            _write(item, parts)
            opening = b","
        parts.append(b"]" if opening == b"," else b"[]")
    else:
        parts.append(rfc8785.dumps(value))  # type: ignore[arg-type]  # a double, a bool, None, or the library's error


def _utf16(name: str) -> bytes:
    return name.encode("utf-16be")


def _string(value: str) -> bytes:
    # Most strings need no escape; the test is one C call and saves the library's regular expression.
    if value.isprintable() and '"' not in value and "\\" not in value:
        return b'"' + value.encode() + b'"'
    return rfc8785.dumps(value)
