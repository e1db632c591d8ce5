"""The messages between an executor and its children."""

import msgspec

from processors.jobs.context import Ending


class Run(msgspec.Struct, frozen=True, kw_only=True, tag=True, tag_field="frame", array_like=True):
    """Executor to child: run a task."""

    attempt_id: str
    job_id: str
    number: int
    failed_attempts: int
    type: str
    function: str
    parameters: bytes  # JSON
    tenant: str
    user_id: str | None
    soft_limit_s: float
    folder: str


class Interrupt(msgspec.Struct, frozen=True, kw_only=True, tag=True, tag_field="frame", array_like=True):
    """Executor to child: stop the task of this attempt, and of no other."""

    attempt_id: str
    kind: Ending  # soft_limit, cancelled or interrupted


class Progress(msgspec.Struct, frozen=True, kw_only=True, tag=True, tag_field="frame", array_like=True):
    """Child to executor: how far the task is."""

    attempt_id: str
    fraction: float | None
    message: str | None


class Ended(msgspec.Struct, frozen=True, kw_only=True, tag=True, tag_field="frame", array_like=True):
    """Child to executor: the end of a task."""

    attempt_id: str
    ending: Ending
    result: bytes | None = None  # JSON
    summary: bytes | None = None  # JSON
    is_partial: bool = False
    reason: str | None = None  # beside a failure, where it is not an error of the task's own
    error_type: str | None = None
    error: str | None = None
    traceback: str | None = None
    after_s: float | None = None  # until the next attempt
    is_final: bool = False  # no attempt follows
    cpu_s: float = 0.0
    is_retiring: bool = False  # the child takes no more tasks


OF_EXECUTOR: msgspec.msgpack.Decoder[Run | Interrupt] = msgspec.msgpack.Decoder(Run | Interrupt)
OF_CHILD: msgspec.msgpack.Decoder[Progress | Ended] = msgspec.msgpack.Decoder(Progress | Ended)
