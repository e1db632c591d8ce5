"""What the handlers of runs work with."""

from dataclasses import dataclass

from gateway.feature import Shared
from gateway.live import LiveCursors
from gateway.objects.pages import Pages
from gateway.queries.runs import RunStore
from gateway.sequence.sequencer import Sequencer
from gateway.waiting import Waiting


@dataclass(frozen=True, slots=True, kw_only=True)
class RunParts:
    """What the handlers of runs work with."""

    shared: Shared
    sequencer: Sequencer
    store: RunStore
    pages: Pages
    live: LiveCursors
    waiting: Waiting
