"""Workers of one's own in each stage: what they answer is used, and what they do wrong is the end of one document."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from schemas.documents.embedding.guard import GuardedEmbedder
from schemas.documents.embedding.hashing import HashingEmbedder
from schemas.documents.embedding.worker import WorkerEmbedder
from schemas.documents.workers import Worker, WorkerThread, load_worker
from schemas.process.settings import SettingsInvalid
from tests.support.jobs import JobServer
from tests.support.pipeline import Pipeline, put

DEADLINE_S = 5.0
GUIDE = Path(__file__).parents[2] / "deploy/docs/documents.md"


async def cut_in_tens(item: dict[str, Any]) -> dict[str, Any]:
    """Cut a text as the users of the old system did."""
    text = item["text"]
    return {**item, "chunks": [text[start : start + 10] for start in range(0, len(text), 10)]}


async def embed_by_length(item: dict[str, Any]) -> dict[str, Any]:
    return {**item, "embeddings": [[float(len(chunk)), 1.0, 0.0] for chunk in item["chunks"]]}


@asynccontextmanager
async def opened(
    server: JobServer,
    *,
    chunk: Worker | None = None,
    embed: Worker | None = None,
    store: Worker | None = None,
    deadline_s: float = DEADLINE_S,
) -> AsyncIterator[Pipeline]:
    """Yield a pipeline with workers of one's own."""
    threads = [
        None if each is None else WorkerThread(name, each, deadline_s=deadline_s)
        for name, each in (("cut", chunk), ("embed", embed), ("store", store))
    ]
    async with opened_with(server, *threads) as pipeline:
        yield pipeline


@asynccontextmanager
async def opened_with(
    server: JobServer, chunk: WorkerThread | None, embed: WorkerThread | None, store: WorkerThread | None
) -> AsyncIterator[Pipeline]:
    """Yield a pipeline with workers on their threads, which end with it."""
    embedder: Any = HashingEmbedder()
    if embed is not None:
        inner = WorkerEmbedder(embed, dimensions=3)
        embedder = GuardedEmbedder(
            inner, name="worker", id=inner.id, dimensions=3, tokens_max=inner.tokens_max, is_local=True
        )
    try:
        async with Pipeline(
            server.documents, server.owner, [embedder], chunk_worker=chunk, store_worker=store
        ) as pipeline:
            pipeline.clear()
            yield pipeline
    finally:
        for thread in (chunk, embed, store):
            if thread is not None:
                await thread.close()


async def failing(pipeline: Pipeline, text: str = "some text") -> tuple[str, str, str]:
    """Return the stage, the reason and the detail of the failure of a document."""
    await pipeline.run(put(text=text))
    [row] = pipeline.rows("SELECT phase, error FROM document_jobs")
    assert (row["phase"], pipeline.live()) == ("failed", {})
    return row["error"]["stage"], row["error"]["reason"], row["error"]["detail"]


async def test_workers_of_all_stages_work_together(job_server: JobServer) -> None:
    kept: list[dict[str, Any]] = []

    async def keep(item: dict[str, Any]) -> dict[str, Any]:
        kept.append(item)
        return {**item, "stored": True}

    async with opened(job_server, chunk=cut_in_tens, embed=embed_by_length, store=keep) as pipeline:
        command = put("7", text="0123456789abcdefghij!")
        await pipeline.run(command)
        assert pipeline.phase(command.job_id) == "stored"
        [item] = kept
    assert item["chunks"] == ["0123456789", "abcdefghij", "!"]
    assert (item["id"], item["book_slug"], item["chapter_index"]) == (command.job_id, "book", "7")
    assert [len(vector) for vector in item["embeddings"]] == [3, 3, 3]


