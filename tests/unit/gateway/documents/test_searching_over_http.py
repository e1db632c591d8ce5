"""Searches: what is taken, how legs are fused, and what is left when one of them fails."""

from typing import Any

import pytest

from gateway.documents.search.legs import ChunkRow, Found, LegAnswer, LegFailed, Scope
from gateway.documents.store import Revisions
from gateway.errors import QueueFull, StoreUnavailable
from schemas.documents.telemetry import SEARCH_FAILURES, SEARCH_SHORT
from tests.support import builders
from tests.support.document_fakes import EMBEDDER, OTHER_EMBEDDER
from tests.support.job_views import ask
from tests.unit.gateway.conftest import Served


def scope(embedder: str = EMBEDDER, name: str = "hash") -> Scope:
    return Scope(
        embedder=embedder, name=name, dimensions=2, chunks="document_chunks_a", by_config={"english": ["emma"]}
    )


def leg(*chunk_ids: int, complete: bool = True) -> LegAnswer:
    """Return chunks, of which two each are of one document."""
    found = [
        Found(chunk_id=each, collection="emma", document=str(each // 2), score=1 / (1 + rank))
        for rank, each in enumerate(chunk_ids)
    ]
    return LegAnswer(found=found, complete=complete)


@pytest.fixture
def searched(served: Served) -> Served:
    """Return a gateway with chunks to find."""
    served.searched.scopes_of = [scope()]
    served.searched.near = {EMBEDDER: leg(1, 2, 3)}
    served.searched.worded = {EMBEDDER: [leg(3, 5)]}
    for embedder in (EMBEDDER, OTHER_EMBEDDER):
        for chunk_id in range(10):
            served.searched.chunk_rows[embedder, chunk_id] = ChunkRow(
                ordinal=chunk_id % 2, start=0, end=4, heading="One", text="Emma", revision=3, metadata='{"a": 1}'
            )
    return served


async def search(served: Served, status: int = 200, **asked: Any) -> Any:
    answered, answer = await ask(served, "POST", "/api/search", {"query": "who is rich?"} | asked)
    assert answered == status, answer
    return answer


def chunks(answer: Any) -> list[tuple[int, int]]:
    return [(hit["document"]["chapter_index"], hit["chunk"]) for hit in answer["hits"]]


async def test_both_legs_are_fused_by_rank(searched: Served) -> None:
    answer = await search(searched)
    assert chunks(answer) == [(1, 1), (0, 1), (1, 0), (2, 1)]
    assert answer["hits"][0]["score"] == pytest.approx(1 / 6 + 1 / 4)
    assert (answer["hits"][0]["vector"], answer["hits"][0]["words"]["rank"]) == ({"rank": 3, "score": 1 / 3}, 1)
    assert (answer["hits"][1]["words"], answer["complete"], answer["degraded"]) == (None, True, [])
    assert answer["hits"][0]["metadata"] == {"a": 1}
    assert (searched.searched.asked, searched.vectors.asked) == (
        [(builders.TENANT, None)],
        [(EMBEDDER, "who is rich?")],
    )


async def test_one_leg_is_asked_where_one_is_wanted(searched: Served) -> None:
    assert chunks(await search(searched, mode="vector")) == [(0, 1), (1, 0), (1, 1)]
    assert chunks(await search(searched, mode="text", k=1, collections=["emma"])) == [(1, 1)]
    assert searched.searched.asked[-1] == (builders.TENANT, ("emma",))
    assert len(searched.vectors.asked) == 1


async def test_documents_are_shown_once_where_they_are_grouped(searched: Served) -> None:
    assert chunks(await search(searched, group_by="document")) == [(1, 1), (0, 1), (2, 1)]


async def test_embedders_are_merged_by_rank(searched: Served) -> None:
    searched.searched.scopes_of = [scope(), scope(OTHER_EMBEDDER, "minilm")]
    searched.searched.near = {EMBEDDER: leg(1, 2), OTHER_EMBEDDER: leg(8, 9)}
    searched.searched.worded = {}
    assert chunks(await search(searched)) == [(0, 1), (4, 0), (1, 0), (4, 1)]


async def test_a_leg_that_fails_leaves_the_other(searched: Served) -> None:
    searched.vectors.failure = LegFailed("the embedder is away")
    answer = await search(searched)
    assert (chunks(answer), answer["degraded"]) == ([(1, 1), (2, 1)], ["vector: the embedder is away"])
    assert searched.telemetry[SEARCH_FAILURES].labels("vector")._value.get() == 1
    searched.searched.worded = {EMBEDDER: LegFailed("took longer than 2 s")}
    answer = await search(searched, 503)
    assert answer["detail"] == "vector: the embedder is away; text: took longer than 2 s"


async def test_too_many_who_wait_for_the_embedder_are_429(searched: Served) -> None:
    searched.vectors.failure = QueueFull("too many searches wait for the embedder")
    assert (await search(searched, 429))["code"] == "BACKPRESSURE"


async def test_a_scan_that_ends_short_is_not_complete(searched: Served) -> None:
    searched.searched.near = {EMBEDDER: leg(1, complete=False)}
    assert (await search(searched))["complete"] is False
    assert searched.telemetry[SEARCH_SHORT]._value.get() == 1


async def test_chunks_that_were_replaced_meanwhile_are_left_out(searched: Served) -> None:
    del searched.searched.chunk_rows[EMBEDDER, 3]
    assert chunks(await search(searched)) == [(0, 1), (1, 0), (2, 1)]


async def test_without_collections_there_is_nothing(searched: Served) -> None:
    searched.searched.scopes_of = []
    answer = await search(searched)
    assert (answer["hits"], answer["complete"], answer["embedders"]) == ([], True, [])
    searched.searched.failure = StoreUnavailable("the extension pgvector is not installed")
    assert "pgvector" in (await search(searched, 503))["detail"]


async def test_a_search_waits_for_a_revision(searched: Served) -> None:
    name = (builders.TENANT, "emma", "7")
    looks = iter([None, Revisions(latest=9, live=3, deleted=None), Revisions(latest=9, live=9, deleted=None)])

    def turn() -> None:
        found = next(looks, None)
        if found is not None:
            searched.documents.revisions_of[name] = found

    searched.documents.applied = turn
    seen = {"book_slug": "emma", "chapter_index": 7, "revision": 9}
    assert (await search(searched, min_revision=seen))["hits"]
    searched.documents.revisions_of[name] = Revisions(latest=12, live=None, deleted=12)
    assert (await search(searched, min_revision=seen | {"revision": 11}))["hits"]


DEEP: Any = {"type": "eq", "key": "a", "value": 1}
for _ in range(5):
    DEEP = {"type": "and", "filters": [DEEP]}


@pytest.mark.parametrize(
    ("asked", "pointer"),
    [
        ({"query": ""}, "/query"),
        ({"query": " \n"}, "/query"),
        ({"query": 7}, "/query"),
        ({"query": "x" * 100_001}, "/query"),
        ({"query": "a\0b"}, "/query"),
        ({"k": 0}, "/k"),
        ({"k": 101}, "/k"),
        ({"k": True}, "/k"),
        ({"mode": "both"}, "/mode"),
        ({"group_by": "book"}, "/group_by"),
        ({"collections": []}, "/collections"),
        ({"collections": ["a b"]}, "/collections/0"),
        ({"min_revision": 7}, "/min_revision"),
        ({"min_revision": {"book_slug": "emma", "chapter_index": 7, "revision": -1}}, "/min_revision"),
        ({"nonsense": 1}, "/nonsense"),
        ({"filters": []}, "/filters"),
        ({"filters": {"type": "like", "key": "a", "value": 1}}, "/filters/type"),
        ({"filters": {"type": "eq", "value": 1}}, "/filters/key"),
        ({"filters": {"type": "eq", "key": "a..b", "value": 1}}, "/filters/key"),
        ({"filters": {"type": "eq", "key": ".".join("abcdefghi"), "value": 1}}, "/filters/key"),
        ({"filters": {"type": "eq", "key": "a"}}, "/filters/value"),
        ({"filters": {"type": "eq", "key": "a", "value": [1]}}, "/filters/value"),
        ({"filters": {"type": "gt", "key": "a", "value": True}}, "/filters/value"),
        ({"filters": {"type": "in", "key": "a", "value": []}}, "/filters/value"),
        ({"filters": {"type": "in", "key": "a", "value": [1] * 101}}, "/filters/value"),
        ({"filters": {"type": "eq", "key": "a", "value": 1, "x": 1}}, "/filters"),
        ({"filters": {"type": "or", "filters": []}}, "/filters/filters"),
        ({"filters": {"type": "or", "filters": [{"type": "eq", "key": "a", "value": 1}] * 32}}, "/filters/filters/31"),
        ({"filters": DEEP}, "/filters/filters/0/filters/0/filters/0/filters/0/filters/0"),
    ],
)
async def test_a_search_that_is_not_valid_names_its_fault(searched: Served, asked: Any, pointer: str) -> None:
    answer = await search(searched, 422, **asked)
    assert [fault["pointer"] for fault in answer["errors"]] == [pointer]
    assert searched.searched.asked == []


async def test_a_filter_reaches_the_legs(searched: Served) -> None:
    await search(searched, filters={"type": "gte", "key": "author.born", "value": 1775})
    [admitted] = searched.searched.filters
    assert admitted is not None
    assert (admitted.type, admitted.steps, admitted.value) == ("gte", ("author", "born"), 1775)
