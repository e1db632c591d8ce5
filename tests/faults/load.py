"""`tidegate send` beside a test, with its ledger."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.faults.checker import Ledger, read_ledger
from tests.faults.processes import for_a_while, paused
from tests.support.stack import RunningStack, wait_until

WORKERS = 20  # requests in flight; the rate is each worker's
RUNS = 40
USERS = 20
ACCEPTED_WITHIN_S = 90.0
END_S = 60.0
WRITTEN_S = 2.0  # from an answer to its line, on a busy machine


class Load:
    """A sender that runs, or has run."""

    def __init__(self, ledger: Path, pid: int) -> None:
        """Follow *ledger*, which the process *pid* writes."""
        self._pid = pid
        self.summary: dict[str, Any] = {}  # what the sender printed; empty until its end
        self._ledger = ledger
        self._read_bytes = 0
        self._accepted = 0

    @property
    def ledger(self) -> Ledger:
        """Return what is known of each event so far."""
        return read_ledger(self._ledger)

    def accepted(self) -> int:
        """Return how many events were answered 202 so far."""
        if self._ledger.exists():
            with self._ledger.open("rb") as file:
                file.seek(self._read_bytes)
                whole, newline, _ = file.read().rpartition(b"\n")
            self._read_bytes += len(whole + newline)
            self._accepted += whole.count(b'"ok"')
        return self._accepted

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Send nothing meanwhile; what is in flight arrives."""
        with paused([self._pid]):
            yield

    def wait_for(self, more: int = 300) -> None:
        """Wait until *more* events were accepted than now."""
        start = self.accepted()
        wait_until(
            lambda: self.accepted() >= start + more, timeout_s=ACCEPTED_WITHIN_S, what="events to be accepted again"
        )

    def demand_none(self, for_s: float) -> None:
        """Demand that no event is accepted meanwhile, once those answered before are in the ledger."""
        for_a_while(WRITTEN_S)
        before = self.accepted()
        for_a_while(for_s)
        assert self.accepted() == before, "events are accepted"


@contextmanager
def sending(
    stack: RunningStack,
    ledger: Path,
    *,
    url: str | None = None,
    rate: float = 20,
    payload_bytes: int = 200,
    first: int = 300,
    retry_for_s: float = 30,
    user_events: bool = False,
    users: int = USERS,
    batch: int = 1,
) -> Iterator[Load]:
    """
    Send about *rate* times `WORKERS` events a second, to *url* or the stack's gateway; begin when *first* are in.

    They are events of runs, or *user_events* of so many *users*, who are workers too, *batch* of them a request.
    """
    printed = ledger.with_suffix(".summary")
    with printed.open("wb") as out:
        sender = subprocess.Popen(
            [
                *(sys.executable, "-m", "deploy.cli.app", "send", "--dir", str(stack.folder), "--json"),
                *("--burst", "0", "--rate", str(rate), "--workers", str(WORKERS), "--runs", str(RUNS)),
                *("--size", str(payload_bytes)),
                *("--retry-for", str(retry_for_s), "--ledger", str(ledger)),
                *(("--url", url) if url else ()),
                *(("--events", "--users", str(users), "--batch", str(batch)) if user_events else ()),
            ],
            stdout=out,
        )
    load = Load(ledger, sender.pid)
    try:
        load.wait_for(first)
        yield load
    finally:
        sender.terminate()
        sender.wait(END_S)
    load.summary = json.loads(printed.read_text())
