"""The texts of Puts: in the record or in object storage, and what is wrong with some."""

import hashlib
from typing import Any

import msgspec
import pytest

from processors.documents.intake.texts import IN_LOOP_CHARACTERS_MAX, GivenText, given_texts
from processors.runtime.contract import Arrival
from processors.runtime.errors import Transient
from schemas.documents.records import DeleteDocument, PutDocument, Source
from schemas.documents.rules import FILE_COST_MAX, TEXT_CHARACTERS_MAX
from schemas.documents.states import Failure, Stage
from schemas.errors import Reason, Rejection
from schemas.objects.references import PayloadRef, to_json
from tests.support.builders import TENANT, Raw
from tests.support.fakes import MemoryPayloads

JOB_ID = "6b1f6f5e-2d0d-4a55-9f7c-0f3c5a1f7b01"
PUT = PutDocument(
    tenant=TENANT, collection="book", document="1", job_id=JOB_ID, priority=5, max_retries=3, content_sha256=b""
)


def arrival(record: Any, rejection: Rejection | None = None) -> Arrival[Any]:
    return Arrival(Raw(), {}, record, rejection)


def kept(content: bytes, payloads: MemoryPayloads) -> str:
    """Keep *content*; return the reference that a record has."""
    digest = hashlib.sha256(content)
    key = f"{TENANT}/documents/book/{digest.hexdigest()}"
    payloads.kept[key] = content
    return to_json(PayloadRef(key=key, size_bytes=len(content), sha256=digest.digest()))


async def given(payloads: MemoryPayloads | None = None, **changes: Any) -> GivenText:
    """Return what a Put with *changes* brings."""
    put = msgspec.structs.replace(PUT, **changes)
    [given] = (await given_texts([arrival(put)], payloads or MemoryPayloads())).values()
    return given


def text_of(text: str) -> GivenText:
    """Return a text in normal form, as it is stored."""
    return GivenText(text=text, sha256=hashlib.sha256(text.encode()).digest(), cost=len(text))


@pytest.mark.parametrize("length", [1, IN_LOOP_CHARACTERS_MAX, IN_LOOP_CHARACTERS_MAX + 1])
async def test_a_text_in_its_record_is_stored_in_normal_form(length: int) -> None:
    """In the loop, and on a thread."""
    assert await given(text="e\u0301\r\n\0" * length) == text_of("é\n" * length)


async def test_a_text_in_object_storage_is_stored_as_one_in_its_record() -> None:
    payloads = MemoryPayloads()
    reference = kept("Cafe\u0301\r\n".encode(), payloads)
    assert await given(payloads, text_ref=reference) == text_of("Café\n")


async def test_a_file_is_stored_as_it_came() -> None:
    source = Source(content_type="text/plain", content=b"a\r\n\0")
    assert await given(source=source) == GivenText(source=b"a\r\n\0", cost=4)
    large = msgspec.structs.replace(source, content=b"x" * (FILE_COST_MAX + 1))
    assert (await given(source=large)).cost == FILE_COST_MAX, "nobody knows its text yet"


async def test_a_file_in_object_storage_is_fetched() -> None:
    payloads = MemoryPayloads()
    source = Source(content_type="text/plain", content_ref=kept(b"a\xff", payloads))
    assert await given(payloads, source=source) == GivenText(source=b"a\xff", cost=2)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no_text"),
        (" \n\t", "no_text"),
        ("\0\u200b\ufeff", "no_text"),
        ("a" * (TEXT_CHARACTERS_MAX + 1), "too_much_text"),
    ],
    ids=["empty", "white space", "nothing that is seen", "too long"],
)
async def test_a_text_that_is_blank_or_too_long_in_normal_form_fails(text: str, reason: str) -> None:
    found = await given(text=text)
    assert found.error is not None
    assert (found.text, found.error.stage, found.error.reason) == (None, Stage.INTAKE, reason)


@pytest.mark.parametrize("is_file", [True, False])
@pytest.mark.parametrize("content", [None, b"other"], ids=["missing", "damaged"])
async def test_what_object_storage_does_not_have_fails(*, is_file: bool, content: bytes | None) -> None:
    payloads = MemoryPayloads()
    reference = kept(b"text", payloads)
    [key] = payloads.kept
    payloads.kept = {} if content is None else {key: content}
    source = Source(content_type="text/plain", content_ref=reference)
    found = await given(payloads, **({"source": source} if is_file else {"text_ref": reference}))
    assert found.error is not None
    assert (found.text, found.source, found.error.reason) == (None, None, Failure.TEXT_MISSING)


async def test_a_text_in_object_storage_that_is_not_utf8_fails() -> None:
    payloads = MemoryPayloads()
    found = await given(payloads, text_ref=kept(b"caf\xe9", payloads))
    assert found.error is not None
    assert (found.error.reason, "UTF-8" in found.error.detail) == (Failure.TEXT_MISSING, True)


async def test_while_object_storage_is_away_nothing_is_decided() -> None:
    payloads = MemoryPayloads(away=True)
    with pytest.raises(Transient):
        await given(payloads, text_ref=kept(b"text", payloads))


async def test_only_valid_puts_have_texts() -> None:
    rejected = Rejection(reason=Reason.INVALID_EVENT, detail="wrong")
    delete = DeleteDocument(tenant=TENANT, collection="book", document="1", job_id=JOB_ID)
    payloads = MemoryPayloads(away=True)
    put = msgspec.structs.replace(PUT, text_ref=kept(b"text", payloads))
    assert await given_texts([arrival(delete), arrival(put, rejected)], payloads) == {}
