"""Keys, ids and digests of the records of documents."""

from uuid import UUID

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from schemas.documents.records import (
    ChangeDocumentJob,
    Command,
    DeleteCollection,
    DeleteDocument,
    DocumentWork,
    PutDocument,
    ReembedCollection,
    content_sha256,
    idempotent_job_id,
    key_of,
    part_job_id,
    record_id,
    share_key,
)
from schemas.documents.rules import COLLECTION_PATTERN, document_fault
from schemas.documents.states import DocumentAction, Lane

JOB_ID = "6b1f6f5e-2d0d-4a55-9f7c-0f3c5a1f7b01"
PUT = PutDocument(
    tenant="demo", collection="book", document="1", job_id=JOB_ID, text="t", priority=5, max_retries=3,
    content_sha256=b"",
)  # fmt: skip
DELETE = DeleteDocument(tenant="demo", collection="book", document="1", job_id=JOB_ID)
CANCEL = ChangeDocumentJob(
    tenant="demo", collection="book", document="1", job_id=JOB_ID, command_id="c", action=DocumentAction.CANCEL, by="me"
)
WORK = DocumentWork(
    tenant="demo", collection="book", document="1", job_id=JOB_ID, revision=7, generation=1, lane=Lane.HIGH, cost=1,
    embedders=("e",),
)  # fmt: skip
DELETE_ALL = DeleteCollection(tenant="demo", collection="book", share=2, command_id="c", by="me")
REEMBED = ReembedCollection(tenant="demo", collection="book", command_id="c", embedder="e", by="me")
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


def test_records_of_one_document_have_one_key() -> None:
    assert {key_of(each) for each in (PUT, DELETE, CANCEL, WORK)} == {b"demo/book/1"}


def test_a_deletion_of_a_collection_has_a_key_for_each_of_its_records() -> None:
    assert key_of(DELETE_ALL) == share_key("demo", "book", 2) == b"demo/book//2"


def test_a_change_of_a_collection_has_the_key_of_the_collection() -> None:
    assert key_of(REEMBED) == b"demo/book"


def test_the_id_of_a_put_or_a_deletion_is_its_jobs_and_that_of_a_change_its_own() -> None:
    commands: tuple[Command, ...] = (PUT, DELETE, CANCEL, REEMBED, DELETE_ALL)
    assert [record_id(each) for each in commands] == [f"doc_{JOB_ID}", f"doc_{JOB_ID}", "dcm_c", "dcm_c", "dcm_c_2"]


def test_each_record_of_a_deletion_of_a_collection_has_an_id_of_its_own() -> None:
    assert record_id(DELETE_ALL) != record_id(msgspec.structs.replace(DELETE_ALL, share=3))


@given(TEXTS, TEXTS, TEXTS, TEXTS)
def test_an_id_is_of_one_tenant_and_one_key(tenant: str, key: str, other_tenant: str, other_key: str) -> None:
    same = idempotent_job_id(tenant, key) == idempotent_job_id(other_tenant, other_key)
    assert same == ((tenant, key) == (other_tenant, other_key))


def test_an_id_tells_where_the_tenant_ends() -> None:
    assert idempotent_job_id("a", "bc") != idempotent_job_id("ab", "c")


def test_an_id_of_a_part_is_of_its_file_and_its_number() -> None:
    assert part_job_id(JOB_ID, 1) == part_job_id(JOB_ID, 1) != part_job_id(JOB_ID, 2)
    assert part_job_id(f"{JOB_ID}/1", 1) != part_job_id(JOB_ID, 11)
    assert UUID(part_job_id(JOB_ID, 1)).version == 5


@given(st.from_regex(COLLECTION_PATTERN, fullmatch=True), TEXTS.filter(lambda name: document_fault(name) is None))
def test_a_key_is_of_one_document(collection: str, document: str) -> None:
    """No name of a collection has a slash, so a key is taken apart in one way."""
    key = key_of(msgspec.structs.replace(PUT, collection=collection, document=document)).decode()
    assert key.split("/", 2) == ["demo", collection, document]


def test_what_was_asked_has_one_digest_whatever_its_order() -> None:
    assert content_sha256({"a": 1, "b": 2, "c": None}) == content_sha256({"b": 2, "a": 1})
    assert content_sha256({"a": 1}) != content_sha256({"a": 2})
