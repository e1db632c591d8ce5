"""
The short way for the records that nearly all of the log is made of: events as a gateway writes them.

Read or written here, an event costs less than half of what fastavro takes, which goes by a dict, and was the largest
part of what any consumer spends on it. fastavro remains the judge of everything else: what is not plain in every byte
(a payload that is kept elsewhere, a length that makes no sense, a byte too many) is left to it, and what is read or
written here it would read or write alike.
"""

from schemas.runs.records import RunEvent

SCHEMA_ID = 1  # the one version of RunEvent, in registry.json, whose fields stand as they are read below
SHA256_BYTES = 32
NULL, STRING = 0, 2  # the branches of a union, as Avro writes 0 and 1
MORE, SEVEN_BITS = 0x80, 0x7F  # of each byte of a long: whether another follows, and its part of the number
LONG_BITS_MAX = 63  # in nine bytes; what takes ten may be beyond 64

# By first byte: how many bytes of text follow it, where it says so alone; else a length is longer, or negative.
_SIZES = tuple(byte >> 1 if not byte & (MORE | 1) else -1 for byte in range(256))
# And the other way: the one byte that tells of so many.
_OF_SIZES = tuple(bytes([size << 1]) for size in range(MORE >> 1))
_NULL, _STRING = bytes([NULL]), bytes([STRING])


def read_event(value: bytes, at: int) -> RunEvent | None:
    """Return the event whose Avro body begins in *value* at *at* and ends with it; None where that is not plain."""
    try:
        tenant, at = _text(value, at)
        run_id, at = _text(value, at)
        seq, at = _long(value, at)
        t, at = _text(value, at)
        actor, at = _text(value, at)
        event_type, at = _text(value, at)
        agent_id, at = _text(value, at)
        idempotency_key, at = _text_or_null(value, at)
        payload, at = _text_or_null(value, at)
        if value[at] != NULL:  # payload_ref
            return None
        meta, at = _text(value, at + 1)
    except (IndexError, ValueError):
        return None
    if len(value) - at != SHA256_BYTES:
        return None
    return RunEvent(
        tenant=tenant,
        run_id=run_id,
        seq=seq,
        t=t,
        actor=actor,
        type=event_type,
        agent_id=agent_id,
        idempotency_key=idempotency_key,
        payload=payload,
        meta=meta,
        event_sha256=value[at:],
    )


def write_event(event: RunEvent) -> bytes | None:
    """Return the Avro body of *event*; None where that is not plain."""
    fits = len(event.event_sha256) == SHA256_BYTES and event.seq >> LONG_BITS_MAX in (0, -1)
    if event.payload_ref is not None or not fits:
        return None
    return b"".join(
        (
            _text_of(event.tenant),
            _text_of(event.run_id),
            _long_of(event.seq),
            _text_of(event.t),
            _text_of(event.actor),
            _text_of(event.type),
            _text_of(event.agent_id),
            _text_or_null_of(event.idempotency_key),
            _text_or_null_of(event.payload),
            _NULL,  # payload_ref
            _text_of(event.meta),
            event.event_sha256,
        )
    )


# Each returns what it has read and where the next begins. A text that is cut short shows at the end: `at` is beyond it.


def _text(value: bytes, at: int) -> tuple[str, int]:
    size = _SIZES[value[at]]
    if size >= 0:
        end = at + 1 + size
        return value[at + 1 : end].decode(), end
    size, at = _long(value, at)
    if size < 0:
        raise ValueError("a negative length")
    end = at + size
    return value[at:end].decode(), end


def _text_or_null(value: bytes, at: int) -> tuple[str | None, int]:
    branch = value[at]
    if branch == STRING:
        return _text(value, at + 1)
    if branch != NULL:
        raise ValueError("no branch of the union in one byte")
    return None, at + 1


def _long(value: bytes, at: int) -> tuple[int, int]:
    byte = value[at]
    number, shift, at = byte & SEVEN_BITS, 7, at + 1
    while byte & MORE:
        if shift == LONG_BITS_MAX:
            raise ValueError("a long that may be beyond 64 bits")
        byte = value[at]
        number |= (byte & SEVEN_BITS) << shift
        shift, at = shift + 7, at + 1
    return (number >> 1) ^ -(number & 1), at


def _text_of(text: str) -> bytes:
    encoded = text.encode()
    size = len(encoded)
    return (_OF_SIZES[size] if size < len(_OF_SIZES) else _long_of(size)) + encoded


def _text_or_null_of(text: str | None) -> bytes:
    return _NULL if text is None else _STRING + _text_of(text)


def _long_of(number: int) -> bytes:
    number = (number << 1) ^ (number >> LONG_BITS_MAX)
    written = bytearray()
    while number > SEVEN_BITS:
        written.append(number & SEVEN_BITS | MORE)
        number >>= 7
    written.append(number)
    return bytes(written)
