"""Exports to start a test from, and the gateway that they are read from."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import msgspec

from deploy.errors import CommandFailed
from deploy.export.write import export
from schemas.canonical import event_digest
from schemas.runs import chain
from schemas.runs.views import EventView, RunView
from tests.support import builders

NOW = datetime(2026, 1, 2, tzinfo=UTC)
# Numbers and blanks that a decoder would change.
VERBATIM = '{ "price" : 1.00,\n "big": 18446744073709551615, "e":1E5, "text":"caf\\u00e9 é\u2028" }'


def shown(event: dict[str, Any], payload: str | None = None) -> EventView:
    """Return *event* as the gateway shows it, its *payload* given as text."""
    text = json.dumps(event["payload"]) if payload is None else payload
    whole = event | {"payload": json.loads(text)}
    return EventView(
        seq=event["seq"],
        t=event["t"],
        actor=event["actor"],
        type=event["type"],
        agent_id="plain-agent",
        payload_ref=msgspec.Raw(b"null"),
        received_at=NOW,
        stored_at=NOW,
        payload=msgspec.Raw(text.encode()),
        meta=msgspec.Raw(json.dumps(event["meta"]).encode()),
        event_sha256=event_digest(whole).hex(),
        wal_id=f"run.events/3/{1000 + event['seq']}",
    )


def run(count: int, **changes: Any) -> RunView:
    """Return a finalized run of *count* events."""
    fields: dict[str, Any] = {
        "run_id": builders.RUN,
        "agent_id": "plain-agent",
        "status": "succeeded",
        "event_count": count,
        "last_seq": count,
        "declared_event_count": count,
        "started_at": NOW,
        "updated_at": NOW,
        "finalized_at": NOW,
    }
    return RunView(**(fields | changes))


@dataclass
class MemorySource:
    """One run in memory; `states` are what it is at each look, the last one for ever."""

    stored: Sequence[EventView]
    states: list[RunView]
    changes: dict[str, Any] = field(default_factory=dict)  # of its trace record
    integrity: dict[str, Any] = field(default_factory=lambda: {"complete": True})

    def run(self, run_id: str) -> RunView:
        """Return the next state."""
        assert run_id == builders.RUN
        return self.states.pop(0) if len(self.states) > 1 else self.states[0]

    def events(self, run_id: str) -> Iterator[EventView]:
        """Yield what is stored."""
        assert run_id == builders.RUN
        yield from self.stored

    def need(self, run_id: str, rest: str) -> bytes:
        """Return the trace record, or the integrity."""
        assert run_id == builders.RUN
        if rest != "/trace":
            return json.dumps(self.integrity).encode()
        if self.states[0].finalized_at is None:
            raise CommandFailed("no trace record")
        head = chain.head((each.seq, bytes.fromhex(each.event_sha256)) for each in self.stored)
        trace = {"status": self.states[0].status, "event_count": len(self.stored), "chain_head": head.hex()}
        return json.dumps(trace | self.changes, indent=1).encode()


def source(seqs: Sequence[int] = (1, 2, 3, 4), **changes: Any) -> MemorySource:
    """Return a gateway with a run of these events, signed from the second on."""
    events = [shown(builders.event(seqs[0]), VERBATIM)] if seqs else []
    events += [shown(builders.signed(builders.event(seq))) for seq in seqs[1:]]
    return MemorySource(events, [run(len(seqs), **changes)])


def lines(seqs: Sequence[int] = (1, 2, 3, 4), **changes: Any) -> list[bytes]:
    """Return the export of such a run."""
    return list(export(source(seqs, **changes), builders.RUN, now=NOW))
