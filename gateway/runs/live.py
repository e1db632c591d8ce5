"""
Cursors that open a websocket behind a page of events, without a gap.

A cursor is taken before the page is read. An event that persistence had committed past by then is either on the page
or never shown. The committed offset is up to a second old, so the websocket may repeat the last events of
the page. The position of the run's last stored event would not do: a replay stores events at positions that persistence
has yet to reach, and the events between would be missed. Trace records are followed from an earlier end of their topic,
which is as safe.
"""

from contextlib import suppress

from gateway.errors import LogUnavailable, QueueFull
from gateway.kafka.followers import GroupFollower
from gateway.kafka.periodic_reader import PeriodicReader
from gateway.kafka.reader import Log
from schemas.kafka import cursors
from schemas.kafka.partitioner import partition_of
from schemas.runs.topics import RUN_EVENTS, RUN_TRACES, trace_key


class LiveCursors(PeriodicReader):
    """A source of cursors from regular lookups; an async context manager."""

    def __init__(self, *, log: Log, persistence: GroupFollower) -> None:
        """Start without cursors; the first refresh provides them."""
        self._log = log
        self._persistence = persistence
        self._ids: tuple[str, str] | None = None  # of the events, of the traces
        self._trace_ends: dict[int, int] = {}

    def cursor(self, tenant: str, run_id: str) -> str | None:
        """
        Return the cursor of a run's websocket, for a page that is read after this; None while the log does not tell.
        """
        if self._ids is None:
            return None
        try:
            progress = self._persistence.progress()
        except LogUnavailable:
            return None
        if not progress or not self._trace_ends:
            return None
        events = partition_of(run_id.encode(), len(progress))
        traces = partition_of(trace_key(tenant, run_id), len(self._trace_ends))
        of_events, of_traces = self._ids
        return cursors.encode(
            {of_events: {events: progress[events].committed or 0}, of_traces: {traces: self._trace_ends[traces]}}
        )

    async def refresh(self) -> None:
        """Read once; where the log does not answer, what was seen last is still true."""
        with suppress(LogUnavailable, QueueFull):
            events, traces = await self._log.topic_id(RUN_EVENTS.name), await self._log.topic_id(RUN_TRACES.name)
            edges = await self._log.edges(RUN_TRACES.name)
            self._ids = None if events is None or traces is None else (events, traces)
            self._trace_ends = {partition: each.end for partition, each in edges.items()}
