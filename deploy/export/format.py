"""
The lines of an export (JSONL): a header, one line an event, a last line. Pure.

Every line ends with its `seal`, SHA-256(seal of the line before || the line up to the seal), so that nothing in a file
can change, go, come or move without the seals after it changing too: also what the events' own digests do not cover,
such as the header and an event's place in the log. Seals are over bytes, not over meaning: a file that was formatted
again is not the file that was written.

An event is as it was sent. Line breaks between its JSON tokens become blanks, for an event is one line; every other
byte of payload and meta is the sender's, numbers with all their digits.
"""

import hashlib
from collections.abc import Mapping
from datetime import datetime

import msgspec

from schemas.runs.chain import CHAIN_START, link

FORMAT = "tidegate-run-export"
VERSION = 1
SEAL_START = bytes(32)
HEX_CHARACTERS = 64  # of 32 bytes
# A payload of 10 MiB and its meta; a line over it was not written by us.
LINE_BYTES_MAX = 24 * 1024 * 1024

_SEAL = b',"seal":"'
_END = b'"}\n'
_TAIL_BYTES = len(_SEAL) + HEX_CHARACTERS + len(_END)


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """The first line."""

    format: str = FORMAT
    version: int = VERSION
    run_id: str
    status: str
    finalized: bool
    exported_at: datetime


class EventLine(msgspec.Struct, frozen=True, kw_only=True):
    """One event: what its digest is made of, that digest, its place in the log, and the chain up to it."""

    seq: int
    t: str
    actor: str
    type: str
    payload: msgspec.Raw
    meta: msgspec.Raw
    event_sha256: str
    wal_id: str
    chain: str


class ClosingLine(msgspec.Struct, frozen=True, kw_only=True):
    """The last line."""

    event_count: int
    chain_head: str
    finalized: bool
    trace: msgspec.Raw  # the trace record as the gateway shows it; null of a run that is not finalized
    integrity: msgspec.Raw  # what of the run is missing, repeated or rejected, as the gateway shows it


Line = Header | EventLine | ClosingLine


class Sealer:
    """A converter of lines into the bytes of a file, in order."""

    def __init__(self) -> None:
        """Begin a file."""
        self._seal = SEAL_START
        self._chain = CHAIN_START
        self.event_count = 0

    @property
    def chain_head(self) -> str:
        """Return the chain after the events so far."""
        return self._chain.hex()

    def follow(self, seq: int, event_sha256: str) -> str:
        """Add an event to the chain; return the link that goes into its line."""
        self._chain = link(self._chain, seq, bytes.fromhex(event_sha256))
        self.event_count += 1
        return self._chain.hex()

    def line(self, line: Line) -> bytes:
        """Return the bytes of the next line."""
        body = msgspec.json.encode(line).replace(b"\n", b" ").replace(b"\r", b" ")[:-1]
        self._seal = seal(self._seal, body)
        return body + _SEAL + self._seal.hex().encode() + _END


def seal(before: bytes, body: bytes) -> bytes:
    """Return the seal of a line that comes after one sealed *before*; *body* is all of it up to its seal."""
    return hashlib.sha256(before + body).digest()


def split(line: bytes) -> tuple[bytes, bytes] | None:
    """Return the body of a *line* and the seal at its end; None if it does not end as a line does."""
    body, tail = line[:-_TAIL_BYTES], line[-_TAIL_BYTES:]
    shown = tail[len(_SEAL) : -len(_END)]
    if not tail.startswith(_SEAL) or not tail.endswith(_END) or shown.lower() != shown:
        return None
    try:
        return body, bytes.fromhex(shown.decode("ascii"))
    except ValueError:
        return None


def sent(line: Mapping[str, object]) -> dict[str, object]:
    """Return the event of a decoded event line, as its agent sent it."""
    return {name: line[name] for name in ("seq", "t", "actor", "type", "payload", "meta")}
