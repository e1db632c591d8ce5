"""
A limit on dead letters: if too much of a topic is poison, the fault is ours, and the group stops.

Pure, one per partition. It decides before a dead letter is written, and it may be changed while the worker runs. A
worker that is stopped by it stays in its group and waits: restarting would only let another batch through.
"""

import sys
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

import msgspec

from schemas.kafka.topics import Group
from schemas.process.file_writing import read_failure
from schemas.process.settings import SettingsInvalid
from schemas.process.watched import WatchedFile


class DeadLetterLimit(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The amount of poison that is still attributed to its sender."""

    consecutive_max: int = 100  # dead letters in a row
    share_max: float = 0.5  # of the last records, 0 to 1
    share_over_records: int = 1000  # about so many records back; fewer are not judged by their share


# Of a replay, which writes no dead letters.
NO_LIMIT = DeadLetterLimit(consecutive_max=sys.maxsize, share_max=1.0)


class Limits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The limits file (TOML): `[dead_letters.GROUP]` with what differs from the defaults."""

    dead_letters: dict[str, DeadLetterLimit] = {}


def parse_limits(text: str) -> Limits:
    """
    Read the file's text.

    Raises:
        ValueError: no TOML, an unknown field, or a value of the wrong kind; says which.
    """
    return msgspec.convert(tomllib.loads(text), Limits)


@dataclass(slots=True)
class DeadLetterRatio:
    """The recent share of dead letters in one partition."""

    consecutive: int = 0
    dead: float = 0.0
    records: float = 0.0

    def admits(self, limit: DeadLetterLimit) -> bool:
        """Return True if one more dead letter is within *limit*."""
        if self.consecutive >= limit.consecutive_max:
            return False
        return self.records < limit.share_over_records or (self.dead + 1) / (self.records + 1) <= limit.share_max

    def dead_lettered(self, limit: DeadLetterLimit, *, counted: bool = False) -> None:
        """Count one dead letter; *counted*: among the records it is counted already, since it could be decoded."""
        self.consecutive += 1
        self.dead += 1
        self._count(0 if counted else 1, limit)

    def passed(self, count: int, limit: DeadLetterLimit, *, counted: int = 0) -> None:
        """Count *count* records that are no dead letters, of which *counted* are counted already."""
        if count:
            self.consecutive = 0
            self._count(count - counted, limit)

    def _count(self, count: int, limit: DeadLetterLimit) -> None:
        self.records += count
        # Halving both keeps the share and lets the past fade.
        while self.records > 2 * limit.share_over_records:
            self.records /= 2
            self.dead /= 2


def limit_in_force(path: Path | None, group: Group) -> Callable[[], DeadLetterLimit]:
    """Return the limit in force for *group*, as the limits file has it now; without a file, the defaults."""
    if path is None:
        return DeadLetterLimit
    try:
        watched = WatchedFile(path, parse_limits)
    except (OSError, ValueError) as error:
        raise SettingsInvalid(f"TIDEGATE_LIMITS: {read_failure(path, error)}") from error
    return lambda: watched.current(now_s=monotonic()).dead_letters.get(group.name, DeadLetterLimit())
