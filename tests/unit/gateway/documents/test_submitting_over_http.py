"""Documents that are submitted: what is taken, how it is answered, and what stands in the log then."""

import hashlib
import json
from typing import Any

import pytest

from gateway.documents.settings import DocumentSettings
from gateway.documents.store import Revisions
from gateway.errors import LogUnavailable, ObjectsUnavailable, StoreUnavailable
from schemas.documents.records import PutDocument, document_key, idempotent_job_id
from schemas.documents.rules import BATCH_DOCUMENTS_MAX, INLINE_BYTES_MAX, NO_DOCUMENT, TEXT_CHARACTERS_MAX
from schemas.documents.states import Phase
from schemas.documents.validity import content_of
from schemas.objects.references import from_json, reference_to, to_json
from tests.support import builders
from tests.support.document_fakes import JOB, commands, job_view
from tests.support.job_views import ask
from tests.unit.gateway.conftest import Served

EMMA: dict[str, Any] = {"book_slug": "emma", "chapter_index": 7, "text": "Emma Woodhouse, handsome, clever, and rich"}
MIB = 1024 * 1024


@pytest.fixture
def document_settings() -> DocumentSettings:
    """Return settings with room for a few documents."""
    return DocumentSettings(unfinished_max=600)


def puts(served: Served) -> list[PutDocument]:
    return [command for command in commands(served.publisher) if isinstance(command, PutDocument)]


def pointers(answer: Any) -> list[str]:
    return [fault["pointer"] for fault in answer["errors"]]


async def test_a_document_is_in_the_log_as_it_was_sent(served: Served) -> None:
    body = """{"book_slug": "emma", "chapter_index": 7, "text": "# One\\nEmma", "format": "markdown", "priority": 9,
              "max_retries": 1, "on_chunk_error": "skip", "metadata": {"year":  1815}}"""
    status, answer = await ask(served, "POST", "/api/documents", body)
    assert status == 202, answer
    [command], [(place, record)] = puts(served), served.publisher.log
    assert (command.collection, command.document, command.text) == ("emma", "7", "# One\nEmma")
    assert (command.is_markdown, command.skips_bad_chunks, command.priority, command.max_retries) == (True, True, 9, 1)
    assert (command.metadata, command.expected_revision, command.source) == ('{"year":  1815}', None, None)
    assert command.content_sha256 == content_of(command, metadata={"year": 1815})
    assert record.key == document_key(builders.TENANT, "emma", "7")
    assert answer == {
        "job_id": command.job_id,
        "document": {"book_slug": "emma", "chapter_index": 7},
        "revision": place.offset,
        "phase": "submitted",
        "wal_id": place.wal_id,
        "links": {
            "status": f"/api/documents/jobs/{command.job_id}",
            "cancel": f"/api/documents/jobs/{command.job_id}/cancel",
        },
    }


@pytest.mark.parametrize(
    ("sent", "kept", "shown"),
    [(7, "7", 7), ("7", "7", 7), (0, "0", 0), ("07", "07", "07"), ("-1", "-1", "-1"), ("Über/1", "Über/1", "Über/1"),
     (2**53 - 1, str(2**53 - 1), 2**53 - 1), (str(2**53), str(2**53), str(2**53)), ("\u0667", "\u0667", "\u0667")],
)  # fmt: skip
async def test_an_index_is_kept_as_a_text_and_shown_as_a_number_in_its_usual_form(
    served: Served, sent: int | str, kept: str, shown: int | str
) -> None:
    status, answer = await ask(served, "POST", "/api/documents", EMMA | {"chapter_index": sent})
    assert (status, answer["document"]["chapter_index"]) == (202, shown)
    assert puts(served)[0].document == kept


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"book_slug": None}, "/book_slug"),
        ({"book_slug": "a b"}, "/book_slug"),
        ({"book_slug": "jobs"}, "/book_slug"),
        ({"chapter_index": None}, "/chapter_index"),
        ({"chapter_index": -1}, "/chapter_index"),
        ({"chapter_index": 2**53}, "/chapter_index"),
        ({"chapter_index": True}, "/chapter_index"),
        ({"chapter_index": 1.5}, "/chapter_index"),
        ({"chapter_index": ""}, "/chapter_index"),
        ({"chapter_index": "a\nb"}, "/chapter_index"),
        ({"chapter_index": "x" * 513}, "/chapter_index"),
        ({"text": None}, "/text"),
        ({"text": " \n"}, "/text"),
        ({"text": 7}, "/text"),
        ({"text": "x" * (TEXT_CHARACTERS_MAX + 1)}, "/text"),
        ({"format": "html"}, "/format"),
        ({"priority": 0}, "/priority"),
        ({"priority": "5"}, "/priority"),
        ({"max_retries": 11}, "/max_retries"),
        ({"on_chunk_error": True}, "/on_chunk_error"),
        ({"metadata": []}, "/metadata"),
        ({"metadata": {"a": "x" * 20_000}}, "/metadata"),
        ({"nonsense": 1}, "/nonsense"),
    ],
)
async def test_a_fault_is_named(served: Served, body: dict[str, Any], pointer: str) -> None:
    status, answer = await ask(served, "POST", "/api/documents", EMMA | body)
    assert (status, pointers(answer)) == (422, [pointer])
    assert served.publisher.published == []


