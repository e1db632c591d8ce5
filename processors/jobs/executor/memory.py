"""The memory of children: that of each with all that it has started, by one look at every process."""

from collections import defaultdict
from collections.abc import Collection

import psutil


def resident_bytes(pids: Collection[int]) -> dict[int, int]:
    """Return the resident bytes of each of *pids* and of its descendants. Blocks for some milliseconds."""
    sizes: dict[int, int] = {}
    children: defaultdict[int, list[int]] = defaultdict(list)
    for process in psutil.process_iter(["ppid", "memory_info"]):
        info = process.info  # None stands for what may not be read
        if info["memory_info"] is not None and info["ppid"] is not None:
            sizes[process.pid] = info["memory_info"].rss
            children[info["ppid"]].append(process.pid)
    totals: dict[int, int] = {}
    for pid in pids:
        waiting, total = [pid], 0
        while waiting:
            each = waiting.pop()
            total += sizes.get(each, 0)
            waiting += children[each]
        totals[pid] = total
    return totals
