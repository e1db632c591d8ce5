"""
The reasons why a slice was not settled, named after the loop's next step. `schemas.errors.Poison` is the third kind.
"""


class Transient(Exception):
    """A dependency of the effect is unavailable. Wait with backoff and retry the same slice; drop nothing."""

    def __init__(self, reason: str = "", *, retry_after_s: float | None = None) -> None:
        """Name in *reason* what is away; wait for *retry_after_s*, or for as long as the backoff of the loop says."""
        super().__init__(reason)
        self.retry_after_s = retry_after_s


class Misconfigured(Transient):
    """Only a person can mend what is in the way, such as a wrong setting. Report the partition as halted, and retry."""


class Unsettled(Exception):
    """Nothing here can settle it: a bug, or a state of the log that a person must look at. End the process."""


class RecordRefused(Exception):
    """The log does not take a record as it is: it is too large, or breaks a rule of its topic. Never repeat it."""


class LogRewritten(Exception):
    """
    A place of the log holds another record than the one whose effect is kept: the log was cut off and written again.

    Stop the partition until an operator accepts the log; the others go on.
    """

    def __init__(self, offset: int, detail: str) -> None:
        """Name the *offset* of the place, and say in *detail* what was found."""
        super().__init__(detail)
        self.offset = offset
