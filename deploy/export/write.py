"""Export of a run: its pages are read, each event is checked, and the lines of a file are returned."""

from collections.abc import Iterator
from datetime import datetime
from typing import Protocol

import msgspec
from msgspec import UNSET

from deploy.errors import CommandFailed
from deploy.export.format import ClosingLine, EventLine, Header, Sealer
from schemas import strictjson
from schemas.canonical import event_digest
from schemas.errors import Invalid
from schemas.runs.views import EventView, RunView

NOTHING = msgspec.Raw(b"null")


class Source(Protocol):
    """The source of a run: `deploy.export.gateway.Gateway`."""

    def run(self, run_id: str) -> RunView:
        """Return the run as it is now."""

    def events(self, run_id: str) -> Iterator[EventView]:
        """Yield its events by seq, payloads resolved."""

    def need(self, run_id: str, rest: str) -> bytes:
        """Return a JSON document of the run. Raises CommandFailed if it does not exist."""


class _Integrity(msgspec.Struct):
    wrong_partition: int | None = None


class _TraceHead(msgspec.Struct):
    chain_head: str
    event_count: int


def export(source: Source, run_id: str, *, now: datetime) -> Iterator[bytes]:
    """
    Yield the lines of the export, the header first.

    Raises:
        CommandFailed: the run does not exist, was removed or changes meanwhile, or an event cannot be shown as sent.
        NotReachable: the gateway is away.
    """
    run = source.run(run_id)
    if run.is_removed:
        raise CommandFailed(
            f"run {run_id} cannot be exported whole: retention removed {run.events_removed_count} of its events, the "
            f"last time at {run.events_removed_at:%Y-%m-%d %H:%M:%S %Z}, and {run.event_count} are stored; verify an "
            "earlier export with --head and the chain head that its integrity shows for the removal (`tidegate run "
            "show`)"
        )
    finalized = run.finalized_at is not None
    sealer = Sealer()
    yield sealer.line(Header(run_id=run.run_id, status=run.status, finalized=finalized, exported_at=now))
    for event in source.events(run_id):
        _check(event)
        yield sealer.line(
            EventLine(
                seq=event.seq,
                t=event.t,
                actor=event.actor,
                type=event.type,
                payload=event.payload,
                meta=event.meta,
                event_sha256=event.event_sha256,
                wal_id=event.wal_id,
                chain=sealer.follow(event.seq, event.event_sha256),
            )
        )
    trace = msgspec.Raw(source.need(run_id, "/trace")) if finalized else NOTHING
    integrity = msgspec.Raw(source.need(run_id, "/integrity"))
    _check_unchanged(run, source.run(run_id), sealer, trace, integrity)
    yield sealer.line(
        ClosingLine(
            event_count=sealer.event_count,
            chain_head=sealer.chain_head,
            finalized=finalized,
            trace=trace,
            integrity=integrity,
        )
    )


def _check(event: EventView) -> None:
    if event.payload_problem is not UNSET:
        raise CommandFailed(
            f"seq {event.seq} ({event.wal_id}): its payload in object storage is {event.payload_problem}"
        )
    try:
        sent = {
            "seq": event.seq,
            "t": event.t,
            "actor": event.actor,
            "type": event.type,
            "payload": strictjson.decode(bytes(event.payload).decode()),
            "meta": strictjson.decode(bytes(event.meta).decode()),
        }
    except (Invalid, strictjson.NotJson) as error:
        raise CommandFailed(f"seq {event.seq} ({event.wal_id}) is not stored as it was sent: {error}") from error
    if event_digest(sent).hex() != event.event_sha256:
        raise CommandFailed(f"seq {event.seq} ({event.wal_id}) is not stored as it was sent: its digest is another")


def _check_unchanged(
    before: RunView, after: RunView, sealer: Sealer, trace: msgspec.Raw, integrity: msgspec.Raw
) -> None:
    """See that the file is one state of the run: events by pages are several looks."""
    if (after.status, after.finalized_at) != (before.status, before.finalized_at) or after.is_removed:
        raise CommandFailed(f"run {before.run_id} changed while it was exported ({after.status} now): export it again")
    if trace is NOTHING:
        return
    summed = msgspec.json.decode(trace, type=_TraceHead)
    if (summed.chain_head, summed.event_count) != (sealer.chain_head, sealer.event_count):
        text = f"{sealer.event_count} events of run {before.run_id} are stored, and its trace record is of "
        text += f"{summed.event_count} events or of other ones"
        if misplaced := msgspec.json.decode(integrity, type=_Integrity).wrong_partition:
            raise CommandFailed(
                f"{text}: {misplaced} of its records are in another partition than their key's, so that its end was "
                f"handled before them; `tidegate replay persistence --run {before.run_id} --overwrite` sums it up "
                "again; set the partitioner of its producer to murmur2"
            )
        raise CommandFailed(f"{text}: a replay may be adding to it; export it again, and look at its integrity")
