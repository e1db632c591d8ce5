"""The task `echo`: a value, after a delay or failures."""

from time import monotonic, sleep
from typing import Any

from processors.jobs.context import TaskContext
from schemas.jobs.builtin import EchoParameters

STEP_S = 0.1


class EchoFailed(Exception):
    """The failure that was asked for."""


def run(context: TaskContext, parameters: EchoParameters) -> dict[str, Any]:
    """Return the value that was given."""
    until_s = monotonic() + parameters.delay_s
    while (left_s := until_s - monotonic()) > 0:
        context.progress(1 - left_s / parameters.delay_s, f"{left_s:.1f} s left")
        sleep(min(STEP_S, left_s))
    if context.failed_attempts < parameters.fail_attempts:
        raise EchoFailed(f"failure {context.failed_attempts + 1} of {parameters.fail_attempts}, as asked")
    return {"value": parameters.value}
