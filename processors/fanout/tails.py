"""What was told while the log was being read: what a socket that comes from the log needs to be where the hub is."""

from processors.fanout.messages import Told
from schemas.runs.records import RunEvent

RECORDS_MAX = 5000
CHARACTERS_MAX = 16 * 1024 * 1024  # of their payloads


class Tail:
    """The records that were told of one partition since a moment; bounded."""

    __slots__ = ("_characters", "overrun", "start", "told")

    def __init__(self, start: int) -> None:
        """Begin at the hub's position."""
        self.start = start
        self.told: list[Told] = []
        self.overrun = False  # more was told than is kept: of no use any more
        self._characters = 0

    def add(self, told: Told) -> None:
        """Keep a record that was told."""
        if isinstance(told.record, RunEvent):
            self._characters += len(told.record.payload or "")
        if not self.overrun and len(self.told) < RECORDS_MAX and self._characters < CHARACTERS_MAX:
            self.told.append(told)
        else:
            self.overrun = True
            self.told.clear()
