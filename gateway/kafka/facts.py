"""What a decoded record says about itself, and the port by which a domain reads it."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple


class RecordFacts(NamedTuple):
    """Whose a record is and what it is called; None where it does not say."""

    tenant: str | None = None
    event_id: str | None = None
    run_id: str | None = None  # of a record of a run
    seq: int | None = None  # of an event of a run


ReadFacts = Callable[[Any], RecordFacts]

FactReaders = Mapping[type, ReadFacts]
"""The readers of a domain, by the type of record; a type without one is shown to operators alone."""
