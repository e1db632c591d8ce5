"""What is asked about a body: which of the four kinds it is to be."""

import hashlib
from typing import Protocol, TypeVar

import msgspec

from gateway.intake.bodies import Body
from gateway.intake.documents import FinalizationBody, parse_environment, parse_finalization
from gateway.intake.offers import Batch, Offer, Origin, batch_of, offer_of
from schemas.access.credentials import Credentials

Verdict = TypeVar("Verdict")
Verdict_co = TypeVar("Verdict_co", covariant=True)


class Question(Protocol[Verdict_co]):
    """A body, and what is to be made of it."""

    @property
    def body(self) -> Body:
        """The body as it came."""

    def verdict(self, text: bytes, credentials: Credentials) -> Verdict_co:
        """What the body is, given the JSON *text* that it stands for. Blocks unless that is small."""


class EventQuestion(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Is it a valid event? Raises as `offer_of`."""

    body: Body
    origin: Origin

    def verdict(self, text: bytes, credentials: Credentials) -> Offer:
        """The event and its record."""
        return offer_of(text, self.origin, credentials)


class BatchQuestion(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Which of its events are valid? Raises as `batch_of`."""

    body: Body
    origin: Origin

    def verdict(self, text: bytes, credentials: Credentials) -> Batch:
        """The events up to the first that is not."""
        return batch_of(text, self.body.media_type, self.origin, credentials)


class FinalizationQuestion(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """How did the run end? Raises as `parse_finalization`."""

    body: Body

    def verdict(self, text: bytes, _credentials: Credentials) -> FinalizationBody:
        """What the client says of it."""
        return parse_finalization(text)


class Environment(msgspec.Struct, frozen=True, kw_only=True):
    """A snapshot as it was sent, and the digest of its canonical form."""

    text: str
    sha256: bytes


class EnvironmentQuestion(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """What did the run run in? Raises as `parse_environment`."""

    body: Body

    def verdict(self, text: bytes, _credentials: Credentials) -> Environment:
        """The snapshot."""
        snapshot, canonical = parse_environment(text)
        return Environment(text=snapshot, sha256=hashlib.sha256(canonical).digest())


AnyQuestion = EventQuestion | BatchQuestion | FinalizationQuestion | EnvironmentQuestion
AnyVerdict = Offer | Batch | FinalizationBody | Environment

VERDICTS: dict[type[AnyQuestion], type[AnyVerdict]] = {
    EventQuestion: Offer,
    BatchQuestion: Batch,
    FinalizationQuestion: FinalizationBody,
    EnvironmentQuestion: Environment,
}
