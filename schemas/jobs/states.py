"""The states of a job, and the reasons why an attempt or a job ended as it did."""

from enum import StrEnum


class JobStatus(StrEnum):
    """The state of a job, by the words that its users know."""

    PENDING = "pending"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


UNFINISHED = (JobStatus.PENDING, JobStatus.RUNNING)


class EndReason(StrEnum):
    """The reason beside a state or an attempt's outcome."""

    ERROR = "error"  # the task raised, or returned a failure
    SOFT_LIMIT = "soft_limit"
    HARD_LIMIT = "hard_limit"
    MEMORY_LIMIT = "memory_limit"
    CRASHED = "crashed"  # its process ended without an answer
    EXECUTOR_LOST = "executor_lost"
    EXPIRED = "expired"  # it was not started by `expires_at`
    RESULT_TOO_LARGE = "result_too_large"
    BAD_PARAMETERS = "bad_parameters"
    UNKNOWN_TYPE = "unknown_type"
    DUPLICATE = "duplicate"  # another unfinished job had its dedupe key


class AttemptOutcome(StrEnum):
    """The end of one attempt."""

    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    SNOOZED = "snoozed"  # the task asked to be run later; costs no attempt
    INTERRUPTED = "interrupted"  # given back by an executor that stops; costs no attempt
    LOST = "lost"  # its executor is gone; counted apart from failed attempts


class JobAction(StrEnum):
    """A change that a user asks of a job."""

    CANCEL = "cancel"
    RETRY = "retry"
    REPRIORITISE = "reprioritise"


class QueueAction(StrEnum):
    """A change of a queue."""

    PAUSE = "pause"
    RESUME = "resume"
    CONFIGURE = "configure"


class ScheduleAction(StrEnum):
    """A change of a schedule."""

    PUT = "put"
    DELETE = "delete"
    PAUSE = "pause"
    RESUME = "resume"
    RUN = "run"  # fire it now, beside its times


class Missed(StrEnum):
    """The treatment of times at which a schedule could not fire."""

    COALESCE = "coalesce"  # one job for all of them
    SKIP = "skip"
    CATCH_UP = "catch_up"  # a job for each, `CATCH_UP_MAX` at most


class Overlap(StrEnum):
    """The treatment of a time at which the schedule's last job is not finished."""

    ALLOW = "allow"
    SKIP = "skip"
    QUEUE_ONE = "queue_one"  # fire unless one is waiting already
