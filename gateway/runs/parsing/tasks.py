"""What bodies are parsed as: an event, a batch, a finalization, an environment."""

import hashlib
from collections.abc import Mapping
from typing import Any

import msgspec

from gateway.http.bodies import Body
from gateway.runs.parsing.bodies import FinalizationBody, parse_environment, parse_finalization
from gateway.runs.parsing.offers import Batch, Offer, Origin, batch_of, offer_of
from schemas.access.credentials import Credentials


class ParseEvent(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Parse one event. Raises as `offer_of`."""

    body: Body
    origin: Origin

    def result(self, text: bytes, credentials: Credentials) -> Offer:
        """Return the event and its record."""
        return offer_of(text, self.origin, credentials)


class ParseBatch(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Parse a batch, up to the first event that is not valid. Raises as `batch_of`."""

    body: Body
    origin: Origin

    def result(self, text: bytes, credentials: Credentials) -> Batch:
        """Return the events that are valid."""
        return batch_of(text, self.body.media_type, self.origin, credentials)


class ParseFinalization(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Parse the end of a run. Raises as `parse_finalization`."""

    body: Body

    def result(self, text: bytes, _credentials: Credentials) -> FinalizationBody:
        """Return what the client says of it."""
        return parse_finalization(text)


class Environment(msgspec.Struct, frozen=True, kw_only=True):
    """A snapshot as it was sent, and the digest of its canonical form."""

    text: str
    sha256: bytes


class ParseEnvironment(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Parse a snapshot of the environment. Raises as `parse_environment`."""

    body: Body

    def result(self, text: bytes, _credentials: Credentials) -> Environment:
        """Return the snapshot."""
        snapshot, canonical = parse_environment(text)
        return Environment(text=snapshot, sha256=hashlib.sha256(canonical).digest())


BODY_TASKS: Mapping[type[Any], type[Any]] = {
    ParseEvent: Offer,
    ParseBatch: Batch,
    ParseFinalization: FinalizationBody,
    ParseEnvironment: Environment,
}
"""The type of each task, and that of its result."""
