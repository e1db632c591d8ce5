"""
A place in the live streams: what a websocket or a page of events gives, and a websocket takes to go on from there.

It names the topics by Kafka's own ids, so that a place in a topic that was deleted and created again is no place in its
successor, and the next offset of each partition that it covers. Opaque to clients; about 90 characters for a run.
"""

import base64
import binascii
import re
from collections.abc import Mapping
from typing import Annotated

import msgspec

# In a URL's query it must leave room for the rest of the line: enough for some 400 partitions.
CURSOR_CHARACTERS_MAX = 4096
TOPICS_MAX = 2

_TOPIC_ID = re.compile(r"[A-Za-z0-9_-]{22}\Z")
_Partition = Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]
_Offset = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]

# By topic id and partition: the next offset to broadcast.
Cursor = Mapping[str, Mapping[int, int]]


class CursorInvalid(ValueError):
    """A cursor that we did not issue. Answer 400."""


_DECODER = msgspec.msgpack.Decoder(dict[str, dict[_Partition, _Offset]])


def topic_id(text: str) -> str:
    """Return a topic's id as Kafka spells it, whose client writes it in the other alphabet of base64."""
    return text.rstrip("=").replace("+", "-").replace("/", "_")


def encode(cursor: Cursor) -> str:
    """Return the text of *cursor*; equal cursors have equal texts."""
    ordered = {topic: dict(sorted(places.items())) for topic, places in sorted(cursor.items())}
    return base64.urlsafe_b64encode(msgspec.msgpack.encode(ordered)).decode().rstrip("=")


def decode(text: str) -> Cursor:
    """
    Return the cursor that `encode` made *text* of.

    Raises:
        CursorInvalid: it made no such text.
    """
    if len(text) > CURSOR_CHARACTERS_MAX:
        raise CursorInvalid(f"more than {CURSOR_CHARACTERS_MAX} characters")
    try:
        cursor = _DECODER.decode(base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True))
    except (binascii.Error, msgspec.DecodeError, ValueError) as error:
        raise CursorInvalid("no cursor that a stream or a page has given") from error
    if len(cursor) > TOPICS_MAX or not all(map(_TOPIC_ID.match, cursor)) or encode(cursor) != text:
        raise CursorInvalid("no cursor that a stream or a page has given")
    return cursor
