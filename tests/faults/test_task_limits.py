"""Tasks that misbehave: each is stopped, kept in bounds or told apart, and the next task never notices."""

import signal
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import psutil
import pytest

from tests.support.jobs import ExecutorProcess, JobServer, Tables, executor

SLOTS = 2
KEPT_BYTES_MAX = 1280 * 1024  # head and tail, and a time before each line


class Workplace:
    """One executor for the whole module, and the tables it works on."""

    def __init__(self, tables: Tables, process: ExecutorProcess) -> None:
        self.tables = tables
        self.process = process

    def insert(self, task_type: str, value: Any = None, *, max_attempts: int = 1, **more: Any) -> UUID:
        parameters = {name: more.pop(name) for name in ("seconds", "count", "path") if name in more}
        return self.tables.insert(task_type, parameters | {"value": value}, max_attempts=max_attempts, **more)[0]

    def end_of(self, task_type: str, value: Any = None, **more: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """Run a task; return the job, and its last attempt."""
        job_id = self.insert(task_type, value, **more)
        job = self.tables.wait(job_id, "completed", "failed", "cancelled")
        return job, self.tables.attempts(job_id)[-1]


@pytest.fixture(scope="module")
def workplace(job_server: JobServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workplace]:
    """Yield an executor of tasks that misbehave; at the end every rule of the tables holds."""
    tables = Tables(job_server)
    tables.clear()
    with executor(tables, tmp_path_factory.mktemp("limits"), slots=SLOTS, beat_s=0.3, lease_s=15) as process:
        yield Workplace(tables, process)
        assert process.process.poll() is None, process.text()
        tables.check_invariants()


def test_the_soft_limit_reaches_a_task_through_except_exception(workplace: Workplace) -> None:
    job, attempt = workplace.end_of("stubborn", seconds=30)
    assert (job["status"], job["reason"], job["error_type"]) == ("failed", "soft_limit", "SoftLimitReached")
    assert "SoftLimitReached" in attempt["traceback"]


def test_a_task_that_swallows_its_soft_limit_is_killed_at_the_hard_one(workplace: Workplace) -> None:
    job, attempt = workplace.end_of("immovable", seconds=30)
    assert (job["status"], job["reason"]) == ("failed", "hard_limit")
    assert attempt["outcome"] == "failed"


def test_a_task_that_stays_in_c_is_killed_at_the_hard_limit(workplace: Workplace) -> None:
    job, _ = workplace.end_of("in-c")
    assert (job["status"], job["reason"], job["error_type"]) == ("failed", "hard_limit", "HardLimitReached")


def test_a_job_may_have_less_time_than_its_type_allows(workplace: Workplace) -> None:
    job, _ = workplace.end_of("wait", seconds=15, timeout_s=0.5)
    assert (job["status"], job["reason"]) == ("failed", "soft_limit")


def test_a_soft_limit_is_tried_again_like_any_failure(workplace: Workplace) -> None:
    job, _ = workplace.end_of("wait", seconds=15, timeout_s=0.3, max_attempts=2)
    assert (job["attempts"], job["runs"]) == (2, 2)


def test_what_a_task_returns_after_its_soft_limit_counts_where_its_type_says_so(workplace: Workplace) -> None:
    job, _ = workplace.end_of("partial-allowed", seconds=15)
    assert (job["status"], job["reason"]) == ("completed", "soft_limit")
    assert workplace.tables.result(job["job_id"]) == "half"


def test_what_a_task_returns_after_its_soft_limit_else_fails_it(workplace: Workplace) -> None:
    job, _ = workplace.end_of("partial", seconds=15)
    assert (job["status"], job["reason"]) == ("failed", "soft_limit")


def test_a_process_beyond_its_memory_limit_is_killed(workplace: Workplace) -> None:
    job, attempt = workplace.end_of("memory", count=300, seconds=15)
    assert (job["reason"], job["error_type"]) == ("memory_limit", "MemoryLimitReached")
    assert attempt["peak_bytes"] > 128 * 2**20


@pytest.mark.parametrize("task_type", ["memory-of-child", "memory-of-daemon"])
def test_the_memory_of_what_a_task_starts_counts_as_its_own(workplace: Workplace, task_type: str) -> None:
    job, attempt = workplace.end_of(task_type, count=300, seconds=15)
    assert job["reason"] == "memory_limit"
    assert attempt["peak_bytes"] > 128 * 2**20


def test_of_200_megabytes_of_output_the_head_and_the_tail_are_kept(workplace: Workplace) -> None:
    job, attempt = workplace.end_of("noisy", count=200)
    assert job["status"] == "completed"
    log = attempt["log"]
    assert len(log) < KEPT_BYTES_MAX
    assert " stdout 0 xxx" in log.splitlines()[0]
    assert "bytes are not kept" in log
    assert log.splitlines()[-1].endswith(" stdout the end")


def test_a_million_single_characters_hold_the_executor_up_no_more_than_lines(workplace: Workplace) -> None:
    job, attempt = workplace.end_of("dots", count=300_000)
    assert job["status"] == "completed"
    assert "stdout ..." in attempt["log"]
    assert workplace.process.process.poll() is None


def test_secrets_in_output_are_masked(workplace: Workplace) -> None:
    _, attempt = workplace.end_of("logs")
    assert "hunter2secret" not in attempt["log"]
    assert "a line of logging, " in attempt["log"]


def test_output_errors_and_logging_are_told_apart(workplace: Workplace) -> None:
    _, attempt = workplace.end_of("logs")
    lines = [line.split(" ", 1)[1] for line in attempt["log"].splitlines()]
    assert "stdout a line of output" in lines
    assert "stderr a line of errors" in lines
    assert any(line.startswith("stderr WARNING shop: a line of logging") for line in lines)


def test_bytes_that_are_no_text_are_kept_as_far_as_a_text_can(workplace: Workplace) -> None:
    job, attempt = workplace.end_of("bytes", seconds=2.5)
    assert job["status"] == "completed"
    assert "before ? \\xff after" in attempt["log"]


def test_progress_and_output_of_a_running_task_are_shown_meanwhile(workplace: Workplace) -> None:
    job_id = workplace.insert("progress", count=40, seconds=8)
    workplace.tables.wait_until("SELECT count(fraction) > 0 FROM job_running WHERE job_id = %s", job_id)
    workplace.tables.wait_until("SELECT count(output) > 0 FROM job_reports WHERE job_id = %s", job_id)
    shown = workplace.tables.rows("SELECT fraction, message, output FROM job_reports WHERE job_id = %s", job_id)
    assert any("line " in (row["output"] or "") for row in shown)
    assert all("abcdef0123456789" not in (row["message"] or "") for row in shown)
    assert workplace.tables.wait(job_id, "completed")
    assert workplace.tables.rows("SELECT fraction FROM job_running WHERE job_id = %s", job_id) == []


def test_progress_from_a_thread_that_outlives_its_task_breaks_nothing(workplace: Workplace) -> None:
    ended = [workplace.insert("reports-from-thread", count=200_000) for _ in range(20)]
    for job_id in ended:
        assert workplace.tables.wait(job_id, "completed", "failed")["status"] == "completed"


@pytest.mark.parametrize("task_type", ["forks", "daemonizes"])
def test_nothing_that_a_task_has_started_outlives_it(workplace: Workplace, task_type: str) -> None:
    job, _ = workplace.end_of(task_type, seconds=0.3)
    for pid in workplace.tables.result(job["job_id"]):
        wait_gone(pid)


def test_the_task_after_one_that_left_processes_behind_is_unharmed(workplace: Workplace) -> None:
    left = [workplace.insert("forks") for _ in range(4)]
    after = [workplace.insert("wait", seconds=0.1) for _ in range(8)]
    for job_id in (*left, *after):
        job = workplace.tables.wait(job_id, "completed", "failed")
        assert (job["status"], job["runs"]) == ("completed", 1)


def test_a_copy_of_the_process_that_returns_from_the_task_too_answers_nothing(
    workplace: Workplace, tmp_path: Path
) -> None:
    tally = tmp_path / "tally"
    for _ in range(5):
        job, _ = workplace.end_of("forks-and-returns", path=str(tally))
        assert job["status"] == "completed"
        assert workplace.tables.result(job["job_id"]) == "the original"
        after, _ = workplace.end_of("tally", path=str(tally))
        assert after["runs"] == 1
    assert tally.read_text().count("\n") == 5


def test_an_exit_code_without_an_answer_is_a_crash_with_the_last_lines(workplace: Workplace) -> None:
    job, attempt = workplace.end_of("crash")
    assert (job["reason"], job["error_type"]) == ("crashed", "Crashed")
    assert job["error"].startswith("its process exited with code 3; its last lines:")
    assert "last words" in job["error"]
    assert "last words" in attempt["log"]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGABRT])
