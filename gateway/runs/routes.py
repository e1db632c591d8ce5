"""The routes of runs."""

from typing import Annotated, Any

from msgspec import Meta

from gateway.http.bodies import BATCHES
from gateway.http.paging import BY_CURSOR, WORD_PATTERN
from gateway.http.refusals import FOLLOWS, READS, WRITES
from gateway.http.routes import BodySpec, Chapter, Parameter, Route
from gateway.http.waiting import wait_parameter
from gateway.runs.handlers import batches, environments, events, runs
from gateway.runs.handlers.answers import Accepted, EventAccepted, EventPage, RunPage
from gateway.runs.integrity import IntegrityView
from gateway.runs.parsing.bodies import EventBody, FinalizationBody
from gateway.runs.parts import RunParts
from gateway.runs.traces import TraceView
from schemas.access.credentials import Right
from schemas.errors import ErrorCode
from schemas.ids import ID_PATTERN
from schemas.runs.rules import ENVIRONMENT_BYTES_MAX, EVENT_BYTES_MAX
from schemas.runs.topics import DOMAIN
from schemas.runs.views import EnvironmentView, RunView, Status

BATCH_BYTES_MAX = 20 * 1024 * 1024
FINALIZATION_BYTES_MAX = 4 * 1024

# Of every deployment; an endpoint's group, such as evaluation.default, can be waited for by its name as well.
NAMES = tuple(group.name for group in DOMAIN.groups)

_WORD = Annotated[str, Meta(pattern=WORD_PATTERN)]
_TIME = Annotated[str, Meta(extra_json_schema={"format": "date-time"})]
_WAIT = (wait_parameter(NAMES, others=", or evaluation.NAME of a webhook endpoint"),)

ROUTES: tuple[Route[RunParts], ...] = (
    Route(
        method="POST",
        path="/api/runs/{run_id}/events",
        handler=events.accept_event,
        answer=EventAccepted,
        status=202,
        right=Right.INGEST,
        body=BodySpec(type=EventBody, bytes_max=EVENT_BYTES_MAX),
        query=_WAIT,
        refusals=(*WRITES, *FOLLOWS, ErrorCode.SIGNATURE_INVALID, ErrorCode.STORE_UNAVAILABLE),
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
            *BY_CURSOR,
        ),
        refusals=(*READS, ErrorCode.NOT_FOUND),
    ),
    Route(
        method="POST",
        path="/api/runs/{run_id}/events/batch",
        handler=batches.accept_batch,
        answer=batches.BatchAnswer,
        status=202,
        also={207: "Not all of the events are in the log"},
        right=Right.INGEST,
        body=BodySpec(type=list[EventBody], bytes_max=BATCH_BYTES_MAX, media_types=BATCHES),
        query=_WAIT,
        refusals=(*WRITES, ErrorCode.STORE_UNAVAILABLE),
    ),
    Route(
        method="POST",
        path="/api/runs/{run_id}/finalize",
        handler=runs.finalize_run,
        answer=Accepted,
        status=202,
        right=Right.INGEST,
        body=BodySpec(type=FinalizationBody, bytes_max=FINALIZATION_BYTES_MAX),
        query=_WAIT,
        refusals=(*WRITES, ErrorCode.IDEMPOTENCY_CONFLICT),
    ),
    Route(
        method="PUT",
        path="/api/runs/{run_id}/environment",
        handler=environments.capture_environment,
        answer=Accepted,
        status=202,
        right=Right.INGEST,
        body=BodySpec(type=dict[str, Any], bytes_max=ENVIRONMENT_BYTES_MAX),
        query=_WAIT,
        refusals=WRITES,
    ),
    Route(
        method="GET",
        path="/api/runs/{run_id}/environment",
        handler=environments.show_environment,
        answer=EnvironmentView,
        right=Right.READ,
        refusals=(*READS, ErrorCode.NOT_FOUND),
    ),
    Route(
        method="GET",
        path="/api/runs/{run_id}/trace",
        handler=runs.show_trace,
        answer=TraceView,
        right=Right.READ,
        refusals=(*READS, ErrorCode.NOT_FOUND),
    ),
    Route(
        method="GET",
        path="/api/runs/{run_id}/integrity",
        handler=runs.show_integrity,
        answer=IntegrityView,
        right=Right.READ,
        refusals=(*READS, ErrorCode.NOT_FOUND),
    ),
    Route(
        method="GET",
        path="/api/runs/{run_id}",
        handler=runs.show_run,
        answer=RunView,
        right=Right.READ,
        refusals=(*READS, ErrorCode.NOT_FOUND),
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
            *BY_CURSOR,
        ),
        refusals=READS,
    ),
)

CHAPTER: Chapter[RunParts] = Chapter(
    tag="runs",
    description="Runs: send their events, and read what is stored.",
    routes=ROUTES,
)
