"""
The Python client: reports the events of agent runs to a gateway.

    async with TidegateClient("http://127.0.0.1:8080", api_key="tg_...", agent_id="clerk", secret="...") as client:
        async with client.run() as run:
            await run.event("tool_call", {"call_id": "1", "tool": "search", "arguments": {"text": "tide"}})

`SyncClient` is the same without `await`, and `traced` reports the calls of a function. `TidegateDocuments` submits
documents and searches them, `SyncDocuments` without `await`. It needs nothing else of Tidegate, and is installed alone
as the package `tidegate-client`.
"""

from gateway.client.blocking import SyncClient, SyncRun
from gateway.client.blocking_documents import SyncDocuments
from gateway.client.bounds import Bounds
from gateway.client.client import TidegateClient
from gateway.client.document_views import DocumentJob, DocumentName, Found, Hit
from gateway.client.documents import NewDocument, SubmitResult, TidegateDocuments
from gateway.client.errors import Dropped, Refused, SendAgainLater, SpoolUnusable, Undelivered
from gateway.client.run import Accepted, Run
from gateway.client.tracing import traced

__all__ = [
    "Accepted",
    "Bounds",
    "DocumentJob",
    "DocumentName",
    "Dropped",
    "Found",
    "Hit",
    "NewDocument",
    "Refused",
    "Run",
    "SendAgainLater",
    "SpoolUnusable",
    "SubmitResult",
    "SyncClient",
    "SyncDocuments",
    "SyncRun",
    "TidegateClient",
    "TidegateDocuments",
    "Undelivered",
    "traced",
]
