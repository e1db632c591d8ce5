"""Jobs as rows of tables, for `tidegate jobs`."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec

LISTED_COLUMNS = ("created", "job", "type", "queue", "priority", "status", "attempts", "reason")
TEXT_CHARACTERS_MAX = 300
ERROR_CHARACTERS_MAX = 120
TIMES = ("created_at", "run_at", "started_at", "finished_at", "expires_at")
# In the order of a person's questions; what is empty is left out.
SHOWN = (
    *("type", "queue", "status", "reason", "error", "priority", "position", "progress", "created_at", "run_at"),
    *("started_at", "finished_at", "expires_at", "attempts", "max_attempts", "runs", "lost", "snoozes", "generation"),
    *("timeout_s", "user_id", "tags", "metadata", "dedupe_key", "duplicate_of", "schedule_id", "submitted_by"),
    *("parameters", "summary", "result", "result_expired"),
)
ZERO_IS_NONE = ("lost", "snoozes", "tags")


def listed_row(job: Mapping[str, Any]) -> tuple[object, ...]:
    """Return a job as a row under `LISTED_COLUMNS`."""
    names = ("created_at", "task_id", "type", "queue", "priority", "status", "attempts", "reason")
    return tuple(_cell(name, job[name]) for name in names)


def job_rows(job: Mapping[str, Any]) -> Iterator[tuple[str, object]]:
    """Yield what is known of a job."""
    if job.get("visible") is False:
        yield "status", "pending: it is in the log, and intake has not come to it"
        return
    if job.get("cancel_requested"):
        yield "cancel", "it is being cancelled"
    for name in SHOWN:
        value = job.get(name)
        if value is None or (name in ZERO_IS_NONE and not value):
            continue
        yield (name if name == "run_at" else name.removesuffix("_at")), _cell(name, value)


def attempt_rows(attempts: Sequence[Mapping[str, Any]]) -> Iterator[tuple[object, ...]]:
    """Yield a row for each attempt, the first first."""
    for each in sorted(attempts, key=lambda attempt: int(attempt["number"])):
        duration_s = each["duration_s"]
        error = each["error"] or each["reason"]
        yield (
            each["number"],
            each["outcome"],
            _cell("started_at", each["started_at"]),
            None if duration_s is None else f"{duration_s:.2f} s",
            None if error is None else str(error)[:ERROR_CHARACTERS_MAX],
        )


def progress_text(progress: Mapping[str, Any]) -> str:
    """Return how far a job is, in words."""
    fraction, message = progress.get("fraction"), progress.get("message")
    words = [] if fraction is None else [f"{fraction:.0%}"]
    return " ".join([*words, message] if message else words)


def _cell(name: str, value: object) -> object:
    if name == "progress" and isinstance(value, Mapping):
        return progress_text(value)
    if name in TIMES and isinstance(value, str):
        return datetime.fromisoformat(value)
    if name == "tags":
        return value
    if isinstance(value, dict | list):
        text = msgspec.json.encode(value).decode()
        return text if len(text) <= TEXT_CHARACTERS_MAX else f"{text[:TEXT_CHARACTERS_MAX]}... (--json has all of it)"
    return value
