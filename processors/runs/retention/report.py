"""The report of what a pass removed, or would remove."""

from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from processors.runs.retention.rules import Hold


@dataclass(slots=True)
class TenantCounts:
    """Counts of what was removed for one tenant."""

    runs: int = 0
    events: int = 0
    rejected: int = 0
    objects: int = 0
    bytes: int = 0  # as stored: payloads and metas compressed, rejected records and objects whole


class Report(msgspec.Struct, kw_only=True):
    """One pass, as `python -m processors maintenance --once` prints it."""

    dry_run: bool
    tenants: dict[str, TenantCounts] = msgspec.field(default_factory=dict)
    held_runs: int = 0  # old enough, and a group has yet to pass them
    held_rejected: int = 0
    held_objects: str | None = None  # why none was looked at; None: they were


Removed = Callable[[str, int], None]  # what (runs, events, rejected, objects, bytes), and how many


@dataclass(slots=True, kw_only=True)
class Count:
    """A counter that fills a report and logs each removal at once, since a pass may break off."""

    report: Report
    removed: Removed

    def run(self, tenant: str, *, events: int, size_bytes: int) -> None:
        """Count a run whose events were removed, so many."""
        gone = self._of(tenant)
        gone.runs += 1
        gone.events += events
        gone.bytes += size_bytes
        self._tell(runs=1, events=events, bytes=size_bytes)

    def rejected(self, tenant: str, size_bytes: int) -> None:
        """Count a rejected record that was removed."""
        gone = self._of(tenant)
        gone.rejected += 1
        gone.bytes += size_bytes
        self._tell(rejected=1, bytes=size_bytes)

    def object(self, tenant: str, size_bytes: int) -> None:
        """Count an object that was removed."""
        gone = self._of(tenant)
        gone.objects += 1
        gone.bytes += size_bytes
        self._tell(objects=1, bytes=size_bytes)

    def holds(self, kind: str, hold: Hold | None) -> None:
        """Count something that stays."""
        if hold is Hold.UNPASSED and kind == "runs":
            self.report.held_runs += 1
        elif hold is Hold.UNPASSED:
            self.report.held_rejected += 1

    def _tell(self, **removed: int) -> None:
        if not self.report.dry_run:
            for what, number in removed.items():
                self.removed(what, number)

    def _of(self, tenant: str) -> TenantCounts:
        return self.report.tenants.setdefault(tenant, TenantCounts())
