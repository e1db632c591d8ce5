"""Receipts of commands: what intake made of them, told to their tenant."""

import pytest

from gateway.jobs.settings import JobSettings
from gateway.kafka.effect import Effect
from gateway.kafka.reader import Edges
from schemas.kafka.places import RecordPlace
from tests.support import builders
from tests.support.fakes import log_record
from tests.support.job_views import JOB, ask, job_view
from tests.unit.gateway.conftest import Served

PLACE = RecordPlace("jobs.commands", 0, 0)


@pytest.fixture
def job_settings() -> JobSettings:
    """Return the settings by default."""
    return JobSettings()


async def test_a_receipt_says_what_became_of_a_command(served: Served) -> None:
    served.jobs.stored = {builders.TENANT: [job_view()]}
    status, answer = await ask(served, "POST", "/api/tasks", {"type": "echo"})
    assert (status, answer["wal_id"]) == (202, PLACE.wal_id)
    [(_, record)] = served.publisher.log
    served.log.records[PLACE], served.log.edges_of = log_record(record, PLACE), Edges(first=0, end=1)
    path = f"/api/wal/{PLACE.wal_id}"
    status, receipt = await ask(served, "GET", path)
    assert (status, receipt["record"]["name"]) == (200, "SubmitJob")
    assert receipt["record"]["event_id"] == f"job_{answer['task_id']}"
    [group] = receipt["groups"]
    assert (group["group"], group["state"]) == ("jobs.intake", "waiting")
    assert (await ask(served, "GET", path, key="stranger"))[0] == 404

    served.stored_commands.offsets = {0: 1}
    served.jobs.effects[PLACE] = Effect(outcome="stored", detail="job is pending")
    assert (await ask(served, "GET", f"/api/tasks/status/{JOB}"))[0] == 200
    for _ in range(30):  # the follower asks once a second, and at once where somebody waits
        await ask(served, "DELETE", f"/api/tasks/{JOB}")
        _, receipt = await ask(served, "GET", path)
        if receipt["groups"][0]["state"] == "done":
            break
    assert receipt["groups"][0]["effect"] == {"outcome": "stored", "detail": "job is pending"}