def test_a_signal_without_an_answer_is_a_crash_that_names_it(workplace: Workplace, number: signal.Signals) -> None:
    job, _ = workplace.end_of("crash", count=int(number))
    assert job["reason"] == "crashed"
    assert f"killed by {number.name}" in job["error"]


def test_a_segmentation_fault_leaves_its_traceback(workplace: Workplace) -> None:
    job, attempt = workplace.end_of("segfault")
    assert "killed by SIGSEGV" in job["error"]
    assert "Fatal Python error: Segmentation fault" in attempt["log"]
    assert "tests/support/tasks.py" in attempt["log"]


def test_a_crash_is_one_failed_attempt(workplace: Workplace) -> None:
    job, _ = workplace.end_of("crash", max_attempts=2)
    outcomes = [(each["outcome"], each["reason"]) for each in workplace.tables.attempts(job["job_id"])]
    assert outcomes == [("failed", "crashed")] * 2
    assert (job["attempts"], job["lost"]) == (2, 0)


def test_sys_exit_fails_the_task_and_not_the_process(workplace: Workplace) -> None:
    job, attempt = workplace.end_of("exits")
    assert (job["reason"], job["error_type"], job["error"]) == ("error", "SystemExit", "enough")
    assert "sys.exit" in attempt["traceback"]