async def test_a_long_text_is_kept_before_its_record(served: Served) -> None:
    text = "é" * INLINE_BYTES_MAX
    assert (await ask(served, "POST", "/api/documents", EMMA | {"text": text}))[0] == 202
    [command] = puts(served)
    assert command.text is None
    assert command.text_ref is not None
    reference = from_json(command.text_ref)
    assert reference.key == f"{builders.TENANT}/documents/emma/{hashlib.sha256(text.encode()).hexdigest()}"
    assert served.objects.kept[reference.key].decode() == text


async def test_without_object_storage_a_long_text_is_not_in_the_log(served: Served) -> None:
    served.objects.failure = ObjectsUnavailable("away")
    status, answer = await ask(served, "POST", "/api/documents", EMMA | {"text": "x" * 200_000})
    assert (status, answer["code"]) == (503, "STORE_UNAVAILABLE")
    batch = [EMMA | {"text": "x" * 200_000}, EMMA, EMMA | {"chapter_index": 8}]
    status, answer = await ask(served, "POST", "/api/documents/batch", batch)
    assert [result["status"] for result in answer["results"]] == ["retry", "retry", "accepted"], (
        "a later version of the same document waits for the first"
    )
    assert [command.document for command in puts(served)] == ["8"]


async def test_a_text_that_was_sent_before_is_sent_again_by_its_object(served: Served) -> None:
    text = "é" * INLINE_BYTES_MAX
    _, first = await ask(served, "POST", "/api/documents", EMMA | {"text": text})
    assert first["object"]["key"] == f"{builders.TENANT}/documents/emma/{first['object']['sha256']}"
    referring = {"book_slug": "emma", "chapter_index": 7, "object": first["object"]}
    status, second = await ask(served, "POST", "/api/documents", referring)
    assert (status, second["object"]) == (202, first["object"])
    other = {"book_slug": "other", "chapter_index": 1, "object": first["object"], "priority": 9}
    status, answer = await ask(served, "POST", "/api/documents/batch", [other])
    assert (status, answer["results"][0]["status"]) == (202, "accepted")
    sent, again, elsewhere = puts(served)
    assert again.content_sha256 == sent.content_sha256, "the same document, however its text comes"
    assert (again.text, again.text_ref) == (None, sent.text_ref)
    assert elsewhere.text_ref is not None
    reference = from_json(elsewhere.text_ref)
    assert reference.key == f"{builders.TENANT}/documents/other/{first['object']['sha256']}"
    assert served.objects.kept[reference.key].decode() == text
    assert served.objects.puts.count(first["object"]["key"]) == 2, "it is kept for another month"


