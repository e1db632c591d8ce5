"""
One attempt in a child process: its limits, its stop from outside, and what its end means for the job.

The soft limit, a cancellation and the end of the executor first ask the task to stop; what it does not obey in time
kills its process. The hard and the memory limit kill at once.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from processors.jobs.children.messages import Ended, Interrupt, Progress, Run
from processors.jobs.children.output import Output
from processors.jobs.children.processes import ChildDied, ChildProcess
from processors.jobs.context import Ending as ChildEnding
from processors.jobs.executor.claims import Claimed
from processors.jobs.executor.endings import AttemptEnd, failed, lost, snoozed
from schemas.jobs.states import AttemptOutcome, EndReason, JobStatus
from schemas.jobs.types import TaskType
from schemas.process.redaction import without_secrets

CANCEL_GRACE_S = 10.0
INTERRUPT_GRACE_S = 5.0
ERROR_CHARACTERS_MAX = 4096

_SOFT_LIMIT = {
    "reason": EndReason.SOFT_LIMIT,
    "error_type": "SoftLimitReached",
    "error": "it ran longer than its soft limit",
}
_ERROR_TYPES = {EndReason.HARD_LIMIT: "HardLimitReached", EndReason.MEMORY_LIMIT: "MemoryLimitReached"}


@dataclass(frozen=True, slots=True)
class LastReport:
    """The newest progress of an attempt."""

    fraction: float | None
    message: str | None


class Attempt:
    """An attempt that runs in a child."""

    def __init__(self, claimed: Claimed, declared: TaskType, child: ChildProcess, *, folder: Path) -> None:
        """Prepare to run *claimed*, of the type *declared*, in *child*; *folder* is for its temporary files."""
        self.claimed = claimed
        self.declared = declared
        self.child = child
        self.output = Output()
        self.folder = folder
        self.peak_bytes: int | None = None
        self.reported: LastReport | None = None  # not stored yet
        self.started_s = asyncio.get_running_loop().time()
        self._started_at = datetime.now(UTC)
        self._killed_by: EndReason | AttemptOutcome | None = None
        self._stopped_by: ChildEnding | None = None
        self._is_interrupted = False
        self._is_over = False  # the child may run another task by now
        self._timers: list[asyncio.TimerHandle] = []

    @property
    def attempt_id(self) -> str:
        """Return the id of the attempt."""
        return str(self.claimed.attempt_id)

    async def run(self) -> AttemptEnd:
        """Return the end of the attempt, whatever the task does; nothing of a killed process is left."""
        claimed, declared = self.claimed, self.declared
        soft_s = min(declared.soft_limit_s, claimed.timeout_s or declared.soft_limit_s)
        hard_s = declared.hard_limit_s - declared.soft_limit_s + soft_s
        self._later(soft_s, self._reach_soft_limit)
        self._later(hard_s, lambda: self.kill(EndReason.HARD_LIMIT))
        run = Run(
            attempt_id=self.attempt_id,
            job_id=str(claimed.job_id),
            number=claimed.number,
            failed_attempts=claimed.failed_attempts,
            type=claimed.type,
            function=declared.function,
            parameters=claimed.parameters.encode(),
            tenant=claimed.tenant,
            user_id=claimed.user_id,
            soft_limit_s=soft_s,
            folder=str(self.folder),
        )
        try:
            ended = await self.child.run(run, output=self.output, progress=self._note_progress)
        except ChildDied as death:
            return self._of_death(death)
        finally:
            self._is_over = True
            for timer in self._timers:
                timer.cancel()
        return self._of_answer(ended)

    def cancel(self) -> None:
        """Stop the task for good, since its job is cancelled."""
        if self._stopped_by == "cancelled":
            return
        self.stop("cancelled")
        self._later(CANCEL_GRACE_S, lambda: self.kill(AttemptOutcome.CANCELLED))

    def interrupt(self) -> None:
        """Stop the task since the executor ends: gently where its type allows, else by a kill."""
        if self._is_interrupted:
            return
        self._is_interrupted = True
        if self._stopped_by == "cancelled":
            self._later(INTERRUPT_GRACE_S, lambda: self.kill(AttemptOutcome.CANCELLED))
        elif self.declared.is_interruptible:
            self.stop("interrupted")
            self._later(INTERRUPT_GRACE_S, lambda: self.kill(AttemptOutcome.INTERRUPTED))
        else:
            self.kill(AttemptOutcome.LOST)

    def stop(self, kind: ChildEnding) -> None:
        """Ask the task to stop, if it runs still."""
        if self._is_over:
            return
        self._stopped_by = kind
        self.child.interrupt(self.attempt_id, Interrupt(attempt_id=self.attempt_id, kind=kind))

    def kill(self, why: EndReason | AttemptOutcome) -> None:
        """Kill the process, if it runs the task still."""
        if self._is_over:
            return
        if self._killed_by is None:
            self._killed_by = why
        self.child.kill()

    @property
    def was_killed(self) -> bool:
        """Return True if the process was killed: its sessions in Postgres may be there still."""
        return self._killed_by is not None

    def _later(self, after_s: float, what: Callable[[], None]) -> None:
        self._timers.append(asyncio.get_running_loop().call_later(after_s, what))

    def _reach_soft_limit(self) -> None:
        if self._stopped_by is None:  # else it is stopping already, for a cause that decides what comes next
            self.stop("soft_limit")

    def _note_progress(self, progress: Progress) -> None:
        message = None if progress.message is None else without_secrets(progress.message)
        self.reported = LastReport(progress.fraction, message)

    def _of_answer(self, ended: Ended) -> AttemptEnd:
        claimed, declared, what = self.claimed, self.declared, self._what(ended)
        match ended.ending:
            case "completed" if not ended.is_partial or declared.gives_partial_results:
                ending = AttemptEnd(
                    claimed=claimed,
                    outcome=AttemptOutcome.COMPLETED,
                    next_status=JobStatus.COMPLETED,
                    **(what | {"reason": EndReason.SOFT_LIMIT if ended.is_partial else None}),
                    result=_text(ended.result),
                    summary=_text(ended.summary),
                )
            case "completed" | "soft_limit":
                ending = failed(claimed, declared, **(what | _SOFT_LIMIT))
            case "snoozed":
                ending = snoozed(claimed, after_s=ended.after_s or 0.0, **what)
            case "cancelled":
                ending = self._cancelled(what)
            case "interrupted":
                ending = self._interrupted(what)
            case "failed":
                ending = failed(claimed, declared, is_final=ended.is_final, after_s=ended.after_s, **what)
        return ending

    def _of_death(self, death: ChildDied) -> AttemptEnd:
        what = self._what(None)
        match self._killed_by:
            case AttemptOutcome.CANCELLED:
                return self._cancelled(what)
            case AttemptOutcome.INTERRUPTED:
                return self._interrupted(what)
            case AttemptOutcome.LOST:
                return lost(self.claimed, **what)
            case EndReason() as reason:
                limit = {"reason": reason, "error_type": _ERROR_TYPES[reason], "error": self._limit_text(reason)}
                return failed(self.claimed, self.declared, **(what | limit))
            case _ if death.status is None:  # with its zygote: no fault of the task's, as far as is known
                return lost(self.claimed, **(what | {"error": str(death)}))
            case _:
                last = self.output.last_lines()
                error = f"its process {death}" + (f"; its last lines:\n{last}" if last else "")
                more = {"reason": EndReason.CRASHED, "error_type": "Crashed", "error": error[:ERROR_CHARACTERS_MAX]}
                return failed(self.claimed, self.declared, **(what | more))

    def _cancelled(self, what: dict[str, Any]) -> AttemptEnd:
        return AttemptEnd(
            claimed=self.claimed,
            outcome=AttemptOutcome.CANCELLED,
            next_status=JobStatus.CANCELLED,
            **(what | {"reason": None}),
        )

    def _interrupted(self, what: dict[str, Any]) -> AttemptEnd:
        return AttemptEnd(
            claimed=self.claimed,
            outcome=AttemptOutcome.INTERRUPTED,
            next_status=JobStatus.PENDING,
            **(what | {"reason": None}),
        )

    def _what(self, ended: Ended | None) -> dict[str, Any]:
        found: dict[str, Any] = {
            "log": self.output.text(),
            "peak_bytes": self.peak_bytes,
            "started_at": self._started_at,
        }
        if ended is None:
            return found
        found["cpu_s"] = ended.cpu_s
        if ended.reason is not None:
            found["reason"] = EndReason(ended.reason)
        for name in ("error_type", "error", "traceback"):
            if (text := getattr(ended, name)) is not None:
                found[name] = masked(text)
        return found

    def _limit_text(self, reason: EndReason) -> str:
        if reason is EndReason.MEMORY_LIMIT:
            return f"it took {self.peak_bytes} bytes of memory; at most {self.declared.memory_bytes_max} are allowed"
        return "it did not end within its hard limit, though it was asked to"


def masked(text: str) -> str:
    """Return *text* with secrets masked, line by line, whatever its length."""
    return "\n".join(without_secrets(line) for line in text.split("\n"))


def _text(encoded: bytes | None) -> str | None:
    return None if encoded is None else encoded.decode()
