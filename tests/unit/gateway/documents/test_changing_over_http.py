"""Jobs that are followed and changed, documents that are read and deleted, and collections."""

from typing import Any

import pytest

from gateway.documents.shares import shares_of
from gateway.documents.store import DocumentJobFilter, Revisions
from gateway.errors import StoreUnavailable
from gateway.kafka.effect import Effect
from gateway.kafka.reader import Edges
from schemas.documents.records import (
    ChangeDocumentJob,
    DeleteCollection,
    DeleteDocument,
    ReembedCollection,
    share_key,
)
from schemas.documents.states import DocumentAction, JobKind, Phase
from schemas.documents.topics import DOCUMENT_COMMANDS
from schemas.kafka.partitioner import partition_of
from schemas.kafka.places import RecordPlace
from tests.support import builders
from tests.support.document_fakes import (
    EMBEDDER,
    JOB,
    OTHER_EMBEDDER,
    OTHER_JOB,
    collection_view,
    commands,
    document_view,
    job_view,
)
from tests.support.job_views import ask
from tests.unit.gateway.conftest import Served

JOBS = "/api/documents/jobs"


def place(offset: int = 0) -> RecordPlace:
    return RecordPlace(DOCUMENT_COMMANDS.name, 0, offset)


async def test_a_job_that_intake_has_not_come_to_is_submitted(served: Served) -> None:
    document = {"book_slug": "emma", "chapter_index": 7, "text": "x"}
    _, accepted = await ask(served, "POST", "/api/documents", document)
    status, answer = await ask(served, "GET", f"{JOBS}/{accepted['job_id']}")
    assert (status, answer["phase"], answer["visible"]) == (200, "submitted", False)
    served.document_commands.offsets = {0: 1}
    status, answer = await ask(served, "GET", f"{JOBS}/{JOB}")
    assert (status, answer["code"]) == (404, "NOT_FOUND"), "intake is past all that is in the log"
    assert (await ask(served, "GET", f"{JOBS}/x"))[0] == 404


async def test_a_job_is_held_until_it_has_ended(served: Served) -> None:
    looks = iter([Phase.EMBEDDING, Phase.EMBEDDING, Phase.STORED, Phase.STORED])

    def turn() -> None:
        served.documents.stored = {builders.TENANT: [job_view(phase=next(looks, Phase.STORED))]}

    served.documents.applied = turn
    status, answer = await ask(served, "GET", f"{JOBS}/{JOB}?wait=10")
    assert (status, answer["phase"], answer["visible"]) == (200, "stored", True)
    assert (await ask(served, "GET", f"{JOBS}/{JOB}?wait=11"))[0] == 422


async def test_jobs_are_listed_by_what_is_asked(served: Served) -> None:
    served.documents.stored = {
        builders.TENANT: [job_view(JOB, phase=Phase.FAILED), job_view(OTHER_JOB, phase=Phase.FAILED)]
    }
    _, first = await ask(served, "GET", f"{JOBS}?status=failed&limit=1")
    _, second = await ask(served, "GET", f"{JOBS}?status=failed&limit=1&cursor={first['next_cursor']}")
    assert [page["jobs"][0]["job_id"] for page in (first, second)] == [JOB, OTHER_JOB]
    assert second["next_cursor"] is None
    await ask(served, "GET", f"{JOBS}?book_slug=emma&chapter_index=7&parent_job={JOB}")
    assert served.documents.asked[-1] == DocumentJobFilter(collection="emma", document="7", parent_job=JOB)
    for query in ("status=open", "chapter_index=7", "book_slug=a%20b", "parent_job=x", "cursor=x"):
        assert (await ask(served, "GET", f"{JOBS}?{query}"))[0] == 422, query


