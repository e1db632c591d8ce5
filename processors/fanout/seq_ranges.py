"""The events that a socket was sent, by run and seq: none is sent twice, and no seq with two contents."""

from bisect import bisect_right
from collections import OrderedDict

# Of one socket, all runs together; a run without gaps is one. Beyond it the run heard of longest ago is forgotten.
RANGES_MAX = 10_000


class SeqRanges:
    """The seqs that were sent, as ranges. What is forgotten may be sent again, never lost."""

    __slots__ = ("_count", "_ranges_max", "_runs")

    def __init__(self, *, ranges_max: int = RANGES_MAX) -> None:
        """Remember nothing yet."""
        self._runs: OrderedDict[str, list[list[int]]] = OrderedDict()  # first and last of each, rising
        self._count = 0
        self._ranges_max = ranges_max

    def add(self, run_id: str, seq: int) -> bool:
        """Note that *seq* is sent; False if it was before."""
        ranges = self._runs.get(run_id)
        if ranges is None:
            self._runs[run_id] = [[seq, seq]]
            self._grow()
            return True
        if len(self._runs) > 1:
            self._runs.move_to_end(run_id)
        if seq == ranges[-1][1] + 1:  # nearly always
            ranges[-1][1] = seq
            return True
        return self._insert(ranges, seq)

    def _insert(self, ranges: list[list[int]], seq: int) -> bool:
        place = bisect_right(ranges, seq, key=lambda each: each[0])
        before = ranges[place - 1] if place else None
        after = ranges[place] if place < len(ranges) else None
        if before and seq <= before[1]:
            return False
        joins_before, joins_after = before and before[1] + 1 == seq, after and seq + 1 == after[0]
        if before and after and joins_before and joins_after:
            before[1] = after[1]
            del ranges[place]
            self._count -= 1
        elif before and joins_before:
            before[1] = seq
        elif after and joins_after:
            after[0] = seq
        else:
            ranges.insert(place, [seq, seq])
            self._grow()
        return True

    def _grow(self) -> None:
        self._count += 1
        while self._count > self._ranges_max:
            _, forgotten = self._runs.popitem(last=False)
            self._count -= len(forgotten)
