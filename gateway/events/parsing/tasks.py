"""Parsing tasks for events in our own form, in the plain form of `POST /events`, as CloudEvents, or as calls."""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any

import msgspec

from gateway.events.parsing import api, cloudevents, plain, segment
from gateway.events.parsing.prepared import (
    PreparedUserEvent,
    PreparedUserEvents,
    Translate,
    UserEventOrigin,
    prepare,
    prepare_all,
)
from gateway.http.bodies import LINES, Body
from gateway.http.lists import split_lines, split_list
from schemas.access.credentials import Credentials
from schemas.events.rules import BATCH_EVENTS_MAX


class Form(StrEnum):
    """The form of an event in a request."""

    API = "api"
    PLAIN = "plain"
    CLOUDEVENT = "cloudevent"


_TRANSLATORS: Mapping[Form, Translate] = {
    Form.API: api.translate,
    Form.PLAIN: plain.translate,
    Form.CLOUDEVENT: cloudevents.translate,
}


class ParseUserEvent(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A task that parses one event. Raises as the translator of its form, and as `prepare`."""

    body: Body
    form: Form
    origin: UserEventOrigin

    def result(self, text: bytes, _credentials: Credentials) -> PreparedUserEvent:
        """Return the event and its record."""
        return prepare(_TRANSLATORS[self.form](text), self.origin)


class ParseBinaryEvent(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A task that parses a CloudEvent in binary mode: its attributes came as headers."""

    body: Body
    attributes: Mapping[str, str]
    content_type: str
    origin: UserEventOrigin

    def result(self, text: bytes, _credentials: Credentials) -> PreparedUserEvent:
        """Return the event and its record."""
        return prepare(cloudevents.translate_binary(text, self.attributes, self.content_type), self.origin)


class ParseUserEvents(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A task that parses a batch; each event is valid or refused by itself."""

    body: Body
    form: Form
    origin: UserEventOrigin

    def result(self, text: bytes, _credentials: Credentials) -> PreparedUserEvents:
        """
        Return the events of a list, or of a document a line.

        Raises:
            NotJson, Invalid: it is no such list, or one of too many or none.
        """
        if self.body.media_type in LINES:
            bodies: Sequence[bytes] = split_lines(text, count_max=BATCH_EVENTS_MAX)
        else:
            bodies = split_list(api.list_in(text), count_max=BATCH_EVENTS_MAX)
        return prepare_all(bodies, _TRANSLATORS[self.form], self.origin)


class ParseSegmentCalls(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A task that parses Segment's calls: a batch, or one of the type that its address names."""

    body: Body
    call_type: segment.CallType | None  # None: a batch
    origin: UserEventOrigin

    def result(self, text: bytes, _credentials: Credentials) -> PreparedUserEvents:
        """Return the events. Raises as `segment.calls_in`."""
        return prepare_all(segment.calls_in(text, self.call_type), segment.translator(self.call_type), self.origin)


BODY_TASKS: Mapping[type[Any], type[Any]] = {
    ParseUserEvent: PreparedUserEvent,
    ParseBinaryEvent: PreparedUserEvent,
    ParseUserEvents: PreparedUserEvents,
    ParseSegmentCalls: PreparedUserEvents,
}
"""The type of each task, and that of its result."""