@pytest.mark.parametrize(
    ("action", "phase", "status"),
    [
        ("cancel", Phase.SUBMITTED, 202),
        ("cancel", Phase.EMBEDDING, 202),
        ("cancel", Phase.STORED, 409),
        ("cancel", Phase.CANCELLED, 409),
        ("retry", Phase.FAILED, 202),
        ("retry", Phase.CANCELLED, 202),
        ("retry", Phase.EMBEDDING, 409),
        ("retry", Phase.SUPERSEDED, 409),
    ],
)
async def test_a_change_is_taken_where_the_state_allows_it(
    served: Served, action: str, phase: Phase, status: int
) -> None:
    served.documents.stored = {builders.TENANT: [job_view(phase=phase)]}
    answered, answer = await ask(served, "POST", f"{JOBS}/{JOB}/{action}")
    assert answered == status, answer
    found = commands(served.publisher)
    if status == 202:
        [command] = found
        assert isinstance(command, ChangeDocumentJob)
        assert (command.job_id, command.action, command.document) == (JOB, DocumentAction(action), "7")
        assert answer["applied"] is False
    else:
        assert (answer["code"], found) == ("JOB_STATE", [])


async def test_a_change_that_intake_refuses_is_409_and_one_of_nobodys_job_404(served: Served) -> None:
    served.documents.stored = {builders.TENANT: [job_view()]}
    served.documents.effects[place()] = Effect(outcome="rejected", detail="refused: it has ended")
    served.document_commands.offsets = {0: 5}
    status, answer = await ask(served, "POST", f"{JOBS}/{JOB}/cancel")
    assert (status, answer["code"], answer["detail"]) == (409, "JOB_STATE", "refused: it has ended")
    assert (await ask(served, "POST", f"{JOBS}/{OTHER_JOB}/cancel"))[0] == 404
    served.documents.stored = {builders.TENANT: [job_view(kind=JobKind.DELETE, phase=Phase.FAILED)]}
    assert (await ask(served, "POST", f"{JOBS}/{JOB}/retry"))[0] == 409


async def test_a_job_just_accepted_is_cancelled_though_it_is_no_row_yet(served: Served) -> None:
    body = {"book_slug": "emma", "chapter_index": "x/y", "text": "x"}
    _, accepted = await ask(served, "POST", "/api/documents", body)
    assert (await ask(served, "POST", f"{JOBS}/{accepted['job_id']}/cancel"))[0] == 202
    command = commands(served.publisher)[1]
    assert isinstance(command, ChangeDocumentJob)
    assert (command.job_id, command.document) == (accepted["job_id"], "x/y")
    assert (await ask(served, "POST", f"{JOBS}/{accepted['job_id']}/retry"))[0] == 409


async def test_a_document_is_deleted_in_any_state(served: Served) -> None:
    for _ in range(2):
        status, answer = await ask(served, "DELETE", "/api/documents/emma/a%2Fb")
        assert (status, answer["document"]) == (202, {"book_slug": "emma", "chapter_index": "a/b"})
    first, second = commands(served.publisher)
    assert isinstance(first, DeleteDocument)
    assert isinstance(second, DeleteDocument)
    assert (first.document, first.expected_revision, second.job_id != first.job_id) == ("a/b", None, True)
    served.documents.revisions_of[builders.TENANT, "emma", "7"] = Revisions(latest=9, live=9, deleted=None)
    for header, status in (({"If-Match": "8"}, 412), ({"If-Match": "9"}, 202), ({"If-None-Match": "*"}, 422)):
        assert (await ask(served, "DELETE", "/api/documents/emma/7", **header))[0] == status


async def test_a_book_is_deleted_by_one_record_in_each_partition(served: Served) -> None:
    status, answer = await ask(served, "DELETE", "/api/documents/emma")
    [command] = commands(served.publisher)
    assert isinstance(command, DeleteCollection)
    assert (status, answer["wal_ids"], answer["command_id"]) == (202, [place().wal_id], command.command_id)
    assert (command.collection, command.share) == ("emma", 0)
    assert (await ask(served, "DELETE", "/api/documents/a%20b"))[0] == 404