async def test_the_workers_of_the_guide_work_from_outside_the_repository(
    job_server: JobServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    [code] = re.findall(r"```python\n(async def stanzas.*?)```", GUIDE.read_text(), flags=re.DOTALL)
    (tmp_path / "my_workers.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    loaded = [
        load_worker(f"my_workers:{name}", group="none", deadline_s=DEADLINE_S)
        for name in ("stanzas", "lengths", "announce")
    ]
    async with opened_with(job_server, *loaded) as pipeline:
        await pipeline.run(put(text="one\n\ntwo three"))
        assert pipeline.live() == {"1": ["one", "two three"]}
    assert "book 1" in capfd.readouterr().out


@pytest.mark.parametrize("name", ["nothing", "nothing:here", "json:nothing", ":", "json:__doc__"])
def test_a_worker_that_is_not_there_is_a_setting_that_is_wrong(name: str) -> None:
    with pytest.raises(SettingsInvalid, match="worker"):
        load_worker(name, group="tidegate.chunk", deadline_s=DEADLINE_S)


async def test_the_same_text_is_unchanged_for_the_same_worker(job_server: JobServer) -> None:
    async with opened(job_server, chunk=cut_in_tens) as pipeline:
        await pipeline.run(put(text="0123456789abc"))
        second = put(text="0123456789abc")
        await pipeline.run(second)
        assert pipeline.phase(second.job_id) == "unchanged"


@pytest.mark.parametrize(
    ("chunks", "says"),
    [
        (None, "must be a list"),
        ([], "must be a list"),
        ("some text", "must be a list"),
        ([1], "neither a text"),
        (["other"], "not in the text"),
        ([""], "empty"),
        ([{"start": 0, "end": 99}], "within the text"),
        ([{"start": 5, "end": 9}, {"start": 0, "end": 4}], "behind the start"),
        ([{"start": 0, "end": 4, "heading": "\0"}], "NUL"),
        ([{"start": 0, "end": 4, "heading": "\ud800"}], "lone surrogates"),
    ],
)
async def test_chunks_that_are_not_of_the_text_fail(job_server: JobServer, chunks: object, says: str) -> None:
    async def cut(item: dict[str, Any]) -> dict[str, Any]:
        return {**item, "chunks": chunks}

    async with opened(job_server, chunk=cut) as pipeline:
        stage, reason, detail = await failing(pipeline)
    assert (stage, reason) == ("chunk", "worker_failed")
    assert says in detail


async def test_an_answer_for_another_id_fails(job_server: JobServer) -> None:
    async def cut(item: dict[str, Any]) -> dict[str, Any]:
        return {"id": "other", "chunks": [item["text"]]}

    async with opened(job_server, chunk=cut) as pipeline:
        assert "another id" in (await failing(pipeline))[2]


async def test_a_chunk_of_too_many_tokens_fails(job_server: JobServer) -> None:
    async def cut(item: dict[str, Any]) -> dict[str, Any]:
        return {**item, "chunks": [item["text"]]}

    async with opened(job_server, chunk=cut) as pipeline:
        assert "tokens" in (await failing(pipeline, "word " * 2000))[2]


@pytest.mark.parametrize(
    "embeddings",
    [None, [], [[1.0, 2.0]], [[1.0, 2.0, float("nan")]], [[0.0, 0.0, 0.0]], [["a", "b", "c"]], [[1, 0, 0], [1, 0, 0]]],
)
async def test_vectors_that_do_not_fit_fail(job_server: JobServer, embeddings: object) -> None:
    answers = [[[1.0, 0.0, 0.0]] * 3]  # the canonical texts, at the start

    async def embed(item: dict[str, Any]) -> dict[str, Any]:
        return {**item, "embeddings": answers.pop() if answers else embeddings}

    async with opened(job_server, embed=embed) as pipeline:
        stage, reason, _ = await failing(pipeline)
    assert (stage, reason) == ("embed", "bad_chunk")


async def test_a_worker_that_raises_returns_nothing_or_hangs_is_one_failed_document(
    job_server: JobServer,
) -> None:
    async def raises(_item: dict[str, Any]) -> dict[str, Any]:
        raise RuntimeError("no")

    async def nothing(_item: dict[str, Any]) -> Any:
        return None

    async def hangs(_item: dict[str, Any]) -> Any:
        await never()

    for worker, says in ((raises, "RuntimeError"), (nothing, "NoneType"), (hangs, "did not answer")):
        async with opened(job_server, store=worker, deadline_s=0.5) as pipeline:
            stage, reason, detail = await failing(pipeline)
        assert (stage, reason) == ("store", "worker_failed")
        assert says in detail


def never() -> Awaitable[None]:
    """Return what is never done."""
    return asyncio.get_running_loop().create_future()