async def test_the_payload_of_an_event_may_be_a_text(served: Served) -> None:
    payload = json.dumps("x" * INLINE_BYTES_MAX)
    reference = reference_to(payload.encode(), tenant=builders.TENANT, run_id="run-1")
    served.objects.kept[reference.key] = payload.encode()
    body = {"object": json.loads(to_json(reference))}
    assert (await ask(served, "PUT", "/api/documents/emma/7", body))[0] == 202
    status, answer = await ask(served, "PUT", "/api/documents/emma/7", body, key="embedding")
    assert (status, pointers(answer)) == (422, ["/object/key"]), "runs need the right read"


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"key": f"other/documents/emma/{'a' * 64}"}, "/object/key"),
        ({"key": f"{builders.TENANT}/documents/emma/{'b' * 64}"}, "/object/key"),
        ({"key": f"{builders.TENANT}/../other/{'a' * 64}"}, "/object/key"),
        ({"key": 1}, "/object"),
        ({"size_bytes": 0}, "/object"),
        ({"size_bytes": 5 * MIB}, "/object"),
        ({"sha256": "A" * 64}, "/object"),
        ({"more": 1}, "/object"),
    ],
)
async def test_an_object_is_one_of_the_tenants_own(served: Served, changes: dict[str, Any], pointer: str) -> None:
    named = {"key": f"{builders.TENANT}/documents/emma/{'a' * 64}", "size_bytes": 9, "sha256": "a" * 64}
    body = {"book_slug": "emma", "chapter_index": 7}
    status, answer = await ask(served, "POST", "/api/documents", body | {"object": named | changes})
    assert (status, pointers(answer)) == (422, [pointer])
    status, answer = await ask(served, "POST", "/api/documents", EMMA | {"object": named})
    assert (status, pointers(answer)) == (422, ["/object"]), "beside a text"
    status, answer = await ask(served, "POST", "/api/documents", body | {"object": named})
    assert (status, answer["code"]) == (404, "NOT_FOUND")
    status, answer = await ask(served, "POST", "/api/documents/batch", [body | {"object": named}])
    assert (status, answer["results"][0]["code"]) == (207, "NOT_FOUND")
    assert served.publisher.published == []


async def test_the_path_names_the_document_and_the_body_is_its_text(served: Served) -> None:
    for content_type, body in (("text/plain", b"\xef\xbb\xbfEmma"), ("text/markdown; charset=utf-8", b"# Emma")):
        status, answer = await ask(served, "PUT", "/api/documents/emma/a%2Fb", body, **{"Content-Type": content_type})
        assert (status, answer["document"]["chapter_index"]) == (202, "a/b")
    plain, markdown = puts(served)
    assert (plain.text, plain.is_markdown, markdown.text, markdown.is_markdown) == ("Emma", False, "# Emma", True)
    status, _ = await ask(served, "PUT", "/api/documents/emma/7", {"text": "x", "chapter_index": 7, "priority": 2})
    assert (status, puts(served)[2].document, puts(served)[2].priority) == (202, "7", 2)


async def test_a_path_or_a_text_that_is_not_valid_is_refused(served: Served) -> None:
    status, answer = await ask(served, "PUT", "/api/documents/emma/7", {"text": "x", "chapter_index": 8})
    assert (status, pointers(answer)) == (422, ["/chapter_index"])
    for path in ("/api/documents/a%20b/7", "/api/documents/emma/%0A"):
        assert (await ask(served, "PUT", path, {"text": "x"}))[0] == 422
    status, answer = await ask(served, "PUT", "/api/documents/emma/7", b"\xff", **{"Content-Type": "text/plain"})
    assert (status, pointers(answer)) == (422, [""])
    assert (await ask(served, "PUT", "/api/documents/emma/7", b"x", **{"Content-Type": "text/html"}))[0] == 415
    assert served.publisher.published == []


async def test_a_revision_is_a_condition(served: Served) -> None:
    name = (builders.TENANT, "emma", "7")
    served.documents.revisions_of[name] = Revisions(latest=9, live=9, deleted=None)
    path, body = "/api/documents/emma/7", {"text": "x"}
    for header, value, status in (
        ("If-Match", '"8"', 412), ("If-Match", '"9"', 202), ("If-Match", "10", 202),  # intake may not have come to it
        ("If-None-Match", "*", 412), ("If-Match", "x", 422), ("If-Match", "*", 422), ("If-None-Match", '"9"', 422),
    ):  # fmt: skip
        answered, _ = await ask(served, "PUT", path, body, **{header: value})
        assert answered == status, (header, value)
    assert (await ask(served, "PUT", path, body, **{"If-Match": "9", "If-None-Match": "*"}))[0] == 422
    served.documents.revisions_of[name] = Revisions(latest=9, live=None, deleted=9)
    assert (await ask(served, "PUT", path, body, **{"If-None-Match": "*"}))[0] == 202
    served.documents.failure = StoreUnavailable("away")
    assert (await ask(served, "PUT", path, body, **{"If-Match": "1"}))[0] == 202, "its job says so"
    assert [command.expected_revision for command in puts(served)] == [9, 10, NO_DOCUMENT, 1]