@pytest.mark.parametrize(
    ("value", "error_type", "reason"),
    [
        ("large", "ResultTooLarge", "result_too_large"),
        ("large summary", "ResultTooLarge", "result_too_large"),
        ("object", "TypeError", "error"),
        ("nul", "TypeError", "error"),
        ("surrogate", "TypeError", "error"),
        ("raw", "NotStorable", "error"),
        ("deep", "NotStorable", "error"),
        ("fail", "Fail", "error"),
    ],
)
def test_what_a_task_must_not_return_fails_the_job(
    workplace: Workplace, value: str, error_type: str, reason: str
) -> None:
    job, attempt = workplace.end_of("returns", value)
    assert (job["status"], job["reason"], job["error_type"]) == ("failed", reason, error_type)
    assert attempt["outcome"] == "failed"


def test_a_result_that_is_too_large_is_not_computed_again(workplace: Workplace) -> None:
    job, _ = workplace.end_of("returns", "large", max_attempts=3)
    assert job["runs"] == 1


def test_a_number_that_json_has_no_word_for_is_null(workplace: Workplace) -> None:
    job, _ = workplace.end_of("returns", "nan")
    assert workplace.tables.result(job["job_id"]) is None


def test_the_summary_is_kept_with_the_job(workplace: Workplace) -> None:
    job, _ = workplace.end_of("returns", "summary")
    assert (job["summary"], workplace.tables.result(job["job_id"])) == ({"rows": 3}, {"rows": 3})


