"""
The footer of an archived object: a skippable frame at its end.

Every reader of zstd passes over it (RFC 8878, 3.1.2).
Without it, an object that was cut off between two frames would read as whole everywhere. The frame holds a JSON
document, then its length and a mark, so that the end of an object is enough to read it.
"""

import base64
import binascii
import hashlib
import hmac
import struct
import zlib
from collections.abc import Iterable
from functools import lru_cache

import msgspec

SKIPPABLE_MAGIC = 0x184D2A50
FRAME_HEAD = struct.Struct("<II")  # magic number, length of what follows
_TRAILER = struct.Struct("<II4s")  # CRC-32 of the JSON document, its length, mark
_MARK = b"TGA1"
FOOTER_BYTES_MAX = 16 * 1024 * 1024
TAIL_BYTES = 64 * 1024  # the end of an object that holds most footers whole
SUBJECT_BYTES = 8


class FooterInvalid(ValueError):
    """The object does not end with a footer."""


class FooterLonger(Exception):
    """The footer begins before the bytes that were given: give `size_bytes` of the object's end."""

    def __init__(self, size_bytes: int) -> None:
        super().__init__(f"the footer takes the last {size_bytes} bytes")
        self.size_bytes = size_bytes


class Footer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The summary of an object: which offsets it covers, and the digest of its lines."""

    topic: str
    topic_id: str
    partition: int
    first: int  # as its name says; records may begin later
    next: int  # the offset that the next object begins at
    count: int
    size_bytes: int  # of the lines' text
    sha256: str  # of the lines' text
    packed_sha256: str  # of the frames as they are stored
    first_ms: int  # the smallest timestamp of a record
    last_ms: int  # the largest
    subjects: str = ""  # digests of the users in it, sorted, without separators, as base64

    def has(self, subject: bytes) -> bool:
        """Return True if the digest *subject* is among those of the users in the object."""
        digests = base64.b64decode(self.subjects)
        return any(digests[at : at + SUBJECT_BYTES] == subject for at in range(0, len(digests), SUBJECT_BYTES))


@lru_cache(maxsize=10_000)  # an object has several records of most users
def subject_of(topic_id: str, *, tenant: str, user_id: str) -> bytes:
    """
    Return the digest by which footers of that topic know a user.

    It is no secret, for the lines of the same object name the user: it only keeps footers small.
    """
    message = f"{len(tenant)}:{tenant}{user_id}".encode()
    return hmac.digest(topic_id.encode(), message, hashlib.sha256)[:SUBJECT_BYTES]


def subjects_text(subjects: Iterable[bytes]) -> str:
    """Return the field `subjects` of a footer."""
    return base64.b64encode(b"".join(sorted(set(subjects)))).decode()


def frame(footer: Footer) -> bytes:
    """Return the frame that ends an object."""
    document = msgspec.json.encode(footer)
    content = document + _TRAILER.pack(zlib.crc32(document), len(document), _MARK)
    return FRAME_HEAD.pack(SKIPPABLE_MAGIC, len(content)) + content


def from_content(content: bytes) -> Footer:
    """
    Return the footer in the *content* of a skippable frame.

    Raises:
        FooterInvalid: it holds none.
    """
    document, trailer = content[: -_TRAILER.size], content[-_TRAILER.size :]
    if len(trailer) != _TRAILER.size or _TRAILER.unpack(trailer)[1:] != (len(document), _MARK):
        raise FooterInvalid("the object does not end with a footer")
    if _TRAILER.unpack(trailer)[0] != zlib.crc32(document):
        raise FooterInvalid("the footer is damaged: its checksum differs")
    try:
        footer = msgspec.json.decode(document, type=Footer)
        base64.b64decode(footer.subjects, validate=True)
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError, binascii.Error) as error:
        raise FooterInvalid(f"the footer is damaged: {error}") from error
    if not 0 <= footer.first < footer.next or footer.count < 0:
        raise FooterInvalid(f"the footer says that the object covers {footer.first} to {footer.next}")
    return footer


def from_tail(tail: bytes) -> Footer:
    """
    Return the footer at the end of an object, of which *tail* is the end.

    Raises:
        FooterInvalid: there is none.
        FooterLonger: more of the end is needed.
    """
    if len(tail) < _TRAILER.size:
        raise FooterInvalid("the object does not end with a footer")
    _, length, mark = _TRAILER.unpack(tail[-_TRAILER.size :])
    if mark != _MARK or length > FOOTER_BYTES_MAX:
        raise FooterInvalid("the object does not end with a footer")
    size_bytes = FRAME_HEAD.size + length + _TRAILER.size
    if len(tail) < size_bytes:
        raise FooterLonger(size_bytes)
    found = tail[-size_bytes:]
    if FRAME_HEAD.unpack_from(found) != (SKIPPABLE_MAGIC, length + _TRAILER.size):
        raise FooterInvalid("the object does not end with a footer")
    return from_content(found[FRAME_HEAD.size :])
