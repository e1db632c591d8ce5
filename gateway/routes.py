"""Every route, once: the router and the OpenAPI document are made from this table."""

from collections.abc import Mapping
from typing import Annotated, Any

from msgspec import Meta

from gateway.handlers import batches, environments, events, operations, registry, runs, waiting, wal
from gateway.handlers.answers import Accepted, EventAccepted, EventPage, RunPage
from gateway.intake.bodies import BATCHES, MediaType
from gateway.intake.documents import EventBody, FinalizationBody
from gateway.paging import LIMIT_DEFAULT, LIMIT_MAX, WORD_PATTERN
from gateway.queries.integrity import IntegrityView
from gateway.queries.runs import EnvironmentView, RunView, Status
from gateway.queries.traces import TraceView
from gateway.receipts.views import WalReceipt, WalStatus
from gateway.route import Body, Handler, Parameter, Route
from schemas.access.credentials import Right
from schemas.errors import ErrorCode
from schemas.runs.rules import ENVIRONMENT_BYTES_MAX, EVENT_BYTES_MAX, ID_PATTERN

BATCH_BYTES_MAX = 20 * 1024 * 1024
FINALIZATION_BYTES_MAX = 4 * 1024

# What any route with a key, that writes, whose events follow one another, that reads, that looks can answer.
_KEYED = (
    ErrorCode.UNAUTHENTICATED,
    ErrorCode.FORBIDDEN,
    ErrorCode.VALIDATION_ERROR,
    ErrorCode.RATE_LIMIT_EXCEEDED,
)
_WRITES = (
    *_KEYED,
    ErrorCode.TOON_VALIDATION_ERROR,
    ErrorCode.BAD_REQUEST,
    ErrorCode.REQUEST_TIMEOUT,
    ErrorCode.PAYLOAD_TOO_LARGE,
    ErrorCode.UNSUPPORTED_MEDIA_TYPE,
    ErrorCode.BACKPRESSURE,
    ErrorCode.LOG_UNAVAILABLE,
)
_FOLLOWS = (ErrorCode.SEQUENCE_ERROR, ErrorCode.IDEMPOTENCY_CONFLICT, ErrorCode.RUN_FINALIZED)
_READS = (*_KEYED, ErrorCode.STORE_UNAVAILABLE)
_LOOKS = (*_KEYED, ErrorCode.BACKPRESSURE, ErrorCode.LOG_UNAVAILABLE)


_WORD = Annotated[str, Meta(pattern=WORD_PATTERN)]
_TIME = Annotated[str, Meta(extra_json_schema={"format": "date-time"})]
_PAGE = (
    Parameter(
        name="limit",
        type=Annotated[int, Meta(ge=1, le=LIMIT_MAX)],
        description=f"Entries a page; {LIMIT_DEFAULT} by default",
    ),
    Parameter(name="cursor", type=str, description="next_cursor of the page before"),
)

_WAIT = (
    Parameter(
        name="wait",
        type=Annotated[str, Meta(extra_json_schema={"enum": waiting.NAMES})],
        description=f"Hold the answer until this group ({', '.join(waiting.NAMES)}, or evaluation.NAME of a webhook "
        f"endpoint) has committed past the record, {waiting.WAIT_MAX_S:g} s at most; `waited` in the answer says "
        "whether it has",
    ),
)

# Probes and metrics ignore parameters: load balancers and scrapers add their own (Prometheus has `params` for it), and
# a probe that fails for one would take the gateway out of service. The registry's clients do so as well
# (`?normalize=`, `?deleted=`, `?subject=`).
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


def _metrics(handler: Handler) -> Route:
    return Route(
        method="GET", path="/metrics", handler=handler, answer=str, media_type="text/plain", ignores_query=True
    )


MANAGEMENT = (*_PROBES, _metrics(operations.metrics))


def _look_up(path: str, handler: Handler, answer: Any, mistakes: Mapping[int, str] | None = None) -> Route:
    return Route(
        method="GET",
        path=path,
        handler=handler,
        answer=answer,
        media_type=registry.MEDIA_TYPE,
        mistakes=mistakes or {},
        mistake=registry.Mistake,
        ignores_query=True,
    )


REGISTRY = (
    _look_up("/subjects", registry.list_subjects, list[str]),
    Route(
        method="POST",
        path="/subjects/{subject}",
        handler=registry.find_version,
        answer=registry.RegisteredSchema,
        body=Body(
            type=registry.SchemaOfId,
            bytes_max=registry.SCHEMA_BYTES_MAX,
            media_types=(registry.MEDIA_TYPE, MediaType.JSON),
            packed=False,
        ),
        refusals=(
            ErrorCode.BAD_REQUEST,
            ErrorCode.REQUEST_TIMEOUT,
            ErrorCode.PAYLOAD_TOO_LARGE,
            ErrorCode.UNSUPPORTED_MEDIA_TYPE,
        ),
        media_type=registry.MEDIA_TYPE,
        mistakes=registry.NO_SUCH_SCHEMA_OF_SUBJECT,
        mistake=registry.Mistake,
        ignores_query=True,
    ),
    _look_up("/subjects/{subject}/versions", registry.list_versions, list[int], registry.NO_SUCH_SUBJECT),
    _look_up(
        "/subjects/{subject}/versions/{version}",
        registry.show_version,
        registry.RegisteredSchema,
        registry.NO_SUCH_VERSION,
    ),
    _look_up(
        "/subjects/{subject}/versions/{version}/schema",
        registry.show_version_schema,
        dict[str, Any],
        registry.NO_SUCH_VERSION,
    ),
    _look_up("/schemas/ids/{id}", registry.show_schema, registry.SchemaOfId, registry.NO_SUCH_SCHEMA),
    _look_up(
        "/schemas/ids/{id}/versions",
        registry.list_schema_versions,
        list[registry.SubjectVersion],
        registry.NO_SUCH_SCHEMA,
    ),
    _look_up("/schemas/ids/{id}/subjects", registry.list_schema_subjects, list[str], registry.NO_SUCH_SCHEMA),
    _look_up("/schemas/types", registry.list_schema_types, list[str]),
    _look_up("/config", registry.show_compatibility, registry.Compatibility),
    _look_up(
        "/config/{subject}", registry.show_subject_compatibility, registry.Compatibility, registry.NO_SUCH_SUBJECT
    ),
    _look_up("/mode", registry.show_mode, registry.Mode),
)

