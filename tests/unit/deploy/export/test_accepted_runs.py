"""Whatever a run is made of: what was accepted is stored, summed up, exported, and verified from its file alone."""

import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.export.verify import VerificationResult, verify
from deploy.export.write import export
from gateway.runs.integrity import integrity_view
from gateway.runs.parsing.bodies import parse_event
from processors.runs.persistence.trace import StoredEvent, Trace
from schemas.errors import Invalid
from schemas.runs.records import RunEvent
from schemas.runs.rules import SEQ_MAX
from schemas.runs.validity import check_direct
from schemas.runs.views import EventView, RunView
from tests.support import builders
from tests.unit.deploy.export.exports import NOW, run
from tests.unit.gateway.runs.test_integrity import WHOLE


def nested(depth: int, leaf: Any = 0) -> Any:
    for _ in range(depth):
        leaf = [leaf]
    return leaf


NUMBERS = (
    st.integers(-(2**63), 2**64 - 1)
    | st.sampled_from([2**64 - 1, 2**63, -(2**63)])
    | st.floats(allow_nan=False, allow_infinity=False)
)
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(TEXTS | st.sampled_from(["usage", "id"]), inner, max_size=4)
    ),
    max_leaves=12,
)
USAGES = st.dictionaries(st.sampled_from(["n", "*", "input_tokens", "of"]), NUMBERS | VALUES, max_size=4)
PAYLOADS = (
    VALUES
    | st.fixed_dictionaries({"usage": USAGES, "call_id": st.sampled_from(["a", 7, None])})
    | st.builds(nested, st.integers(58, 66))
)
MOMENTS = st.sampled_from(
    ["2025-12-05T10:00:00Z", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999999Z", "1969-12-31T23:59:59.5+01:00"]
)
EVENTS = st.lists(
    st.fixed_dictionaries(
        {
            "t": MOMENTS,
            "type": st.sampled_from(["tool_call", "tool_result", "error", "message"]),
            "payload": PAYLOADS,
            "more": st.none() | VALUES | st.builds(nested, st.integers(58, 66)),
        }
    ),
    max_size=6,
)
SEQS = st.sets(st.integers(1, 9) | st.sampled_from([SEQ_MAX, SEQ_MAX - 1]) | st.integers(1, SEQ_MAX), min_size=6)
SPELLINGS = st.sampled_from([{}, {"ensure_ascii": False}, {"indent": 1}, {"separators": (",", ":")}])


def sent(seq: int, event: dict[str, Any]) -> dict[str, Any]:
    meta = {} if event["more"] is None else {"more": event["more"]}
    fields = {name: event[name] for name in ("t", "type", "payload")}
    return builders.event(seq, meta=meta, **fields)


def direct(event: dict[str, Any], spelling: dict[str, Any]) -> RunEvent | None:
    """Return the record of *event* as a direct producer writes it; None if it is not accepted."""
    texts = {name: json.dumps(event[name], **spelling) for name in ("payload", "meta")}
    record = builders.run_event(event, **texts)
    key, credentials = builders.RUN.encode(), builders.credentials(allow_unsigned_direct=True)
    return record if check_direct(record, key=key, credentials=credentials) is None else None


def posted(event: dict[str, Any], spelling: dict[str, Any]) -> RunEvent | None:
    """Return the record of *event* as the gateway writes it; None if it is not accepted."""
    try:
        parsed = parse_event(json.dumps(event, **spelling).encode(), run_id=builders.RUN)
    except Invalid:
        return None
    return builders.run_event(event, payload=parsed.payload, meta=parsed.meta, event_sha256=parsed.sha256)


@dataclass
class Stored:
    """What persistence made of the records, as the gateway shows it."""

    shown: list[EventView]
    trace: bytes
    integrity: bytes

    def run(self, run_id: str) -> RunView:
        return run(len(self.shown))

    def events(self, run_id: str) -> Iterator[EventView]:
        yield from self.shown

    def need(self, run_id: str, rest: str) -> bytes:
        return self.trace if rest == "/trace" else self.integrity


def store(records: Sequence[RunEvent]) -> Stored:
    trace = Trace()
    for record in records:
        trace.add(
            StoredEvent(
                seq=record.seq,
                type=record.type,
                actor=record.actor,
                happened_at=datetime.fromisoformat(record.t).astimezone(UTC),
                payload=record.payload,
                event_sha256=record.event_sha256,
            )
        )
    text = trace.document(status="succeeded", declared_event_count=None, duplicates=0, rejected=0)
    gaps = json.loads(text)["missing"]
    row = WHOLE | {"missing_count": gaps["count"], "missing_range_count": 1, "missing_ranges": gaps["ranges"]}
    return Stored(
        shown=[_shown(record) for record in records],
        trace=text.encode(),
        integrity=msgspec.json.encode(integrity_view(builders.RUN, row | {"event_count": len(records)})),
    )


def _shown(record: RunEvent) -> EventView:
    assert record.payload is not None
    return EventView(
        agent_id=record.agent_id,
        payload_ref=msgspec.Raw(b"null"),
        received_at=NOW,
        stored_at=NOW,
        seq=record.seq,
        t=record.t,
        actor=record.actor,
        type=record.type,
        payload=msgspec.Raw(record.payload.encode()),
        meta=msgspec.Raw(record.meta.encode()),
        event_sha256=record.event_sha256.hex(),
        wal_id=f"run.events/0/{record.seq}",
    )


def verified(records: Sequence[RunEvent]) -> VerificationResult:
    stored = store(records)
    file = b"".join(export(stored, builders.RUN, now=NOW))
    return verify(io.BytesIO(file), head=json.loads(stored.trace)["chain_head"])


@given(events=EVENTS, seqs=SEQS, spelling=SPELLINGS)
def test_every_accepted_run_is_verified_from_its_export(
    events: list[dict[str, Any]], seqs: set[int], spelling: dict[str, Any]
) -> None:
    """The gateway and the log's door accept the same events, and what they accept proves itself."""
    numbered = [sent(seq, event) for seq, event in zip(sorted(seqs), events, strict=False)]
    by_door = [[accept(event, spelling) for event in numbered] for accept in (direct, posted)]
    assert [record is None for record in by_door[0]] == [record is None for record in by_door[1]]
    for door in by_door:
        records = [record for record in door if record is not None]
        assert verified(records).event_count == len(records)


@pytest.mark.parametrize("payload", [nested(63), nested(64), {"usage": {"n": 2**64 - 1, "*": -(2**63)}}])
def test_what_is_stored_already_is_verified_too(payload: Any) -> None:
    """A payload of 64 levels was accepted once; such a run must still prove itself."""
    records = [builders.run_event(builders.event(seq, payload=payload)) for seq in (1, 2)]
    assert verified(records).event_count == 2
