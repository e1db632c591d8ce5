"""Direct records of documents: which are taken, and why others are not."""

import json
from typing import Any

import msgspec
import pytest

from schemas.documents.records import (
    ChangeDocumentJob,
    Command,
    DeleteCollection,
    DeleteDocument,
    DocumentEmbedded,
    DocumentWork,
    PutDocument,
    ReembedCollection,
    Source,
    key_of,
)
from schemas.documents.rules import INLINE_BYTES_MAX, METADATA_BYTES_MAX
from schemas.documents.states import DocumentAction, Lane
from schemas.documents.validity import check_direct, check_ours, content_of
from schemas.errors import Poison, Reason
from tests.support.builders import TENANT, credentials

JOB_ID = "6b1f6f5e-2d0d-4a55-9f7c-0f3c5a1f7b01"
SOURCE = Source(content_type="text/plain", content=b"text")


def put(**changes: Any) -> PutDocument:
    """Return a Put that is right but for *changes*, with the digest of what it holds."""
    found = PutDocument(
        tenant=TENANT, collection="book", document="1", job_id=JOB_ID, text="text", priority=5, max_retries=3,
        content_sha256=b"",
    )  # fmt: skip
    found = msgspec.structs.replace(found, **changes)
    try:
        digest = content_of(found, metadata=None if found.metadata is None else json.loads(found.metadata))
    except ValueError:
        return found
    return found if "content_sha256" in changes else msgspec.structs.replace(found, content_sha256=digest)


def reason_of(command: Command, *, key: bytes | None = None) -> Reason | None:
    rejection = check_direct(
        command, key=key_of(command) if key is None else key, credentials=credentials(allow_unsigned_direct=True)
    )
    return None if rejection is None else rejection.reason


def test_a_right_put_is_taken() -> None:
    command = put(
        document="chapter one/2", metadata='{"year": 1851}', is_markdown=True, skips_bad_chunks=True,
        expected_revision=-1, priority=10, max_retries=0,
    )  # fmt: skip
    assert reason_of(command) is None


