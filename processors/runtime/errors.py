"""Why a slice was not settled, named after what the loop does next. `schemas.errors.Poison` is the third kind."""


class Transient(Exception):
    """What the effect needs is away. Wait with backoff and try the same slice again; drop nothing."""


class Unsettled(Exception):
    """Nothing here can settle it: a bug, or a state of the log that a person must look at. End the process."""


class RecordRefused(Exception):
    """The log does not take a record as it is: it is too large, or breaks a rule of its topic. Never repeat it."""