async def test_an_idempotency_key_is_one_job(served: Served) -> None:
    headers = {"Idempotency-Key": "k-1"}
    job_id = idempotent_job_id(builders.TENANT, "k-1")
    status, answer = await ask(served, "POST", "/api/documents", EMMA, **headers)
    assert (status, answer["job_id"]) == (202, job_id)
    status, answer = await ask(served, "POST", "/api/documents", EMMA | {"text": "other"}, **headers)
    assert (status, answer["code"]) == (409, "IDEMPOTENCY_CONFLICT")
    served.documents.stored = {builders.TENANT: [job_view(job_id, phase=Phase.STORED, revision=5)]}
    served.documents.digests[job_id] = puts(served)[0].content_sha256
    status, answer = await ask(served, "POST", "/api/documents", EMMA, **headers)
    assert (status, answer["duplicate"], answer["revision"], answer["phase"]) == (200, True, 5, "stored")
    assert len(puts(served)) == 1
    assert (await ask(served, "POST", "/api/documents/batch", [EMMA], **headers))[0] == 422


async def test_a_batch_has_a_result_for_each(served: Served) -> None:
    lines = "\n".join(json.dumps(EMMA | {"chapter_index": number}) for number in (1, -1, 3))
    status, answer = await ask(
        served, "POST", "/api/documents/batch", lines, **{"Content-Type": "application/x-ndjson"}
    )
    assert status == 207
    assert [result["status"] for result in answer["results"]] == ["accepted", "rejected", "accepted"]
    assert answer["results"][1]["code"] == "VALIDATION_ERROR"
    assert [result.get("revision") for result in answer["results"]] == [0, None, 1]
    status, answer = await ask(served, "POST", "/api/documents/batch", [EMMA] * (BATCH_DOCUMENTS_MAX + 1))
    assert status == 422
    served.publisher.failure = LogUnavailable("away")
    assert (await ask(served, "POST", "/api/documents/batch", [EMMA]))[0] == 503


async def test_more_than_a_tenant_may_have_in_work_is_held_back(served: Served) -> None:
    served.documents.unfinished_count = 599
    assert (await ask(served, "POST", "/api/documents", EMMA))[0] == 202
    async with served.client.post("/api/documents", json=EMMA, headers=served.headers()) as answer:
        assert (answer.status, (await answer.json())["code"]) == (429, "BACKPRESSURE")
        assert answer.headers["Retry-After"] == "1"


async def test_a_request_waits_for_the_end_of_its_job(served: Served) -> None:
    def stored() -> None:
        served.documents.stored = {
            builders.TENANT: [job_view(command.job_id, phase=Phase.UNCHANGED) for command in puts(served)]
        }

    served.documents.applied = stored
    status, answer = await ask(served, "POST", "/api/documents?wait=stored", EMMA)
    assert (status, answer["waited"], answer["phase"]) == (202, True, "unchanged")
    status, answer = await ask(served, "POST", "/api/documents/batch?wait=stored", [EMMA, EMMA])
    assert (status, answer["waited"]) == (202, True)
    assert (await ask(served, "POST", "/api/documents?wait=persistence", EMMA))[0] == 422
    served.documents.failure = StoreUnavailable("away")
    status, answer = await ask(served, "POST", "/api/documents?wait=stored", EMMA)
    assert (status, answer["waited"]) == (202, False)


def form(*parts: tuple[str, bytes], boundary: str = "b-1", end: str = "--") -> bytes:
    body = b"".join(
        b"--"
        + boundary.encode()
        + b"\r\nContent-Disposition: form-data; "
        + head.encode()
        + b"\r\n\r\n"
        + content
        + b"\r\n"
        for head, content in parts
    )
    return body + f"--{boundary}{end}\r\n".encode()


PDF = b"%PDF-1.7 \r\n--b-2\r\n" + b"\0" * 10
FIELDS = (('name="book_slug"', b"emma"), ('name="chapter_index"', b"7"), ('name="priority"', b"9"),
          ('name="metadata"', b'{"year": 1815}'))  # fmt: skip
MULTIPART = {"Content-Type": 'multipart/form-data; boundary="b-1"'}


async def test_a_file_comes_in_a_form(served: Served) -> None:
    file = 'name="file"; filename="Emma é.pdf"\r\nContent-Type: application/pdf'
    status, answer = await ask(served, "POST", "/api/documents/uploads", form((file, PDF), *FIELDS), **MULTIPART)
    assert status == 202, answer
    [command] = puts(served)
    assert command.source is not None
    assert (command.source.content, command.source.filename) == (PDF, "Emma é.pdf")
    assert (command.source.content_type, command.text, command.metadata) == ("application/pdf", None, '{"year": 1815}')
    assert (command.collection, command.document, command.priority) == ("emma", "7", 9)