def test_bad_input_is_not_tried_again(workplace: Workplace) -> None:
    job, _ = workplace.end_of("bad-input", max_attempts=3)
    assert (job["status"], job["error_type"], job["error"], job["runs"]) == ("failed", "BadInput", "no such goal", 1)


def test_fail_ends_the_job_at_once(workplace: Workplace) -> None:
    job, _ = workplace.end_of("returns", "fail", max_attempts=3)
    assert (job["status"], job["error"], job["runs"]) == ("failed", "never", 1)


@pytest.mark.parametrize("value", ["retry one day", "snooze for ever"])
def test_a_pause_without_end_becomes_a_long_one(workplace: Workplace, value: str) -> None:
    job_id = workplace.insert("returns", value, max_attempts=3)
    workplace.tables.wait_until("SELECT EXISTS (SELECT FROM job_delayed WHERE job_id = %s)", job_id)
    [row] = workplace.tables.rows("SELECT run_at - now() AS pause FROM job_delayed WHERE job_id = %s", job_id)
    assert timedelta(days=360) < row["pause"] < timedelta(days=370)


def test_retry_counts_each_attempt(workplace: Workplace) -> None:
    job, attempt = workplace.end_of("returns", "retry", max_attempts=3)
    assert (job["status"], job["runs"], job["attempts"]) == ("failed", 3, 3)
    assert attempt["error"] == "not yet"


def test_snooze_costs_no_attempt(workplace: Workplace) -> None:
    job, _ = workplace.end_of("returns", "snooze", count=3)
    assert (job["status"], job["runs"], job["attempts"], job["snoozes"]) == ("completed", 4, 0, 3)
    outcomes = [each["outcome"] for each in workplace.tables.attempts(job["job_id"])]
    assert outcomes == ["snoozed"] * 3 + ["completed"]


def test_parameters_of_another_version_of_the_function_fail_for_good(workplace: Workplace) -> None:
    job_id = workplace.tables.insert("wait", {"seconds": "long"})[0]
    job = workplace.tables.wait(job_id, "failed")
    assert (job["reason"], job["runs"]) == ("bad_parameters", 1)
    assert "$.seconds" in job["error"]


def test_a_type_whose_module_is_missing_fails_alone(workplace: Workplace) -> None:
    job, attempt = workplace.end_of("missing")
    assert (job["reason"], job["error_type"]) == ("error", "ModuleNotFoundError")
    assert "no_such_module" in attempt["traceback"]


def test_the_temporary_folder_goes_with_its_attempt(workplace: Workplace) -> None:
    job, _ = workplace.end_of("uses-folder")
    assert not Path(workplace.tables.result(job["job_id"])).exists()


def test_the_temporary_folder_of_a_killed_task_goes_too(workplace: Workplace, tmp_path: Path) -> None:
    note = tmp_path / "folder"
    workplace.end_of("keeps-folder", seconds=15, timeout_s=0.3, path=str(note))
    assert note.read_text().strip()
    assert not Path(note.read_text().strip()).exists()


def test_a_traceback_shows_the_causes_and_no_secret(workplace: Workplace) -> None:
    job, attempt = workplace.end_of("raises", count=1)
    assert job["error_type"] == "ValueError"
    assert "KeyError: 'inner'" in attempt["traceback"]
    assert "The above exception was the direct cause" in attempt["traceback"]
    assert "abcdef0123456789" not in job["error"] + attempt["traceback"]


def test_a_task_that_fails_twice_completes_with_the_third_attempt(workplace: Workplace) -> None:
    job, _ = workplace.end_of("raises", count=2, max_attempts=3)
    assert (job["status"], job["runs"], job["attempts"], job["error"]) == ("completed", 3, 2, None)


def wait_gone(pid: int) -> None:
    """Wait until a process is gone, or waits for nothing but its parent's look."""
    try:
        psutil.Process(pid).wait(10)
    except psutil.NoSuchProcess:
        return
