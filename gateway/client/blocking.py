"""
The client for programs without an event loop: the same client, run by a thread of its own.

A client that is not closed is closed at the interpreter's exit. After a fork the child's thread is gone: the child's
first run starts another one, and events of runs that the parent has open are dropped there, since the parent numbers
them.
"""

import atexit
import logging
from collections.abc import Callable, Sequence
from contextvars import Token
from datetime import datetime
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

from gateway.client.bounds import Bounds
from gateway.client.client import TidegateClient
from gateway.client.current import CURRENT_RUN
from gateway.client.errors import Dropped
from gateway.client.loop_thread import MARGIN_S, LoopThread
from gateway.client.run import Accepted, Run

START_TIMEOUT_S = 10.0

logger = logging.getLogger(__name__)


class SyncClient:
    """
    `TidegateClient` without `await`.

        with SyncClient(url, api_key="tg_...", agent_id="clerk", secret="...") as client:
            with client.run() as run:
                run.event("message", {"text": "high water at 14:02"})

    The parameters are those of `TidegateClient`.
    """

    def __init__(
        self,
        url: str,
        *,
        api_key: str,
        agent_id: str,
        secret: str | None = None,
        model: str | None = None,
        variables: Sequence[str] = (),
        environment: bool = True,
        bounds: Bounds | None = None,
        spool: str | Path | None = None,
        strict: bool = False,
        trust_env: bool = False,
    ) -> None:
        """Take the gateway's address; nothing is opened before entry, or `open`."""
        self._bounds = bounds or Bounds()

        self._make = partial(
            TidegateClient,
            url,
            api_key=api_key,
            agent_id=agent_id,
            secret=secret,
            model=model,
            variables=variables,
            environment=environment,
            bounds=bounds,
            spool=spool,
            strict=strict,
            trust_env=trust_env,
        )
        self._make()  # a wrong parameter is reported here
        self._thread: LoopThread | None = None
        self._client: TidegateClient
        self._runs: set[SyncRun] = set()

    def __enter__(self) -> Self:
        """Open the client."""
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the client."""
        self.close()

    def open(self) -> None:
        """Start the thread and connect; `close` or the interpreter's exit ends it."""
        if self._thread is not None and self._thread.is_of_this_process:
            return
        self._thread = LoopThread()
        self._runs = set()
        self._client = self._make()
        self._thread.wait(self._client.__aenter__(), START_TIMEOUT_S)
        atexit.register(self.close)

    def run(self, run_id: str | None = None, *, resume: bool = False, finalize: bool = True) -> "SyncRun":
        """Return a new run, to be entered with `with`; see `TidegateClient.run`."""
        if self._thread is None:
            raise RuntimeError("the client is not open: use `with SyncClient(...) as client`, or call open()")
        self.open()  # in a forked child
        run = SyncRun(self._client.run(run_id, resume=resume, finalize=finalize), self._thread, self._bounds)
        self._runs.add(run)
        run.on_end = self._runs.discard
        return run

    def close(self) -> None:
        """End what is open, and stop the thread."""
        atexit.unregister(self.close)
        thread, self._thread = self._thread, None
        if thread is None or not thread.is_of_this_process:
            return
        for run in list(self._runs):
            run.flush()
        try:
            thread.wait(self._client.__aexit__(None, None, None), self._bounds.close_timeout_s + MARGIN_S)
        except TimeoutError:
            logger.warning("the client did not close in time")
        thread.stop()


class SyncRun:
    """
    `Run` without `await`; made by `SyncClient.run`.

        with client.run() as run:
            run.event("message", {"text": "high water at 14:02"})
    """

    def __init__(self, run: Run, thread: "LoopThread", bounds: Bounds) -> None:
        """Wrap *run*, which *thread* serves."""
        self.on_end: Callable[[SyncRun], None] = _ignore
        self._run = run
        self._thread = thread
        self._bounds = bounds
        self._token: Token[Run | None] | None = None
        self._open = False

    @property
    def id(self) -> str:
        """Return the run's id."""
        return self._run.id

    @property
    def event_count(self) -> int:
        """See `Run.event_count`."""
        return self._run.event_count

    @property
    def accepted_count(self) -> int:
        """See `Run.accepted_count`."""
        return self._run.accepted_count

    @property
    def dropped_count(self) -> int:
        """See `Run.dropped_count`."""
        return self._run.dropped_count

    @property
    def spooled_count(self) -> int:
        """See `Run.spooled_count`."""
        return self._run.spooled_count

    @property
    def receipts(self) -> tuple[Accepted, ...]:
        """See `Run.receipts`."""
        return self._run.receipts

    @property
    def dropped(self) -> tuple[Dropped, ...]:
        """See `Run.dropped`."""
        return self._run.dropped

    def event(
        self,
        type: str,  # noqa: A002
        payload: object,
        *,
        actor: str = "agent",
        at: datetime | None = None,
    ) -> None:
        """Add an event; see `Run.event`."""
        if not self._thread.serves:  # after a fork, or the client's end: it is dropped and reported
            self._run.event_nowait(type, payload, actor=actor, at=at)
            return
        adding = self._run.event(type, payload, actor=actor, at=at)
        try:
            self._thread.wait(adding, self._bounds.event_timeout_s + MARGIN_S)
        except TimeoutError:
            logger.warning("run %s: the client's thread is busy; an event waits for it", self.id)

    def fail(self, reason: BaseException | str | None = None) -> None:
        """End the run as failed when its block ends, without raising; see `Run.fail`."""
        if not self._thread.serves:  # after a fork, or the client's end: nothing ends the run here
            logger.warning("run %s: not marked as failed, since its client does not run in this process", self.id)
            return
        try:
            self._thread.wait(self._run.fail(reason), self._bounds.event_timeout_s + MARGIN_S)
        except TimeoutError:
            logger.warning("run %s: the client's thread is busy; the run ends as failed once it is free", self.id)

    def __enter__(self) -> Self:
        """Start sending."""
        self._thread.wait(self._start(), START_TIMEOUT_S)
        self._open = True
        self._token = CURRENT_RUN.set(self._run)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Send what waits and end the run; see `Run.end`."""
        if self._token is not None:
            try:
                CURRENT_RUN.reset(self._token)
            except ValueError:  # it was entered in another context
                CURRENT_RUN.set(None)
        self._end(error)

    def flush(self) -> None:
        """Send what waits at the program's end, for a run whose block never ended; it ends as cancelled."""
        if self._open:
            self._end(KeyboardInterrupt())

    async def _start(self) -> None:
        self._run.start()

    def _end(self, error: BaseException | None) -> None:
        if not self._open:
            return
        self._open = False
        self.on_end(self)
        if not self._thread.serves:  # a forked child leaves the parent's block
            return
        try:
            self._thread.wait(self._run.end(error), self._bounds.close_max_s + MARGIN_S)
        except TimeoutError:
            logger.warning("run %s did not end in time", self.id)


def _ignore(_run: SyncRun) -> None:
    pass
