"""A command that goes on in the background returns when its work is ready, or with the reason why it is not."""

import subprocess
import sys
from pathlib import Path

import pytest

TIMEOUT_S = 60.0
PROGRAM = """
import os, sys
from pathlib import Path
from deploy.errors import CommandFailed, NotReachable
from deploy.local.background import detach
from schemas.process.settings import SettingsInvalid

def work(say, ready):
    say("begins")
    {work}

try:
    detach(Path(sys.argv[1]), work)
except CommandFailed as error:
    print(error)
    sys.exit(error.exit_code)
"""


def detached(log: Path, work: str) -> tuple[int, list[str]]:
    """Return the exit code and output of a command whose work is *work*."""
    program = PROGRAM.format(work=work)
    command = [sys.executable, "-c", program, str(log)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    return done.returncode, done.stdout.splitlines()


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "up.log"
    path.write_text("ERROR of an earlier start\n")
    return path


def test_what_is_said_before_it_is_ready_is_shown_and_everything_is_logged_with_its_time(log: Path) -> None:
    assert detached(log, "ready(); say('goes on')") == (0, ["begins"])
    for line, said in zip(log.read_text().splitlines()[1:], ["begins", "goes on"], strict=True):
        time, _, rest = line.partition(" ")
        assert (rest, time[10], time[-6:]) == (said, "T", "+00:00")


@pytest.mark.parametrize(
    ("work", "reason", "exit_code"),
    [
        ("raise CommandFailed('no port is free')", "no port is free", 1),
        ("raise NotReachable('no Kafka answers')", "no Kafka answers", 3),
        ("raise SettingsInvalid('X is missing')", "X is missing", 2),
        ("1 / 0", "ZeroDivisionError: division by zero", 1),
        (
            "raise ExceptionGroup('several', [OSError(28, 'No space left')])",
            "ExceptionGroup: several (1 sub-exception)",
            1,
        ),
    ],
)
def test_a_failure_is_shown_with_its_cause_and_the_log(log: Path, work: str, reason: str, exit_code: int) -> None:
    assert detached(log, work) == (exit_code, ["begins", f"{reason} (log: {log})"])
    assert reason in log.read_text()


def test_a_failure_that_names_a_log_names_no_second_one(log: Path) -> None:
    assert detached(log, "raise CommandFailed('kafka ended (log: kafka.log)')")[1][-1] == "kafka ended (log: kafka.log)"


def test_an_end_without_a_word_says_how_it_ended_and_what_was_logged_last(log: Path) -> None:
    code, shown = detached(log, "os.kill(os.getpid(), 9)")
    assert (code, shown[-1].startswith("the process in the background was ended by SIGKILL before it was ready: ")) == (
        1,
        True,
    )
    assert shown[-1].endswith(f"begins (log: {log})")
