"""
The routes for operators and tools: probes, metrics, the description of the API.

Probes and metrics ignore parameters: load balancers and scrapers add their own (Prometheus has `params` for it), and a
probe that fails for one would take the gateway out of service.
"""

from typing import Any

from gateway.http.routes import Chapter, Handler, Route
from gateway.operations import handlers as operations
from gateway.operations.handlers import OperationsParts
from schemas.errors import ErrorCode

_PROBES = (
    Route(method="GET", path="/livez", handler=operations.livez, answer=operations.Alive, ignores_query=True),
    Route(
        method="GET",
        path="/readyz",
        handler=operations.readyz,
        answer=operations.Ready,
        also={503: "Not ready"},
        ignores_query=True,
    ),
)


def _metrics(handler: Handler[OperationsParts]) -> Route[OperationsParts]:
    return Route(
        method="GET", path="/metrics", handler=handler, answer=str, media_type="text/plain", ignores_query=True
    )


MANAGEMENT: tuple[Route[OperationsParts], ...] = (*_PROBES, _metrics(operations.metrics))

ROUTES: tuple[Route[OperationsParts], ...] = (
    *_PROBES,
    _metrics(operations.public_metrics),
    Route(
        method="GET",
        path="/openapi.json",
        handler=operations.openapi,
        answer=dict[str, Any],
        refusals=(ErrorCode.VALIDATION_ERROR,),
    ),
    Route(
        method="GET",
        path="/docs",
        handler=operations.docs,
        answer=str,
        media_type="text/html",
        refusals=(ErrorCode.VALIDATION_ERROR,),
    ),
)

CHAPTER: Chapter[OperationsParts] = Chapter(
    tag="operations",
    description="Probes, metrics and this description.",
    routes=ROUTES,
)
