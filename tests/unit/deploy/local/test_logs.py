"""The log files of the stack's processes."""

from contextlib import closing
from pathlib import Path

import pytest

from deploy.local import logs

JAVA = """\
2026-01-01 12:00:00.000 INFO  KafkaRaftServer starting
2026-01-01 12:00:01.000 ERROR Kafka Exiting Kafka due to fatal exception
java.lang.IllegalArgumentException: requirement failed: data cannot be read
\tat scala.Predef$.require(Predef.scala:337)
\tat kafka.Kafka.main(Kafka.scala)
\t... 2 more
"""
PYTHON = """\
{"event": "starting", "level": "info"}
Traceback (most recent call last):
  File "x.py", line 1, in <module>
    import nothing
ModuleNotFoundError: No module named 'nothing'
"""
POSTGRES = """\
2026-01-01 12:00:00.000 UTC [1] FATAL:  could not create lock file: Permission denied
2026-01-01 12:00:00.000 UTC [1] LOG:  database system is shut down
"""
OURS = """\
{"error": "TIDEGATE_LIMITS: /x: No such file or directory", "event": "not started", "level": "critical"}
{"event": "stopped", "level": "info"}
"""
UNCAUGHT = """\
{"event": "ends by an error", "level": "critical", "exception": [{"exc_type": "OSError", "exc_value": "full"}]}
"""


def test_the_last_line_is_the_last_one_that_says_something(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_text("first\nthe reason \n\n  \n")
    assert logs.cause(path) == "the reason"


def test_an_empty_log_says_so(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.touch()
    assert logs.cause(path) == "it logged nothing"


def test_a_large_log_is_put_aside_at_the_next_start(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_bytes(b"x" * (logs.LOG_BYTES_MAX + 1))
    with logs.open_log(path) as log:
        log.write(b"new\n")
    assert path.read_bytes() == b"new\n"
    assert (tmp_path / "a.log.1").stat().st_size == logs.LOG_BYTES_MAX + 1


def test_the_last_lines_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_text("1\n2\n3\n")
    assert list(logs.read(path, lines_max=2, follow=False)) == ["2\n3\n"]


def test_what_is_written_later_is_followed_into_the_next_file(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_text("before\n")
    with closing(logs.read(path, lines_max=9, follow=True)) as followed:
        assert next(followed) == "before\n"
        with path.open("a") as log:
            log.write("after\n")
        assert next(followed) == "after\n"
        (tmp_path / "new").write_text("rotated\n")
        (tmp_path / "new").rename(path)
        assert next(followed) == "rotated\n"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (JAVA, "java.lang.IllegalArgumentException: requirement failed: data cannot be read"),
        (PYTHON, "ModuleNotFoundError: No module named 'nothing'"),
        (POSTGRES, "2026-01-01 12:00:00.000 UTC [1] FATAL:  could not create lock file: Permission denied"),
        (OURS, "not started: TIDEGATE_LIMITS: /x: No such file or directory"),
        (UNCAUGHT, "ends by an error: OSError: full"),
        ("only this\n\n", "only this"),
        ("", "it logged nothing"),
        ("5\n", "5"),
    ],
)
def test_why_a_process_ended_is_its_last_error(tmp_path: Path, text: str, why: str) -> None:
    path = tmp_path / "a.log"
    before = "FATAL: of an earlier start\n"
    path.write_text(before + text)
    assert logs.cause(path, since_bytes=len(before)) == why
