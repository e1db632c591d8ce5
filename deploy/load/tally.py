"""The count of a load: what was sent, what it became, how long it took."""

from array import array
from collections import Counter
from dataclasses import dataclass, field

PERCENTILES = (50, 90, 99)
DETAIL_CHARACTERS_MAX = 200


@dataclass(slots=True, kw_only=True)
class Tally:
    """The shared counters of all workers; plain numbers suffice in one event loop."""

    sent: int = 0  # events, however often each was tried
    accepted: int = 0  # answered 202
    duplicates: int = 0  # of these, in the log before the attempt that was answered
    refused: int = 0
    in_doubt: int = 0
    unsent: int = 0  # asked for, but stopped before or behind a lost event of their run
    backpressure: int = 0  # attempts answered 429
    errors: Counter[str] = field(default_factory=Counter)  # attempts that failed otherwise, by code
    details: dict[str, str] = field(default_factory=dict)  # what the first of each code said
    latencies_s: "array[float]" = field(default_factory=lambda: array("d"))  # of attempts answered 202

    def count_error(self, code: str, detail: str) -> None:
        """Count an attempt that failed."""
        self.errors[code] += 1
        self.details.setdefault(code, detail[:DETAIL_CHARACTERS_MAX])

    def summary(self, duration_s: float) -> dict[str, object]:
        """Return everything counted, as JSON shows it."""
        return {
            "sent": self.sent,
            "accepted": self.accepted,
            "duplicates": self.duplicates,
            "refused": self.refused,
            "in_doubt": self.in_doubt,
            "unsent": self.unsent,
            "backpressure": self.backpressure,
            "errors": dict(self.errors.most_common()),
            "details": self.details,
            "duration_s": round(duration_s, 3),
            "accepted_per_s": round(self.accepted / duration_s, 1) if duration_s else 0.0,
            "latency_ms": self._latencies_ms(),
        }

    def _latencies_ms(self) -> dict[str, float]:
        """Return percentiles by nearest rank; empty if nothing was answered 202."""
        ordered = sorted(self.latencies_s)
        if not ordered:
            return {}
        ranks = {f"p{percent}": -(-len(ordered) * percent // 100) - 1 for percent in PERCENTILES}
        return {name: round(ordered[rank] * 1000, 2) for name, rank in {**ranks, "max": -1}.items()}
