"""Facts about a decoded record, and the functions by which a domain supplies them."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple


class RecordFacts(NamedTuple):
    """The tenant and identifiers of a record; None where it has none."""

    tenant: str | None = None
    event_id: str | None = None
    run_id: str | None = None  # of a record of a run
    seq: int | None = None  # of an event of a run


ReadFacts = Callable[[Any], RecordFacts]

FactReaders = Mapping[type, ReadFacts]
"""The readers of a domain, by the type of record; a type without one is shown to operators alone."""