def test_a_text_is_taken_up_to_its_bound_in_bytes() -> None:
    assert reason_of(put(text="é" * (INLINE_BYTES_MAX // 2))) is None
    assert reason_of(put(text="é" * (INLINE_BYTES_MAX // 2) + "e")) is Reason.INVALID_EVENT


@pytest.mark.parametrize(
    "changes",
    [
        {"job_id": JOB_ID.upper()},
        {"collection": "a book"},
        {"document": ""},
        {"document": "a\nb"},
        {"priority": 0},
        {"priority": 11},
        {"max_retries": -1},
        {"max_retries": 11},
        {"expected_revision": -2},
        {"text": None},
        {"text": " \n"},
        {"text": None, "text_ref": '{"key": "other/documents/book/ab", "size_bytes": 1, "sha256": "ab"}'},
        {"text": None, "source": SOURCE},
        {"metadata": "[]"},
        {"metadata": "{"},
        {"metadata": '{"a": 1, "a": 2}'},
        {"metadata": '{"a": "\\u0000"}'},
        {"metadata": '{"a": 1e-20000}'},
        {"metadata": json.dumps({"a": "x" * METADATA_BYTES_MAX})},
        {"submitted_by": "me"},
        {"parent_job": JOB_ID},
    ],
    ids=str,
)
def test_a_put_that_breaks_a_rule_is_rejected(changes: dict[str, Any]) -> None:
    assert reason_of(put(**changes)) is Reason.INVALID_EVENT


@pytest.mark.parametrize(
    "changes",
    [{"source": SOURCE}, {"source": Source(content_type="a\0", content=b"x" * 1_000_000)}, {"text_ref": "{}"}],
    ids=["file", "large file with a NUL in its type", "reference"],
)
def test_a_put_has_its_text_alone(changes: dict[str, Any]) -> None:
    """Regression: a file or a reference beside a text was taken unchecked, and counted more than the text."""
    assert reason_of(put(**changes)) is Reason.INVALID_EVENT


def test_a_nul_in_a_text_is_taken_since_it_is_dropped() -> None:
    assert reason_of(put(text="a\0b")) is None


@pytest.mark.parametrize("changes", [{"document": "a\0"}, {"metadata": '{"a": "\0"}'}, {"submitted_by": "\0"}])
def test_a_nul_elsewhere_is_poison(changes: dict[str, Any]) -> None:
    with pytest.raises(Poison) as caught:
        reason_of(put(**changes))
    assert caught.value.reason is Reason.NUL_CHARACTER


def test_a_digest_of_other_content_is_rejected() -> None:
    assert reason_of(put(content_sha256=b"x" * 32)) is Reason.DIGEST_MISMATCH


@pytest.mark.parametrize(
    "changes",
    [
        {"text": "other"},
        {"document": "2"},
        {"priority": 6},
        {"is_markdown": True},
        {"skips_bad_chunks": True},
        {"expected_revision": 1},
        {"metadata": '{"a": 1}'},
        {"source": SOURCE},
        {"source": Source(content_type="text/plain", content=b"other")},
    ],
    ids=str,
)
def test_a_digest_is_of_all_that_was_asked(changes: dict[str, Any]) -> None:
    assert put(**changes).content_sha256 != put().content_sha256


def test_a_digest_is_not_of_the_job_and_who_submitted_it() -> None:
    assert put(job_id=JOB_ID.replace("6", "7"), submitted_by="me").content_sha256 == put().content_sha256


def test_a_digest_is_of_metadata_whatever_its_form() -> None:
    assert put(metadata='{"a":1,"b":2}').content_sha256 == put(metadata='{"b": 2, "a": 1}').content_sha256


def test_a_key_of_another_document_is_rejected() -> None:
    assert reason_of(put(), key=b"demo/book/2") is Reason.KEY_MISMATCH


def test_an_unknown_tenant_is_rejected() -> None:
    assert reason_of(put(tenant="nobody")) is Reason.UNKNOWN_TENANT


def test_a_tenant_that_takes_no_unsigned_records_takes_none() -> None:
    rejection = check_direct(put(), key=key_of(put()), credentials=credentials())
    assert rejection is not None
    assert rejection.reason is Reason.UNSIGNED_DIRECT


@pytest.mark.parametrize(
    ("changes", "reason"),
    [({}, None), ({"job_id": "j"}, Reason.INVALID_EVENT), ({"document": ""}, Reason.INVALID_EVENT)],
)
def test_a_deletion_follows_its_rules(changes: dict[str, Any], reason: Reason | None) -> None:
    deletion = DeleteDocument(tenant=TENANT, collection="book", document="1", job_id=JOB_ID)
    assert reason_of(msgspec.structs.replace(deletion, **changes)) is reason


@pytest.mark.parametrize(
    "changes", [{"expected_revision": -2}, {"submitted_by": "me"}, {"submitted_by": "x" * 10_000}], ids=str
)
def test_a_direct_deletion_names_no_submitter_and_no_impossible_revision(changes: dict[str, Any]) -> None:
    """Regression: both were taken unchecked."""
    deletion = DeleteDocument(tenant=TENANT, collection="book", document="1", job_id=JOB_ID, expected_revision=-1)
    assert reason_of(deletion) is None
    assert reason_of(msgspec.structs.replace(deletion, **changes)) is Reason.INVALID_EVENT


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, None),
        ({"action": DocumentAction.RETRY}, None),
        ({"command_id": "c"}, Reason.INVALID_EVENT),
        ({"collection": ""}, Reason.INVALID_EVENT),
        ({"by": ""}, Reason.INVALID_EVENT),
    ],
)
def test_a_change_of_a_job_follows_its_rules(changes: dict[str, Any], reason: Reason | None) -> None:
    change = ChangeDocumentJob(
        tenant=TENANT, collection="book", document="1", job_id=JOB_ID, command_id=JOB_ID, action=DocumentAction.CANCEL,
        by="me",
    )  # fmt: skip
    assert reason_of(msgspec.structs.replace(change, **changes)) is reason


@pytest.mark.parametrize(
    "command",
    [
        DeleteCollection(tenant=TENANT, collection="book", share=0, command_id=JOB_ID, by="me"),
        ReembedCollection(tenant=TENANT, collection="book", command_id=JOB_ID, embedder="e", by="me"),
    ],
)
def test_collections_are_changed_through_a_gateway_only(command: Command) -> None:
    assert reason_of(command) is Reason.INVALID_EVENT


@pytest.mark.parametrize(
    "record",
    [
        DocumentWork(
            tenant=TENANT, collection="book", document="1", job_id=JOB_ID, revision=1, generation=1, lane=Lane.LOW,
            cost=1, embedders=("e",),
        ),
        DocumentEmbedded(
            tenant=TENANT, collection="book", document="1", job_id=JOB_ID, revision=1, generation=1, text_sha256=b"",
            embeddings=(),
        ),
    ],
)  # fmt: skip
def test_what_processors_write_is_not_taken_from_others(record: DocumentWork | DocumentEmbedded) -> None:
    rejection = check_ours(record, key=key_of(record), credentials=credentials(allow_unsigned_direct=True))
    assert rejection is not None
    assert rejection.reason is Reason.UNSIGNED_DIRECT
