"""
Counts under names that others choose, and so bounded: in how many names there are, and in how long one is.

Why: a run may give each of a million events a type of its own, and a payload's `usage` may have names of megabytes. A
trace record of all of them would not fit into its topic, and persistence would wait before it for ever.
"""

from collections import Counter
from dataclasses import dataclass, field

NAMES_MAX = 500
NAME_CHARACTERS_MAX = 128
OTHERS = "*"

# What a 64-bit reader of a trace record takes (Postgres bigint, Avro long). A sum beyond stands at the bound.
COUNT_MIN, COUNT_MAX = -(2**63), 2**63 - 1


@dataclass(slots=True)
class NamedCounts:
    """Counts by name; once there are `NAMES_MAX` names, any other name counts under `OTHERS`."""

    _counts: Counter[str] = field(default_factory=Counter)
    _others: int = 0

    def add(self, name: str, count: int = 1) -> None:
        """Count *count* more under *name*."""
        known = name in self._counts or (len(self._counts) < NAMES_MAX and len(name) <= NAME_CHARACTERS_MAX)
        if known and name != OTHERS:
            self._counts[name] += count
        else:
            self._others += count

    def shown(self) -> dict[str, int]:
        """Return the counts by name, sorted; at the end those of all other names."""
        others = {OTHERS: bounded(self._others)} if self._others else {}
        return {name: bounded(count) for name, count in sorted(self._counts.items())} | others


def bounded(count: int) -> int:
    """Return *count*, or the bound that it exceeds."""
    return max(COUNT_MIN, min(COUNT_MAX, count))
