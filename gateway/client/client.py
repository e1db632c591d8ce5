"""The client's front: one connection, one agent, any number of runs at once."""

import asyncio
import json
import os
import uuid
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from gateway.client.bounds import Bounds
from gateway.client.delivery import Delivery
from gateway.client.environment import capture
from gateway.client.run import Agent, Run


class TidegateClient:
    """
    Reports runs of one agent to one gateway.

    With *secret* every event is signed. *variables* names the environment variables that each run's record of
    its surroundings shows (secrets redacted); *model* is what the agent thinks with, if it does.
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
        bounds: Bounds | None = None,
        trust_env: bool = False,
    ) -> None:
        """Take the gateway's address, such as http://127.0.0.1:8080; nothing is opened before entry."""
        self._bounds = bounds or Bounds()
        self._agent = Agent(agent_id=agent_id, secret=secret)
        self._model = model
        self._variables = variables
        self._delivery = Delivery(url, api_key=api_key, bounds=self._bounds, trust_env=trust_env)
        self._environment = b"{}"

    async def __aenter__(self) -> Self:
        """Connect, and capture the environment once for all runs."""
        environment = await asyncio.to_thread(  # it starts git and reads every package's metadata
            capture, variables=self._variables, model=self._model, environ=os.environ, folder=Path.cwd()
        )
        self._environment = json.dumps(environment).encode()
        await self._delivery.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connection; every run has ended before."""
        await self._delivery.__aexit__(kind, error, trace)

    def run(self, run_id: str | None = None) -> Run:
        """A new run, to be entered with `async with`; it is finalized on exit."""
        return Run(
            run_id or str(uuid.uuid4()),
            agent=self._agent,
            delivery=self._delivery,
            environment=self._environment,
            bounds=self._bounds,
        )
