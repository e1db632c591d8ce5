"""
Preparation of events from bodies: each is valid by itself and has its record; only its place in the run is undecided.
"""

from collections.abc import Sequence

import msgspec

from gateway.errors import HttpError, SignatureInvalid
from gateway.http.access import agent_for
from gateway.http.bodies import LINES, MediaType
from gateway.http.child.refusals import Refusal
from gateway.http.lists import split_lines, split_list
from gateway.kafka.records import OutgoingRecord, Stamp
from gateway.objects.uploads import Upload
from gateway.runs.parsing.bodies import BATCH_EVENTS_MAX, parse_event
from gateway.runs.sealing import seal
from schemas.access.credentials import Credentials, Principal
from schemas.errors import Invalid
from schemas.objects.references import is_large, reference_to
from schemas.runs.records import RunEvent
from schemas.runs.rules import agent_id_of
from schemas.runs.validity import signature_fault
from schemas.strictjson import NotJson


class Origin(msgspec.Struct, frozen=True, kw_only=True):
    """The origin of events: the run named in the path, the sender, and what the gateway adds."""

    run_id: str
    principal: Principal
    stamp: Stamp


class EventIdentity(msgspec.Struct, frozen=True, kw_only=True):
    """The part of an event that decides whether it may follow."""

    seq: int
    sha256: bytes
    idempotency_key: str | None


class PreparedEvent(msgspec.Struct, frozen=True, kw_only=True):
    """A valid event whose place in the run is not decided yet, and its record."""

    identity: EventIdentity
    record: OutgoingRecord
    agent_id: str  # who is charged for it
    upload: Upload | None = None  # what is kept before the record is in the log


class PreparedBatch(msgspec.Struct, frozen=True, kw_only=True):
    """The events of a batch up to the first that is invalid, and why that one is."""

    events: Sequence[PreparedEvent]
    event_count: int
    refusal: Refusal | None = None


def prepare(text: bytes, origin: Origin, credentials: Credentials) -> PreparedEvent:
    """
    Return the event in *text*, validated except for its place in the run.

    Raises:
        NotJson, Invalid: see `parse_event`.
        Forbidden: the key may not speak for its agent.
        SignatureInvalid: it is not signed as that agent must.
    """
    parsed = parse_event(text, run_id=origin.run_id)
    document, meta = parsed.document, parsed.document["meta"]
    agent_id = agent_id_of(meta)
    if (fault := signature_fault(document, agent_for(agent_id, origin.principal, credentials))) is not None:
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
    identity = EventIdentity(seq=whole.seq, sha256=whole.event_sha256, idempotency_key=whole.idempotency_key)
    logged, upload = set_apart(whole)
    record = seal(logged, part=logged.seq, stamp=origin.stamp)
    return PreparedEvent(identity=identity, record=record, agent_id=agent_id, upload=upload)


def prepare_batch(text: bytes, media_type: MediaType, origin: Origin, credentials: Credentials) -> PreparedBatch:
    """
    Return the events in *text*, a list or a document a line, each as `prepare` does, up to the first that is not valid.

    Raises:
        NotJson, Invalid: it is no such list, or one of too many or none.
    """
    split = split_lines if media_type in LINES else split_list
    bodies = split(text, count_max=BATCH_EVENTS_MAX)
    events: list[PreparedEvent] = []
    for body in bodies:
        try:
            events.append(prepare(body, origin, credentials))
        except (HttpError, Invalid, NotJson) as error:
            return PreparedBatch(events=events, event_count=len(bodies), refusal=Refusal.of(error))
    return PreparedBatch(events=events, event_count=len(bodies))


def set_apart(event: RunEvent) -> tuple[RunEvent, Upload | None]:
    """Return *event* as it goes to the log, and its payload if that does not go with it. Digests what is large."""
    if event.payload is None or not is_large(event.payload):
        return event, None
    content = event.payload.encode()
    reference = reference_to(content, tenant=event.tenant, run_id=event.run_id)
    referring = msgspec.structs.replace(event, payload=None, payload_ref=reference)
    return referring, Upload(key=reference.key, content=content)
