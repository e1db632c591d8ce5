"""
The Python client: reports the events of agent runs to a gateway.

    async with TidegateClient("http://127.0.0.1:8080", api_key="tg_...", agent_id="clerk", secret="...") as client:
        async with client.run() as run:
            await run.event("tool_call", {"call_id": "1", "tool": "search", "arguments": {"text": "tide"}})

`SyncClient` is the same without `await`, and `traced` reports the calls of a function. It needs nothing else of
Tidegate, and is installed alone as the package `tidegate-client`.
"""

from gateway.client.blocking import SyncClient, SyncRun
from gateway.client.bounds import Bounds
from gateway.client.client import TidegateClient
from gateway.client.errors import Dropped, Refused, SendAgainLater, SpoolUnusable, Undelivered
from gateway.client.run import Accepted, Run
from gateway.client.tracing import traced

__all__ = [
    "Accepted",
    "Bounds",
    "Dropped",
    "Refused",
    "Run",
    "SendAgainLater",
    "SpoolUnusable",
    "SyncClient",
    "SyncRun",
    "TidegateClient",
    "Undelivered",
    "traced",
]
