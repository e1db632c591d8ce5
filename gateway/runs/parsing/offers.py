"""Bodies to offers: events that are valid by themselves, each with its record; only their place is not judged yet."""

from collections.abc import Sequence

import msgspec

from gateway.errors import Refused, SignatureInvalid
from gateway.http.access import speaker
from gateway.http.bodies import LINES, MediaType
from gateway.http.child.refusals import Refusal
from gateway.kafka.records import Outgoing, Stamp
from gateway.objects.uploads import Upload
from gateway.runs.parsing.bodies import parse_event, split_lines, split_list
from gateway.runs.sealing import seal
from schemas.access.credentials import Credentials, Principal
from schemas.errors import Invalid
from schemas.objects.references import is_large, reference_to
from schemas.runs.records import RunEvent
from schemas.runs.rules import agent_id_of
from schemas.runs.validity import signature_fault
from schemas.strictjson import NotJson


class Origin(msgspec.Struct, frozen=True, kw_only=True):
    """Where events come from: the run named in the path, who sends them, and what the gateway adds."""

    run_id: str
    principal: Principal
    stamp: Stamp


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """What of an event decides whether it may follow."""

    seq: int
    sha256: bytes
    idempotency_key: str | None


class Offer(msgspec.Struct, frozen=True, kw_only=True):
    """An event that asks to follow, and its record."""

    event: Candidate
    record: Outgoing
    agent_id: str  # who is charged for it
    upload: Upload | None = None  # what is kept before the record is in the log


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """The events of a batch up to the first that is invalid, and why that one is."""

    offers: Sequence[Offer]
    event_count: int
    refusal: Refusal | None = None


def offer_of(text: bytes, origin: Origin, credentials: Credentials) -> Offer:
    """
    Judge the one event in *text*, but for its place in the run.

    Raises:
        NotJson, Invalid: see `parse_event`.
        Forbidden: the key may not speak for its agent.
        SignatureInvalid: it is not signed as that agent must.
    """
    parsed = parse_event(text, run_id=origin.run_id)
    document, meta = parsed.document, parsed.document["meta"]
    agent_id = agent_id_of(meta)
    if (fault := signature_fault(document, speaker(agent_id, origin.principal, credentials))) is not None:
        raise SignatureInvalid(fault)
    whole = RunEvent(
        tenant=origin.principal.tenant,
        run_id=origin.run_id,
        seq=document["seq"],
        t=document["t"],
        actor=document["actor"],
        type=document["type"],
        agent_id=agent_id,
        idempotency_key=meta.get("idempotency_key"),
        payload=parsed.payload,
        meta=parsed.meta,
        event_sha256=parsed.sha256,
    )
    candidate = Candidate(seq=whole.seq, sha256=whole.event_sha256, idempotency_key=whole.idempotency_key)
    event, upload = set_apart(whole)
    record = seal(event, part=event.seq, stamp=origin.stamp)
    return Offer(event=candidate, record=record, agent_id=agent_id, upload=upload)


def batch_of(text: bytes, media_type: MediaType, origin: Origin, credentials: Credentials) -> Batch:
    """
    Judge the events in *text*, a list or a document a line, each as `offer_of` does.

    Raises:
        NotJson, Invalid: it is no such list, or one of too many or none.
    """
    bodies = split_lines(text) if media_type in LINES else split_list(text)
    offers: list[Offer] = []
    for body in bodies:
        try:
            offers.append(offer_of(body, origin, credentials))
        except (Refused, Invalid, NotJson) as error:
            return Batch(offers=offers, event_count=len(bodies), refusal=Refusal.of(error))
    return Batch(offers=offers, event_count=len(bodies))


def set_apart(event: RunEvent) -> tuple[RunEvent, Upload | None]:
    """Return *event* as it goes to the log, and its payload if that does not go with it. Digests what is large."""
    if event.payload is None or not is_large(event.payload):
        return event, None
    content = event.payload.encode()
    reference = reference_to(content, tenant=event.tenant, run_id=event.run_id)
    referring = msgspec.structs.replace(event, payload=None, payload_ref=reference)
    return referring, Upload(key=reference.key, content=content)
