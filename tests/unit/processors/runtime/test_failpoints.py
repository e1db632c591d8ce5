"""Where a worker may be told to die, it does so at the hit that was asked for and at no other."""

import subprocess
import sys
from pathlib import Path

import pytest

from processors.runtime.failpoints import EXIT_KILLED, Failpoint, arm
from schemas.process.settings import SettingsInvalid

ROOT = Path(__file__).parents[4]


def hits_survived(armed: str) -> tuple[int, int]:
    """Return the exit code of a process that reaches before_tx three times, and how often it lived on."""
    script = (
        "from processors.runtime.failpoints import *\n"
        f"arm({armed!r})\n"
        "for _ in range(3):\n    reach(Failpoint.BEFORE_TX)\n    print('x', flush=True)"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, check=False)
    return done.returncode, done.stdout.count(b"x")


@pytest.mark.parametrize(
    ("armed", "expected"),
    [("", (0, 3)), ("after_poll:1", (0, 3)), ("before_tx", (EXIT_KILLED, 0)), ("before_tx:3", (EXIT_KILLED, 2))],
)
def test_the_process_ends_at_the_hit_that_was_asked_for(armed: str, expected: tuple[int, int]) -> None:
    assert hits_survived(armed) == expected


@pytest.mark.parametrize("text", ["nowhere:1", "before_tx:often"])
def test_an_unknown_failpoint_stops_the_start_and_names_the_known_ones(text: str) -> None:
    with pytest.raises(SettingsInvalid, match=Failpoint.AFTER_OFFSET):
        arm(text)
