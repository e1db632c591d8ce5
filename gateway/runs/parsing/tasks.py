"""Parsing tasks for an event, a batch, a finalization and an environment."""

import hashlib
from collections.abc import Mapping
from typing import Any

import msgspec

from gateway.http.bodies import Body
from gateway.runs.parsing.bodies import FinalizationBody, parse_environment, parse_finalization
from gateway.runs.parsing.prepared import Origin, PreparedBatch, PreparedEvent, prepare, prepare_batch
from schemas.access.credentials import Credentials


class ParseEvent(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A task that parses one event. Raises as `prepare`."""

    body: Body
    origin: Origin

    def result(self, text: bytes, credentials: Credentials) -> PreparedEvent:
        """Return the event and its record."""
        return prepare(text, self.origin, credentials)


class ParseBatch(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A task that parses a batch, up to the first invalid event. Raises as `prepare_batch`."""

    body: Body
    origin: Origin

    def result(self, text: bytes, credentials: Credentials) -> PreparedBatch:
        """Return the events that are valid."""
        return prepare_batch(text, self.body.media_type, self.origin, credentials)


class ParseFinalization(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A task that parses the end of a run. Raises as `parse_finalization`."""

    body: Body

    def result(self, text: bytes, _credentials: Credentials) -> FinalizationBody:
        """Return what the client says of it."""
        return parse_finalization(text)


class Environment(msgspec.Struct, frozen=True, kw_only=True):
    """A snapshot as it was sent, and the digest of its canonical form."""

    text: str
    sha256: bytes


class ParseEnvironment(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A task that parses a snapshot of the environment. Raises as `parse_environment`."""

    body: Body

    def result(self, text: bytes, _credentials: Credentials) -> Environment:
        """Return the snapshot."""
        snapshot, canonical = parse_environment(text)
        return Environment(text=snapshot, sha256=hashlib.sha256(canonical).digest())


BODY_TASKS: Mapping[type[Any], type[Any]] = {
    ParseEvent: PreparedEvent,
    ParseBatch: PreparedBatch,
    ParseFinalization: FinalizationBody,
    ParseEnvironment: Environment,
}
"""The type of each task, and that of its result."""