@pytest.mark.parametrize("count", [1, 2, 12, 100])
def test_each_partition_has_the_lowest_share_whose_key_is_in_it(count: int) -> None:
    shares = shares_of("t", "emma", count)
    owners = [partition_of(share_key("t", "emma", share), count) for share in range(max(shares) + 1)]
    assert list(shares) == [owners.index(partition) for partition in range(count)]


async def test_a_collection_gets_another_embedder(served: Served) -> None:
    path = "/api/documents/collections/emma/reembed"
    served.documents.embedder_ids = {"hash": EMBEDDER, "minilm": OTHER_EMBEDDER}
    assert (await ask(served, "POST", path, {"embedder": "hash"}))[0] == 404
    served.documents.collection_views = {builders.TENANT: [collection_view()]}
    assert (await ask(served, "POST", path, {"embedder": "hash"}))[0] == 409, "it has that one"
    assert (await ask(served, "POST", path, {"embedder": "none"}))[0] == 422
    assert (await ask(served, "POST", path, {"embedder": "minilm"}))[0] == 202
    [command] = commands(served.publisher)
    assert isinstance(command, ReembedCollection)
    assert (command.embedder, command.collection, command.skips_failed) == (OTHER_EMBEDDER, "emma", False)


@pytest.mark.parametrize(
    ("failed", "asked", "status"),
    [(0, {}, 409), (3, {}, 202), (0, {"skip_failed": True}, 202), (3, {"skip_failed": True}, 202)],
)
async def test_a_build_is_asked_for_again_to_retry_or_to_skip_what_failed(
    served: Served, failed: int, asked: dict[str, bool], status: int
) -> None:
    served.documents.embedder_ids = {"minilm": OTHER_EMBEDDER}
    view = collection_view(building=OTHER_EMBEDDER, building_name="minilm", building_failed=failed)
    served.documents.collection_views = {builders.TENANT: [view]}
    path = "/api/documents/collections/emma/reembed"
    assert (await ask(served, "POST", path, {"embedder": "minilm", **asked}))[0] == status
    skips = [command.skips_failed for command in commands(served.publisher) if isinstance(command, ReembedCollection)]
    assert skips == ([bool(asked)] if status == 202 else [])


async def test_what_is_stored_is_read(served: Served) -> None:
    served.documents.document_views = {builders.TENANT: [document_view(7), document_view("x")]}
    served.documents.collection_views = {builders.TENANT: [collection_view(), collection_view("persuasion")]}
    async with served.client.get("/api/documents/emma/7", headers=served.headers("documents")) as answer:
        assert (answer.status, answer.headers["ETag"]) == (200, '"3"')
        assert (await answer.json())["metadata"] == {"year": 1815}
    for path, name in (("/api/documents", "documents"), ("/api/documents/collections", "collections")):
        found: list[Any] = []
        cursor = ""
        while cursor is not None:
            _, page = await ask(served, "GET", f"{path}?limit=1{cursor and '&cursor=' + cursor}", key="documents")
            found, cursor = found + page[name], page["next_cursor"]
        assert len(found) == 2
    for path in ("/api/documents/emma/8", "/api/documents/emma/8/chunks", "/api/documents/a%20b/8"):
        assert (await ask(served, "GET", path))[0] == 404
    status, answer = await ask(served, "GET", "/api/documents/metrics")
    assert (status, answer["balance"].split(" = ")[0], answer["success_rate_percent"]) == (200, "0 submitted", None)
    _, presets = await ask(served, "GET", "/api/documents/presets")
    assert presets["presets"]["standard"]["embed_workers"] == 6


async def test_while_postgres_is_away_documents_are_still_deleted(served: Served) -> None:
    served.documents.failure = StoreUnavailable("away")
    served.log.edges_of = Edges(first=0, end=3)
    assert (await ask(served, "DELETE", "/api/documents/emma/7", **{"If-Match": "9"}))[0] == 202
    assert (await ask(served, "DELETE", "/api/documents/emma"))[0] == 202
    assert (await ask(served, "POST", f"{JOBS}/{JOB}/cancel"))[0] == 503