ROUTES = (
    Route(
        method="POST",
        path="/api/runs/{run_id}/events",
        handler=events.accept_event,
        answer=EventAccepted,
        status=202,
        right=Right.INGEST,
        body=Body(type=EventBody, bytes_max=EVENT_BYTES_MAX),
        query=_WAIT,
        refusals=(*_WRITES, *_FOLLOWS, ErrorCode.SIGNATURE_INVALID, ErrorCode.STORE_UNAVAILABLE),
    ),
    Route(
        method="GET",
        path="/api/runs/{run_id}/events",
        handler=events.list_events,
        answer=EventPage,
        right=Right.READ,
        query=(
            Parameter(name="type", type=_WORD, description="Only events of this type"),
            Parameter(name="actor", type=_WORD, description="Only events of this actor"),
            Parameter(
                name="resolve",
                type=bool,
                description="true: show payloads that are kept in object storage too; `payload_problem` says where "
                "one cannot be shown. By default payload is null there, and payload_ref names it",
            ),
            *_PAGE,
        ),
        refusals=(*_READS, ErrorCode.NOT_FOUND),
    ),
    Route(
        method="POST",
        path="/api/runs/{run_id}/events/batch",
        handler=batches.accept_batch,
        answer=batches.BatchAnswer,
        status=202,
        also={207: "Not all of the events are in the log"},
        right=Right.INGEST,
        body=Body(type=list[EventBody], bytes_max=BATCH_BYTES_MAX, media_types=BATCHES),
        query=_WAIT,
        refusals=(*_WRITES, ErrorCode.STORE_UNAVAILABLE),
    ),
    Route(
        method="POST",
        path="/api/runs/{run_id}/finalize",
        handler=runs.finalize_run,
        answer=Accepted,
        status=202,
        right=Right.INGEST,
        body=Body(type=FinalizationBody, bytes_max=FINALIZATION_BYTES_MAX),
        query=_WAIT,
        refusals=(*_WRITES, ErrorCode.IDEMPOTENCY_CONFLICT),
    ),
    Route(
        method="PUT",
        path="/api/runs/{run_id}/environment",
        handler=environments.capture_environment,
        answer=Accepted,
        status=202,
        right=Right.INGEST,
        body=Body(type=dict[str, Any], bytes_max=ENVIRONMENT_BYTES_MAX),
        query=_WAIT,
        refusals=_WRITES,
    ),
    Route(
        method="GET",
        path="/api/runs/{run_id}/environment",
        handler=environments.show_environment,
        answer=EnvironmentView,
        right=Right.READ,
        refusals=(*_READS, ErrorCode.NOT_FOUND),
    ),
    Route(
        method="GET",
        path="/api/runs/{run_id}/trace",
        handler=runs.show_trace,
        answer=TraceView,
        right=Right.READ,
        refusals=(*_READS, ErrorCode.NOT_FOUND),
    ),
    Route(
        method="GET",
        path="/api/runs/{run_id}/integrity",
        handler=runs.show_integrity,
        answer=IntegrityView,
        right=Right.READ,
        refusals=(*_READS, ErrorCode.NOT_FOUND),
    ),
    Route(
        method="GET",
        path="/api/runs/{run_id}",
        handler=runs.show_run,
        answer=RunView,
        right=Right.READ,
        refusals=(*_READS, ErrorCode.NOT_FOUND),
    ),
    Route(
        method="GET",
        path="/api/runs",
        handler=runs.list_runs,
        answer=RunPage,
        right=Right.READ,
        query=(
            Parameter(
                name="agent", type=Annotated[str, Meta(pattern=ID_PATTERN)], description="Only runs of this agent"
            ),
            Parameter(name="status", type=Status, description="Only runs of this status"),
            Parameter(name="from", type=_TIME, description="Only runs started at this time (RFC 3339) or later"),
            Parameter(name="to", type=_TIME, description="Only runs started before this time (RFC 3339)"),
            *_PAGE,
        ),
        refusals=_READS,
    ),
    Route(
        method="GET",
        path="/api/wal/status",
        handler=wal.show_status,
        answer=WalStatus,
        right=Right.READ,
        refusals=_LOOKS,
    ),
    Route(
        method="GET",
        path="/api/wal/{topic}/{partition}/{offset}",
        handler=wal.show_receipt,
        answer=WalReceipt,
        right=Right.READ,
        refusals=(*_LOOKS, ErrorCode.NOT_FOUND),
    ),
    *REGISTRY,
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
