"""What the handlers of runs work with."""

from dataclasses import dataclass

from gateway.http.feature import Shared
from gateway.http.waiting import Waiting
from gateway.runs.live import LiveCursors
from gateway.runs.pages import Pages
from gateway.runs.sequence.sequencer import Sequencer
from gateway.runs.store import RunStore


@dataclass(frozen=True, slots=True, kw_only=True)
class RunParts:
    """What the handlers of runs work with."""

    shared: Shared
    sequencer: Sequencer
    store: RunStore
    pages: Pages
    live: LiveCursors
    waiting: Waiting
