"""
A watchdog that ends a process whose loop or fetching has stopped.

It is a thread: Faust and its driver can hang in ways that no coroutine of the same loop would see (a blocked call, a
fetch that never returns, an app that crashed and waits for itself). The committed offsets bring the work back.
"""

import threading
from collections.abc import Callable
from time import monotonic

CHECK_S = 5.0


class Watchdog:
    """A watch on named beats; the first that stays away longer than its patience is fatal."""

    def __init__(
        self, patience_s: float, *, fatal: Callable[[str], None], clock: Callable[[], float] = monotonic
    ) -> None:
        """Call *fatal* with the name of a beat that stayed away for *patience_s*; `start` begins to watch."""
        self._patience_s = patience_s
        self._fatal = fatal
        self._clock = clock
        self._beats: dict[str, float] = {}
        self._stopped = threading.Event()

    def beat(self, name: str) -> None:
        """Note that *name* turned; the first beat of a name begins its watch."""
        self._beats[name] = self._clock()

    def late(self) -> str | None:
        """Return the name of a beat that is overdue, or None."""
        now_s = self._clock()
        return next((name for name, at_s in list(self._beats.items()) if now_s - at_s > self._patience_s), None)

    def start(self) -> None:
        """Watch from a thread of its own until `stop`."""
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()

    def stop(self) -> None:
        """Watch no longer."""
        self._stopped.set()

    def _watch(self) -> None:
        while not self._stopped.wait(CHECK_S):
            name = self.late()
            if name is not None:
                self._fatal(name)
                return
