"""
Resending of what earlier clients left in the spool file, in the background, before a run with the same id continues.
"""

import asyncio
import logging
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from msgspec.structs import replace

from gateway.client.bounds import Bounds
from gateway.client.delivery import Delivery, Request
from gateway.client.encoding import Agent, PendingEvent
from gateway.client.errors import SpoolUnusable
from gateway.client.sender import RunSender
from gateway.client.spool import LOCK_TIMEOUT_S, Claim, Spool
from gateway.client.spooled import Line, SpooledEnd, SpooledEnvironment, SpooledEvent, spooled_event

STOP_TIMEOUT_S = 1.0

Kind = TypeVar("Kind", SpooledEnvironment, SpooledEvent, SpooledEnd)

logger = logging.getLogger(__name__)


class Resending:
    """The use that one client makes of a spool file; without one (*spool* is None) nothing is kept and nothing sent."""

    def __init__(self, spool: Spool | None, *, agent: Agent, delivery: Delivery, bounds: Bounds) -> None:
        """Start with `start`."""
        self._spool = spool
        self._agent = agent
        self._delivery = delivery
        self._bounds = bounds
        self._sessions: dict[tuple[str, str], list[Line]] = {}  # by run and session, in the order of the file
        self._looked = asyncio.Event()  # the file was looked at
        self._settled = asyncio.Event()  # a session was sent
        self._kept = asyncio.Event()  # lines were added since
        self._idle = asyncio.Event()  # nothing is being looked for or sent
        self._task: asyncio.Task[None] | None = None
        self._claiming: asyncio.Task[Claim | None] | None = None

    @property
    def path(self) -> Path | None:
        """Return the spool file's path."""
        return None if self._spool is None else self._spool.path

    def start(self) -> None:
        """Send what is there, and what runs of this client add later."""
        if self._spool is None:
            self._looked.set()
        else:
            self._task = asyncio.create_task(self._send_all(self._spool), name="send spool")

    async def close(self) -> None:
        """Stop; what is not sent stays for the next client."""
        if self._task is None:
            return
        waits = [asyncio.create_task(event.wait()) for event in (self._idle, self._delivery.away)]
        try:
            await asyncio.wait(waits, timeout=self._bounds.close_timeout_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        self._task.cancel()
        await asyncio.wait({self._task}, timeout=STOP_TIMEOUT_S)
        if self._claiming is not None:
            await asyncio.wait({self._claiming}, timeout=LOCK_TIMEOUT_S + STOP_TIMEOUT_S)
            _put_back(self._claiming)

    async def wait_for(self, run_id: str) -> None:
        """Wait until nothing of the run is left in what was found: its numbers come before the next ones."""
        await self._looked.wait()
        while any(run_id == key[0] for key in self._sessions):
            self._settled.clear()
            await self._settled.wait()

    def keep(self, lines: Sequence[Line]) -> int:
        """Write *lines* to the spool file; return how many are there. Blocks for a moment. Raises SpoolUnusable."""
        if self._spool is None or not lines:
            return 0
        count = self._spool.append(lines)
        self._looked.clear()
        self._idle.clear()
        self._kept.set()
        return count

    async def _send_all(self, spool: Spool) -> None:
        while True:
            self._kept.clear()
            try:
                claim = await self._claim(spool)
                if claim is not None:
                    await self._send_claim(claim)
            except SpoolUnusable as error:
                logger.warning("%s", error)
            if not self._kept.is_set():
                self._looked.set()
                self._idle.set()
            await self._kept.wait()

    async def _claim(self, spool: Spool) -> Claim | None:
        # In a thread, which cannot be stopped: `close` waits for it, or its lock would outlive this client.
        self._claiming = asyncio.create_task(asyncio.to_thread(spool.claim, self._agent.agent_id))
        claim = await asyncio.shield(self._claiming)
        self._claiming = None
        return claim

    async def _send_claim(self, claim: Claim) -> None:
        for line in claim.lines:
            self._sessions.setdefault((line.run_id, line.session), []).append(line)
        self._looked.set()
        try:
            for key in list(self._sessions):
                try:
                    await self._send_session(key)
                except Exception:  # a fault of ours must not keep the other runs in the file for ever
                    logger.exception("run %s, from the spool file: dropped", key[0])
                del self._sessions[key]
                self._settled.set()
        finally:
            left = [line for lines in self._sessions.values() for line in lines]
            self._sessions.clear()
            self._settled.set()
            claim.finish(left)  # blocks for a moment, also when this is cancelled

    async def _send_session(self, key: tuple[str, str]) -> None:
        lines = self._sessions[key]
        refused: list[str] = []
        first = next((line for line in lines if not isinstance(line, SpooledEnvironment)), None)
        sender = RunSender(
            key[0],
            agent=self._agent,
            delivery=self._delivery,
            bounds=self._bounds,
            on_accepted=lambda _event, _result: None,
            on_dropped=lambda type_, code, detail: refused.append(f"{type_}: {code}: {detail}"),
            head=first.head if first is not None else 0,
            resume=first.resume if isinstance(first, SpooledEvent) else first is not None and not first.located,
        )
        try:
            await self._send_lines(sender, lines)
        finally:
            if refused:
                logger.warning("run %s, from the spool file: %d dropped, first %s", key[0], len(refused), refused[0])

    async def _send_lines(self, sender: RunSender, lines: list[Line]) -> None:
        """Send *lines*, and remove each that is settled."""
        path = f"/api/runs/{lines[0].run_id}/environment"
        for line in _of(lines, SpooledEnvironment):
            await sender.put("environment", Request(method="PUT", path=path, body=bytes(line.environment)))
            lines.remove(line)
        events = _of(lines, SpooledEvent)
        if events and events[0].resume and not events[0].head:
            await sender.locate()
        pending: Sequence[PendingEvent] = [event.pending() for event in events]
        try:
            while pending:
                batch, pending = pending[: self._bounds.batch_events_max], pending[self._bounds.batch_events_max :]
                await sender.send(batch)
        finally:
            lines[:] = _left(sender, lines, [*sender.unsettled, *pending])
        for end in _of(lines, SpooledEnd):
            await sender.finalize(end.status, lost_count=end.lost_count)
            lines.remove(end)


def _left(sender: RunSender, lines: Sequence[Line], events: Iterable[PendingEvent]) -> list[Line]:
    """Return the lines of *events*, which are not sent, and of the run's end, as things are now."""
    left: list[Line] = []
    for line in _of(lines, SpooledEvent)[:1]:
        left += [
            spooled_event(
                event,
                session=line.session,
                run_id=line.run_id,
                agent_id=line.agent_id,
                head=sender.head,
                resume=line.resume,
            )
            for event in events
        ]
    for end in _of(lines, SpooledEnd):
        # `finalize` counts what this sender lost, too; the next one does not know it.
        lost_count = end.lost_count + (sender.lost_count if left else 0)
        left.append(replace(end, head=sender.head, lost_count=lost_count, located=sender.located))
    return left


def _of(lines: Iterable[Line], kind: type[Kind]) -> list[Kind]:
    return [line for line in lines if isinstance(line, kind)]


def _put_back(claiming: "asyncio.Task[Claim | None]") -> None:
    known = claiming.done() and not claiming.cancelled() and not claiming.exception()
    claim = claiming.result() if known else None
    if claim is not None:
        with suppress(SpoolUnusable):  # then its lock is gone, and the next client finds it
            claim.finish(claim.lines)
