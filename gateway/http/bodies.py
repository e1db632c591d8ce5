"""Bodies of requests: the formats that are taken, and the JSON text that each stands for."""

from collections.abc import Mapping, Sequence
from enum import StrEnum

import msgspec

from gateway.errors import EventTooLarge, UnsupportedMediaType
from gateway.http import toon
from gateway.http.codings import Coding, inflate

# A larger body is not judged on the event loop: the worst of this size take 10 to 20 ms, and 10 MiB many seconds.
SMALL_BYTES_MAX = 16 * 1024
GIVEN_SHOWN_MAX = 100  # characters of a header, in an error message
TOON_SMALL_BYTES_MAX = 4 * 1024  # some milliseconds; its decoder is Python


class MediaType(StrEnum):
    """The media types of request bodies."""

    JSON = "application/json"
    TOON = "text/toon"
    APPLICATION_TOON = "application/toon"
    NDJSON = "application/x-ndjson"
    APPLICATION_NDJSON = "application/ndjson"
    JSONL = "application/jsonl"
    TEXT = "text/plain"  # a text; or JSON of a web page's sendBeacon, which can send no other type to another origin
    MARKDOWN = "text/markdown"
    CLOUDEVENT = "application/cloudevents+json"
    CLOUDEVENTS = "application/cloudevents-batch+json"


TOONS = (MediaType.TOON, MediaType.APPLICATION_TOON)
LINES = (MediaType.NDJSON, MediaType.APPLICATION_NDJSON, MediaType.JSONL)  # a JSON document a line
DOCUMENTS = (MediaType.JSON, *TOONS)  # the forms of one document
BATCHES = (*DOCUMENTS, *LINES)  # the forms of a list of documents
TEXTS = (MediaType.TEXT, MediaType.MARKDOWN)


class Body(msgspec.Struct, frozen=True, kw_only=True):
    """A body as it came, of a format that is taken."""

    received: bytes
    media_type: MediaType
    coding: Coding | None  # None: not packed
    bytes_max: int  # holds as it is received, once it is inflated, and as JSON

    @property
    def is_toon(self) -> bool:
        """Return True if it must be translated first."""
        return self.media_type in TOONS

    def text(self) -> bytes:
        """Return what was sent, inflated. Blocks unless it is small. Raises as `inflate`."""
        return self.received if self.coding is None else inflate(self.received, self.coding, bytes_max=self.bytes_max)

    def json(self) -> bytes:
        """
        Return the JSON text that was sent or stood for. Blocks unless it is small. Raises as `text` and `json_of`.
        """
        text = self.text()
        return toon.json_of(text, bytes_max=self.bytes_max) if self.is_toon else text

    def if_small(self, small_bytes_max: int = SMALL_BYTES_MAX) -> "Body | None":
        """
        Return the body, inflated, where it is small enough to be judged at once on an event loop; None: it is not.
        """
        if self.is_toon:
            small_bytes_max = TOON_SMALL_BYTES_MAX
        if len(self.received) > small_bytes_max:
            return None
        if self.coding is None:
            return self
        if self.coding is Coding.BR:  # it fills its window, up to 16 MiB, before it gives out a first chunk
            return None
        try:
            inflated = inflate(self.received, self.coding, bytes_max=min(small_bytes_max, self.bytes_max))
        except EventTooLarge:
            return None
        return msgspec.structs.replace(self, received=inflated, coding=None)


def media_type_of(given: str, taken: Sequence[MediaType]) -> MediaType:
    """Return which of *taken* the Content-Type *given* names. Raises UnsupportedMediaType: none of them."""
    found = _MEDIA_TYPES.get(given)
    if found is None:
        name, *parameters = given.split(";")
        found = _MEDIA_TYPES.get(name.strip().lower())
        if not all(_says_utf8(parameter) for parameter in parameters if parameter.strip()):
            found = None
    if found is None or found not in taken:
        shown = repr(given[:GIVEN_SHOWN_MAX]) if given else "missing"
        raise UnsupportedMediaType(f"Content-Type is {shown}; send {' or '.join(taken)}, in UTF-8")
    return found


def names_toon(given: str) -> bool:
    """Return True if the Content-Type *given* is TOON's."""
    return given.partition(";")[0].strip().lower() in TOONS


def _says_utf8(parameter: str) -> bool:
    name, _, value = parameter.partition("=")
    return name.strip().lower() == "charset" and value.strip().strip('"').lower() in _UTF8


_MEDIA_TYPES: Mapping[str, MediaType] = {media_type.value: media_type for media_type in MediaType}
_UTF8 = ("utf-8", "utf8")  # the registered name, and what many clients write
