"""Keys and ids of the records of jobs."""

from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from schemas.jobs.records import (
    ChangeJob,
    ChangeQueue,
    SubmitJob,
    content_sha256,
    idempotent_job_id,
    key_of,
    record_id,
    scheduled_job_id,
)
from schemas.jobs.states import JobAction, QueueAction

JOB_ID = "6b1f6f5e-2d0d-4a55-9f7c-0f3c5a1f7b01"
SUBMIT = SubmitJob(
    tenant="demo", job_id=JOB_ID, type="echo", queue="default", priority=5, parameters="{}", max_attempts=3,
    content_sha256=b"",
)  # fmt: skip
CANCEL = ChangeJob(tenant="demo", job_id=JOB_ID, command_id="c", action=JobAction.CANCEL, by="me")


@given(st.text(), st.text(), st.text(), st.text())
def test_an_id_is_of_one_tenant_and_one_key(tenant: str, key: str, other_tenant: str, other_key: str) -> None:
    try:
        same = idempotent_job_id(tenant, key) == idempotent_job_id(other_tenant, other_key)
    except UnicodeEncodeError:  # a lone surrogate, which no request holds
        return
    assert same == ((tenant, key) == (other_tenant, other_key))


def test_an_id_of_a_schedule_is_of_its_time() -> None:
    assert scheduled_job_id(JOB_ID, 1) == scheduled_job_id(JOB_ID, 1) != scheduled_job_id(JOB_ID, 2)
    assert UUID(scheduled_job_id(JOB_ID, 1)).version == 5


def test_commands_for_one_job_have_one_key() -> None:
    assert key_of(SUBMIT) == key_of(CANCEL) == JOB_ID.encode()


def test_commands_for_a_queue_have_the_key_of_the_queue() -> None:
    change = ChangeQueue(tenant="demo", queue="default", command_id="c", action=QueueAction.PAUSE, by="me")
    assert key_of(change) == b"queue/default"


def test_the_id_of_a_submission_is_its_jobs_and_that_of_a_change_its_own() -> None:
    assert (record_id(SUBMIT), record_id(CANCEL)) == (f"job_{JOB_ID}", "jcm_c")


def test_what_was_asked_has_one_digest_whatever_its_order() -> None:
    assert content_sha256({"a": 1, "b": 2, "c": None}) == content_sha256({"b": 2, "a": 1})
    assert content_sha256({"a": 1}) != content_sha256({"a": 2})
