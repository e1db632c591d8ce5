"""
Texts and numbers as Avro has them, for the readers and writers of single schemas that do without fastavro.

A reader returns what it has read and where the next begins. A text that is cut short shows at the end: that is beyond
the bytes. IndexError and ValueError say that what is there is not plain, and so for fastavro to read.
"""

NULL, STRING = 0, 2  # the branches of a union, as Avro writes 0 and 1
MORE, SEVEN_BITS = 0x80, 0x7F  # of each byte of a long: whether another follows, and its part of the number
LONG_BITS_MAX = 63  # in nine bytes; what takes ten may be beyond 64

# By first byte: how many bytes of text follow it, where it says so alone; else a length is longer, or negative.
_SIZES = tuple(byte >> 1 if not byte & (MORE | 1) else -1 for byte in range(256))
# And the other way: the one byte that tells of so many.
_OF_SIZES = tuple(bytes([size << 1]) for size in range(MORE >> 1))
NULL_BYTE, _STRING_BYTE = bytes([NULL]), bytes([STRING])


def read_text(value: bytes, at: int) -> tuple[str, int]:
    """Return the text at *at*, and where the next value begins."""
    size = _SIZES[value[at]]
    if size >= 0:
        end = at + 1 + size
        return value[at + 1 : end].decode(), end
    size, at = read_long(value, at)
    if size < 0:
        raise ValueError("a negative length")
    end = at + size
    return value[at:end].decode(), end


def read_text_or_null(value: bytes, at: int) -> tuple[str | None, int]:
    """Return the text or null at *at*, a union of null and string, and where the next value begins."""
    branch = value[at]
    if branch == STRING:
        return read_text(value, at + 1)
    if branch != NULL:
        raise ValueError("no branch of the union in one byte")
    return None, at + 1


def read_long(value: bytes, at: int) -> tuple[int, int]:
    """Return the number at *at*, and where the next value begins."""
    byte = value[at]
    number, shift, at = byte & SEVEN_BITS, 7, at + 1
    while byte & MORE:
        if shift == LONG_BITS_MAX:
            raise ValueError("a long that may be beyond 64 bits")
        byte = value[at]
        number |= (byte & SEVEN_BITS) << shift
        shift, at = shift + 7, at + 1
    return (number >> 1) ^ -(number & 1), at


def text_of(text: str) -> bytes:
    """Return *text* as Avro writes it."""
    encoded = text.encode()
    size = len(encoded)
    return (_OF_SIZES[size] if size < len(_OF_SIZES) else long_of(size)) + encoded


def text_or_null_of(text: str | None) -> bytes:
    """Return *text* as Avro writes it in a union of null and string."""
    return NULL_BYTE if text is None else _STRING_BYTE + text_of(text)


def long_of(number: int) -> bytes:
    """Return *number*, of 64 bits, as Avro writes it."""
    number = (number << 1) ^ (number >> LONG_BITS_MAX)
    written = bytearray()
    while number > SEVEN_BITS:
        written.append(number & SEVEN_BITS | MORE)
        number >>= 7
    written.append(number)
    return bytes(written)
