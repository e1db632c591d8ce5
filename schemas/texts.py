"""Free texts that senders write: their length, and the characters that they must not have."""

import re

LABEL_CHARACTERS_MAX = 255
LABEL_PATTERN = r"^[^\u0000-\u001f\u007f-\u009f]{1,255}$"
"""Of a label, as the API's description has it."""

_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")  # as JSON has it, and not behind a backslash of the text
_LABEL = re.compile(rf"[^\x00-\x1f\x7f-\x9f]{{1,{LABEL_CHARACTERS_MAX}}}\Z")


def label_fault(value: object) -> str | None:
    """Return what is wrong with a label, such as the id of a user or the name of an event; None if nothing is."""
    if not isinstance(value, str) or not _LABEL.match(value):
        return f"a text of 1 to {LABEL_CHARACTERS_MAX} characters without control characters"
    return None


def exceeds(text: str, bytes_max: int) -> bool:
    """Return True if *text* has more than *bytes_max* bytes as UTF-8."""
    # Encoded only where it matters: a character has 1 to 4 bytes.
    return len(text) > bytes_max or (4 * len(text) > bytes_max and len(text.encode()) > bytes_max)


def holds_nul(encoded: bytes) -> bool:
    """Return True if a text in encoded JSON holds a NUL character, which Postgres keeps in no text."""
    return _NUL.search(encoded) is not None


def printable(text: str, *, characters_max: int) -> str:
    """Return a stranger's *text* for logs and headers: what cannot be printed is escaped, and its length bounded."""
    escaped = "".join(one if one.isprintable() else f"\\u{ord(one):04x}" for one in text[:characters_max])
    return escaped[:characters_max]
