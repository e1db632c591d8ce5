"""The client's front: one connection, one agent, any number of runs at once."""

import asyncio
import json
import logging
import os
import uuid
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from gateway.client.bounds import Bounds
from gateway.client.delivery import Delivery
from gateway.client.encoding import Agent
from gateway.client.environment import capture
from gateway.client.failures import scrubber_of
from gateway.client.resending import Resending
from gateway.client.run import Run, RunParts
from gateway.client.spool import Spool
from schemas.ids import is_id

logger = logging.getLogger(__name__)


class TidegateClient:
    """
    A client that reports runs of one agent to one gateway.

        async with TidegateClient(url, api_key="tg_...", agent_id="clerk", secret="...") as client:
            async with client.run() as run:
                await run.event("message", {"text": "high water at 14:02"})

    A gateway that is away neither stops nor delays the program for long: see `Bounds`. What cannot be delivered is
    dropped, logged once and listed in `Run.dropped`, or kept in *spool*, a file that the next client with the same path
    and agent sends. With *strict* an invalid event and an incomplete run raise instead.

    With *secret* every event is signed. *variables* names the environment variables that each run's record of
    its surroundings shows (secrets redacted); *model* is what the agent thinks with, if it does. With *environment*
    False no such record is made.
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
        """Take the gateway's address, such as http://127.0.0.1:8080; nothing is opened before entry."""
        if not isinstance(agent_id, str) or not is_id(agent_id):
            raise ValueError(f"agent_id {agent_id!r} does not match [A-Za-z0-9._:-]{{1,128}}")
        if not api_key.isascii() or not api_key.isprintable():
            raise ValueError("api_key holds characters that an HTTP header cannot carry: pass tg_<id>_<secret>")
        if secret is not None and not _is_text(secret):
            raise ValueError("secret cannot be encoded as UTF-8: pass the agent's secret from the credentials")
        self._bounds = bounds or Bounds()
        self._agent = Agent(agent_id=agent_id, secret=secret)
        self._model = model
        self._variables = variables
        self._captures = environment
        self._strict = strict
        self._scrubber = scrubber_of([api_key, api_key.rpartition("_")[2], secret])
        self._delivery = Delivery(url, api_key=api_key, bounds=self._bounds, trust_env=trust_env)
        self._spool = None if spool is None else Spool(Path(spool), bytes_max=self._bounds.spool_bytes_max)
        self._parts: RunParts

    async def __aenter__(self) -> Self:
        """Open the connection, and capture the environment in the background, once for all runs."""
        await self._delivery.__aenter__()
        resending = Resending(self._spool, agent=self._agent, delivery=self._delivery, bounds=self._bounds)
        self._parts = RunParts(
            agent=self._agent,
            delivery=self._delivery,
            bounds=self._bounds,
            environment=asyncio.create_task(self._capture(), name="capture environment"),
            scrubber=self._scrubber,
            resending=resending,
            strict=self._strict,
        )
        resending.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connection; every run has ended before."""
        try:
            await self._parts.resending.close()
        finally:
            self._parts.environment.cancel()
            await self._delivery.__aexit__(kind, error, trace)

    def run(self, run_id: str | None = None, *, resume: bool = False, finalize: bool = True) -> Run:
        """
        Return a new run, to be entered with `async with`; it is finalized on exit.

        With *resume* it goes on with the run *run_id* that another process began: the gateway says where it stands.
        With *finalize* False it stays open, for another process to go on with.
        """
        if resume and run_id is None:
            raise ValueError("resume=True needs the id of the run to go on with: run(run_id, resume=True)")
        return Run(run_id or str(uuid.uuid4()), parts=self._parts, resume=resume, finalize=finalize)

    async def _capture(self) -> bytes | None:
        if not self._captures:
            return None
        try:
            environment = await asyncio.to_thread(  # it starts git and reads every package's metadata
                capture, variables=self._variables, model=self._model, environ=os.environ, folder=_working_folder()
            )
            return json.dumps(environment).encode()
        except Exception:  # what a run ran in is not worth the run
            logger.exception("the environment could not be captured")
            return b"{}"


def _working_folder() -> Path | None:
    try:
        return Path.cwd()
    except OSError:  # it was deleted, or may not be read
        return None


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
