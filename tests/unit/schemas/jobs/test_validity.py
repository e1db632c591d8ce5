"""Direct records of jobs: which are taken, and why others are not."""

import json
from typing import Any

import msgspec
import pytest

from schemas.errors import Poison, Reason
from schemas.jobs.records import ChangeJob, ChangeQueue, Command, SubmitJob, key_of
from schemas.jobs.rules import PARAMETERS_BYTES_MAX
from schemas.jobs.states import JobAction, QueueAction
from schemas.jobs.validity import check_direct, content_of
from tests.support.builders import TENANT, credentials

JOB_ID = "6b1f6f5e-2d0d-4a55-9f7c-0f3c5a1f7b01"


def submission(**changes: Any) -> SubmitJob:
    """Return a submission that is right but for *changes*, with the digest of what it holds."""
    found = SubmitJob(
        tenant=TENANT, job_id=JOB_ID, type="echo", queue="default", priority=5, parameters='{"value": 1}',
        max_attempts=3, content_sha256=b"",
    )  # fmt: skip
    found = msgspec.structs.replace(found, **changes)
    try:
        digest = content_of(
            found,
            parameters=json.loads(found.parameters),
            metadata=None if found.metadata is None else json.loads(found.metadata),
        )
    except ValueError:
        return found
    return found if "content_sha256" in changes else msgspec.structs.replace(found, content_sha256=digest)


def reason_of(command: Command, *, key: bytes | None = None) -> Reason | None:
    rejection = check_direct(
        command, key=key_of(command) if key is None else key, credentials=credentials(allow_unsigned_direct=True)
    )
    return None if rejection is None else rejection.reason


def test_a_right_submission_is_taken() -> None:
    assert reason_of(submission(tags=("a",), metadata='{"m": [1]}', run_at_ms=1, timeout_s=1.5)) is None


@pytest.mark.parametrize(
    "changes",
    [
        {"job_id": JOB_ID.upper()},
        {"type": "Echo"},
        {"type": "a/b/c"},
        {"queue": "Default"},
        {"priority": 0},
        {"priority": 11},
        {"max_attempts": 0},
        {"max_attempts": 101},
        {"timeout_s": 0.0},
        {"timeout_s": float("nan")},
        {"run_at_ms": -1},
        {"tags": tuple("t" * 21)},
        {"tags": ("",)},
        {"user_id": "a\nb"},
        {"parameters": "[]"},
        {"parameters": "{"},
        {"parameters": '{"a": 1, "a": 2}'},
        {"parameters": json.dumps({"a": "x" * PARAMETERS_BYTES_MAX})},
        {"metadata": "1"},
        {"submitted_by": "me"},
        {"schedule_id": JOB_ID},
    ],
)
def test_a_submission_that_breaks_a_rule_is_rejected(changes: dict[str, Any]) -> None:
    assert reason_of(submission(**changes)) is Reason.INVALID_EVENT


def test_a_digest_of_other_content_is_rejected() -> None:
    assert reason_of(submission(content_sha256=b"x" * 32)) is Reason.DIGEST_MISMATCH


def test_a_key_of_another_job_is_rejected() -> None:
    assert reason_of(submission(), key=b"another") is Reason.KEY_MISMATCH


def test_an_unknown_tenant_is_rejected() -> None:
    assert reason_of(submission(tenant="nobody")) is Reason.UNKNOWN_TENANT


def test_a_tenant_that_takes_no_unsigned_records_takes_none() -> None:
    rejection = check_direct(submission(), key=JOB_ID.encode(), credentials=credentials())
    assert rejection is not None
    assert rejection.reason is Reason.UNSIGNED_DIRECT


@pytest.mark.parametrize("changes", [{"user_id": "a\0"}, {"tags": ("a\0",)}])
def test_a_nul_is_poison(changes: dict[str, Any]) -> None:
    with pytest.raises(Poison):
        reason_of(submission(**changes))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, None),
        ({"command_id": "c"}, Reason.INVALID_EVENT),
        ({"by": ""}, Reason.INVALID_EVENT),
        ({"action": JobAction.REPRIORITISE}, Reason.INVALID_EVENT),
        ({"action": JobAction.REPRIORITISE, "priority": 9}, None),
    ],
)
def test_a_change_of_a_job_follows_its_rules(changes: dict[str, Any], reason: Reason | None) -> None:
    change = ChangeJob(tenant=TENANT, job_id=JOB_ID, command_id=JOB_ID, action=JobAction.CANCEL, by="me")
    assert reason_of(msgspec.structs.replace(change, **changes)) is reason


def test_queues_are_changed_through_a_gateway_only() -> None:
    change = ChangeQueue(tenant=TENANT, queue="default", command_id=JOB_ID, action=QueueAction.PAUSE, by="me")
    assert reason_of(change) is Reason.INVALID_EVENT
