"""The run that a function reports to: the one that was entered last, in this task or thread."""

from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # a run sets it, so it cannot be imported here
    from gateway.client.run import Run

CURRENT_RUN: ContextVar["Run | None"] = ContextVar("tidegate_run", default=None)