async def test_a_file_comes_as_the_body(served: Served) -> None:
    content = b"Emma. " * 100_000
    path = "/api/documents/uploads?book_slug=emma&chapter_index=x&filename=emma.txt&metadata=%7B%7D&priority=10"
    status, _ = await ask(served, "POST", path, content, **{"Content-Type": "application/octet-stream"})
    [command] = puts(served)
    assert (status, command.document, command.priority) == (202, "x", 10)
    assert command.source is not None
    assert command.source.content_ref is not None
    assert served.objects.kept[from_json(command.source.content_ref).key] == content


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (form(*FIELDS), MULTIPART, 422),
        (form(('name="file"; filename="a.txt"\r\nContent-Type: text/plain', b""), *FIELDS), MULTIPART, 422),
        (form(('name="file"; filename="a.exe"', b"x"), *FIELDS), MULTIPART, 415),
        (form(('name="file"; filename="a.pdf"\r\nContent-Type: application/pdf', b"x"), *FIELDS), MULTIPART, 415),
        (form(('name="file"; filename="a.txt"', PDF), *FIELDS), MULTIPART, 415),
        (form(('name="file"; filename="a.md"\r\nContent-Type: text/html', b"x"), *FIELDS), MULTIPART, 415),
        (form(('name="file"; filename="a.gif"\r\nContent-Type: image/gif', b"x"), *FIELDS), MULTIPART, 415),
        (form(('name="file"; filename="a.txt"', b"x"), FIELDS[0]), MULTIPART, 422),
        (form(('name="file"; filename="a.txt"', b"x"), *FIELDS, FIELDS[0]), MULTIPART, 422),
        (form(('name="file"; filename="a.txt"', b"x"), *FIELDS, ('name="no"', b"1")), MULTIPART, 422),
        (form(('name="file"; filename="a.txt"', b"x"), *FIELDS[:3], ('name="metadata"', b"[")), MULTIPART, 422),
        (form(('name="file"; filename="a.txt"', b"x"), *FIELDS[:2], ('name="priority"', b"11")), MULTIPART, 422),
        (form(('name="file"; filename="a.txt"', b"x"), *FIELDS)[:-12], MULTIPART, 400),
        (form(*[(f'name="f{number}"', b"") for number in range(17)]), MULTIPART, 400),
        (b"--b-1\r\n\r\n\r\nx\r\n--b-1--", MULTIPART, 400),
        (b"", MULTIPART, 400),
        (b"x", {"Content-Type": "multipart/form-data"}, 400),
        (b"x", MULTIPART | {"Content-Encoding": "gzip"}, 415),
    ],
)  # fmt: skip
async def test_an_upload_that_is_not_valid_is_refused(
    served: Served, body: bytes, headers: dict[str, str], status: int
) -> None:
    answered, answer = await ask(served, "POST", "/api/documents/uploads", body, **headers)
    assert answered == status, answer
    assert served.publisher.published == []


async def test_a_file_that_is_not_what_it_is_declared_to_be_is_415(served: Served) -> None:
    path = "/api/documents/uploads?book_slug=emma&chapter_index=1"
    for content_type, content in (("application/epub+zip", PDF), ("text/plain", b"PK\x03\x04"), ("text/html", PDF)):
        status, answer = await ask(served, "POST", path, content, **{"Content-Type": content_type})
        assert (status, answer["code"]) == (415, "UNSUPPORTED_MEDIA_TYPE")
        assert "but the bytes are of something else" in answer["detail"]
    assert served.publisher.published == []
    assert (await ask(served, "POST", path, PDF, **{"Content-Type": "application/pdf"}))[0] == 202


async def test_a_file_over_the_limit_is_413(served: Served) -> None:
    path = "/api/documents/uploads?book_slug=emma&chapter_index=1&filename=a.txt"
    headers = {"Content-Type": "text/plain"}
    assert (await ask(served, "POST", path, b"x" * (32 * MIB + 1), **headers))[0] == 413
    assert (await ask(served, "POST", path, b"x" * (33 * MIB), **headers))[0] == 413
    assert (await ask(served, "POST", path, b"x" * 32 * MIB, **headers))[0] == 202


async def test_other_rights_do_not_open_it(served: Served) -> None:
    for key in ("worker", "documents"):
        assert (await ask(served, "POST", "/api/documents", EMMA, key=key))[0] == 403
    assert (await ask(served, "GET", f"/api/documents/jobs/{JOB}", key="worker"))[0] == 403
