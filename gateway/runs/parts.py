"""The dependencies of the handlers of runs."""

from dataclasses import dataclass

from gateway.http.feature import Shared
from gateway.http.waiting import Waiting
from gateway.runs.live import LiveCursors
from gateway.runs.pages import Pages
from gateway.runs.sequence.sequencer import Sequencer
from gateway.runs.store import RunStore


@dataclass(frozen=True, slots=True, kw_only=True)
class RunParts:
    """The dependencies of the handlers of runs."""

    shared: Shared
    sequencer: Sequencer
    store: RunStore
    pages: Pages
    live: LiveCursors
    waiting: Waiting
