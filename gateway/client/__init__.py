"""
The Python client: reports the events of agent runs to a gateway.

    async with TidegateClient("http://127.0.0.1:8080", api_key="tg_...", agent_id="clerk", secret="...") as client:
        async with client.run() as run:
            await run.event("tool_call", {"call_id": "1", "tool": "search", "arguments": {"text": "tide"}})

It needs `schemas` and nothing else of Tidegate.
"""

from gateway.client.bounds import Bounds
from gateway.client.client import TidegateClient
from gateway.client.errors import Dropped, Refused, SendAgainLater, Undelivered
from gateway.client.run import Accepted, Run

__all__ = ["Accepted", "Bounds", "Dropped", "Refused", "Run", "SendAgainLater", "TidegateClient", "Undelivered"]
