"""
Use the client that was generated from openapi.json once: send, read back, be refused. Prints what came as JSON.

usage: use.py FOLDER_OF_THE_CLIENT, with GATEWAY, API_KEY and RUN_ID in the environment
"""

import json
import os
import sys
from datetime import UTC, datetime

sys.path.insert(0, sys.argv[1])

from tidegate_generated import AuthenticatedClient
from tidegate_generated.api.runs import accept_event, finalize_run, list_events, list_runs, show_integrity, show_trace
from tidegate_generated.models import (
    AcceptEventWait,
    EventAccepted,
    EventBody,
    EventBodyMeta,
    EventPage,
    FinalizationBody,
    FinalizeRunWait,
    IntegrityView,
    ProblemDocument,
    RunPage,
    RunStatus,
    TraceView,
)

RUN_ID = os.environ["RUN_ID"]


def event(seq: int) -> EventBody:
    """Return an event of the run."""
    return EventBody(
        seq=seq,
        t=datetime(2026, 1, 1, tzinfo=UTC),
        actor="agent",
        type_="message",
        payload={"text": "the tide comes in", "number": 1.5},
        meta=EventBodyMeta(run_id=RUN_ID, agent_id="plain-agent", idempotency_key=f"key-{seq}"),
    )


with AuthenticatedClient(base_url=os.environ["GATEWAY"], token=os.environ["API_KEY"]) as client:
    sent = accept_event.sync(RUN_ID, client=client, body=event(1), wait=AcceptEventWait.PERSISTENCE)
    assert isinstance(sent, EventAccepted), sent
    page = list_events.sync(RUN_ID, client=client, limit=10)
    assert isinstance(page, EventPage), page
    refused = accept_event.sync(RUN_ID, client=client, body=event(5))
    assert isinstance(refused, ProblemDocument), refused
    invalid = list_runs.sync(client=client, limit=0)
    assert isinstance(invalid, ProblemDocument), invalid
    runs = list_runs.sync(client=client, agent="plain-agent")
    assert isinstance(runs, RunPage), runs
    body = FinalizationBody(status=RunStatus.SUCCEEDED)
    finalize_run.sync(RUN_ID, client=client, body=body, wait=FinalizeRunWait.PERSISTENCE)
    integrity = show_integrity.sync(RUN_ID, client=client)
    assert isinstance(integrity, IntegrityView), integrity
    trace = show_trace.sync(RUN_ID, client=client)
    assert isinstance(trace, TraceView), trace

json.dump(
    {
        "status": sent.status.value,
        "wal_id": sent.wal_id,
        "payload": page.events[0].payload,
        "payload_wal_id": page.events[0].wal_id,
        "refused": [refused.status, refused.code.value, refused.expected_seq],
        "invalid": [invalid.status, invalid.code.value, [each.parameter for each in invalid.errors or []]],
        "listed": RUN_ID in [run.run_id for run in runs.runs],
        "missing": integrity.missing.ranges,
        "traced": [trace.event_count, trace.types.to_dict()],
    },
    sys.stdout,
)
