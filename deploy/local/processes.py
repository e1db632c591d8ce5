"""The system's information about a process."""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

STARTED_FIELD = 19  # of /proc/PID/stat, counted from the state that follows the name in parentheses


def up_since(pid: int) -> datetime | None:
    """Return when the process started; None if it is gone, or the system has no /proc."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        [booted] = [line for line in Path("/proc/stat").read_text().splitlines() if line.startswith("btime ")]
    except (OSError, ValueError):
        return None
    started_s = int(fields[STARTED_FIELD]) / os.sysconf("SC_CLK_TCK")
    return datetime.fromtimestamp(int(booted.split()[1]), UTC) + timedelta(seconds=started_s)
