"""
The records broadcast while the log was being read; a socket that catches up needs them to reach the hub's position.
"""

from processors.fanout.messages import StreamRecord

RECORDS_MAX = 5000
CHARACTERS_MAX = 16 * 1024 * 1024  # of their payloads, or other texts


class Tail:
    """The records of one partition that were broadcast since a moment; bounded."""

    __slots__ = ("_characters", "overrun", "records", "start")

    def __init__(self, start: int) -> None:
        """Begin at the hub's position."""
        self.start = start
        self.records: list[StreamRecord] = []
        self.overrun = False  # more was broadcast than is kept: useless from now on
        self._characters = 0

    def add(self, record: StreamRecord) -> None:
        """Keep a record that was broadcast."""
        self._characters += record.held_characters
        if not self.overrun and len(self.records) < RECORDS_MAX and self._characters < CHARACTERS_MAX:
            self.records.append(record)
        else:
            self.overrun = True
            self.records.clear()
