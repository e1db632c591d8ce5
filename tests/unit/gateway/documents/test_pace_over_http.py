"""Documents are refused while too much work waits in their lane, and answers say how long it takes."""

from typing import Any

import pytest

from gateway.documents.store import LaneWork
from gateway.documents.views import QueuePlace
from gateway.errors import StoreUnavailable
from schemas.documents.records import ChangeDocumentJob, DeleteDocument
from schemas.documents.rules import FILE_COST_MAX
from schemas.documents.states import Lane
from tests.support import builders
from tests.support.document_fakes import JOB, commands, job_view
from tests.support.job_views import ask
from tests.unit.gateway.conftest import Served

EMMA: dict[str, Any] = {"book_slug": "emma", "chapter_index": 7, "text": "Emma Woodhouse, handsome, clever, and rich"}
DONE_PER_S = 10_000


async def go_on(served: Served, *, waiting_s: float, seconds: int, lane: Lane = Lane.NORMAL) -> None:
    """Let *seconds* pass in which a lane is drained, while so many seconds of its work wait."""
    for _ in range(seconds):
        served.document_clock.now_s += 1
        done_cost = int(served.document_clock.now_s) * DONE_PER_S
        cost = int(waiting_s * DONE_PER_S)
        served.documents.work_of = {lane: LaneWork(count=9, cost=cost, done_cost=done_cost, oldest_s=None)}
        await served.document_pace.refresh()


async def test_a_deep_lane_answers_429_until_it_is_drained(served: Served) -> None:
    await go_on(served, waiting_s=240, seconds=60)
    async with served.client.post("/api/documents", json=EMMA, headers=served.headers()) as answer:
        assert (answer.status, (await answer.json())["code"]) == (429, "BACKPRESSURE")
        assert answer.headers["Retry-After"] == "60"
    assert (await ask(served, "POST", "/api/documents", EMMA | {"text": "x" * 200_000}))[0] == 429
    assert (await ask(served, "POST", "/api/documents/batch", [EMMA, EMMA | {"priority": 9}]))[0] == 429
    upload = "/api/documents/uploads?book_slug=emma&chapter_index=1&filename=a.txt"
    assert (await ask(served, "POST", upload, b"x", **{"Content-Type": "text/plain"}))[0] == 429
    assert (served.publisher.published, served.objects.kept) == ([], {}), "nothing was written"
    await go_on(served, waiting_s=0, seconds=20)
    assert (await ask(served, "POST", "/api/documents", EMMA))[0] == 202


async def test_a_deep_lane_refuses_neither_other_lanes_nor_deletions_and_changes(served: Served) -> None:
    served.documents.stored = {builders.TENANT: [job_view()]}
    await go_on(served, waiting_s=240, seconds=60)
    assert (await ask(served, "POST", "/api/documents", EMMA | {"priority": 9}))[0] == 202
    assert (await ask(served, "DELETE", "/api/documents/emma/7"))[0] == 202
    assert (await ask(served, "POST", f"/api/documents/jobs/{JOB}/cancel"))[0] == 202
    assert [type(each) for each in commands(served.publisher)[1:]] == [DeleteDocument, ChangeDocumentJob]


async def test_while_postgres_is_away_it_is_as_before(served: Served) -> None:
    await go_on(served, waiting_s=240, seconds=60)
    served.documents.failure = StoreUnavailable("away")
    await go_on(served, waiting_s=0, seconds=60)
    assert (await ask(served, "POST", "/api/documents", EMMA))[0] == 429
    served.documents.failure = None
    await go_on(served, waiting_s=0, seconds=30)
    served.documents.failure = StoreUnavailable("away")
    await go_on(served, waiting_s=240, seconds=60)
    status, answer = await ask(served, "POST", "/api/documents", EMMA)
    assert (status, "queue" in answer) == (202, False), "nothing is known of the queue"


@pytest.mark.parametrize(("size", "cost"), [(1_000, 1_000), (3_000_000, FILE_COST_MAX)])
async def test_a_file_costs_its_bytes_or_what_a_long_novel_has(served: Served, size: int, cost: int) -> None:
    await go_on(served, waiting_s=60, seconds=60)
    before = served.document_pace.tokens_available
    path = "/api/documents/uploads?book_slug=emma&chapter_index=1&filename=a.txt"
    assert (await ask(served, "POST", path, b"x" * size, **{"Content-Type": "text/plain"}))[0] == 202
    after = served.document_pace.tokens_available
    assert before is not None
    assert after == before - cost


async def test_answers_say_how_many_seconds_of_work_come_before(served: Served) -> None:
    _, answer = await ask(served, "POST", "/api/documents", EMMA)
    assert "queue" not in answer, "nobody has looked yet"
    await go_on(served, waiting_s=20, seconds=60)
    place = {"lane": "normal", "ahead_count": 9, "ahead_cost": 20 * DONE_PER_S, "ahead_s": 20.0}
    status, answer = await ask(served, "POST", "/api/documents", EMMA)
    assert (status, answer["queue"]) == (202, place)
    status, answer = await ask(served, "PUT", "/api/documents/emma/7", EMMA | {"priority": 1})
    assert (answer["queue"]["lane"], answer["queue"]["ahead_s"]) == ("low", 0.0)
    queue = QueuePlace(lane=Lane.NORMAL, ahead_count=3, ahead_cost=5 * DONE_PER_S)
    served.documents.stored = {builders.TENANT: [job_view(queue=queue)]}
    status, answer = await ask(served, "GET", f"/api/documents/jobs/{JOB}")
    assert (status, answer["queue"]["ahead_count"], answer["queue"]["ahead_s"]) == (200, 3, 5.0)


async def test_the_figures_show_the_admission(served: Served) -> None:
    status, answer = await ask(served, "GET", "/api/documents/metrics")
    assert (status, answer["current_rate_multiplier"], answer["tokens_available"]) == (200, 1.0, None)
    await go_on(served, waiting_s=65, seconds=60)
    await ask(served, "POST", "/api/documents", EMMA | {"text": "x" * 25_000})
    _, answer = await ask(served, "GET", "/api/documents/metrics")
    assert answer["current_rate_multiplier"] == pytest.approx(0.5, rel=1e-3)
    assert answer["tokens_available"] == pytest.approx(0.5 * DONE_PER_S - 25_000, rel=1e-3)
