"""
The local model, on the real jar where a machine has it in its cache (`tidegate up` fetches it), and jars that are none.
"""

import asyncio
import zipfile
from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path
from time import perf_counter, process_time

import numpy as np
import pytest

from deploy.local import folders, jars
from schemas.documents.embedding.contract import EmbeddingFailed, FailureReason, TextKind, Vector
from schemas.documents.embedding.fingerprints import CANONICAL_TEXTS, agrees, fingerprint
from schemas.documents.embedding.minilm import STRETCH_CHARACTERS, MiniLmEmbedder
from schemas.process.settings import SettingsInvalid

JAR = folders.cache() / jars.REPOSITORY / jars.pinned_model().path
needs_jar = pytest.mark.skipif(not JAR.exists(), reason="the jar of the model is not in the cache")
ALONE_S = 5.0


@pytest.fixture
async def minilm() -> AsyncIterator[MiniLmEmbedder]:
    embedder = MiniLmEmbedder(JAR, threads=1)
    yield embedder
    await embedder.close()


async def embedded(embedder: MiniLmEmbedder, *texts: str) -> list[Vector]:
    found = await embedder.embed(texts, kind=TextKind.PASSAGE)
    assert not [each for each in found if isinstance(each, EmbeddingFailed)]
    return [each for each in found if not isinstance(each, EmbeddingFailed)]


@needs_jar
async def test_texts_of_like_meaning_are_close(minilm: MiniLmEmbedder) -> None:
    cat, kitten, ledger = await embedded(
        minilm, "A cat sleeps on the sofa.", "The kitten is napping on a couch.", "The ledger was audited in spring."
    )
    assert cat.shape == (384,)
    assert np.linalg.norm(cat) == pytest.approx(1, abs=1e-5)
    assert float(cat @ kitten) > 0.6
    assert float(cat @ ledger) < 0.2


@needs_jar
async def test_a_text_has_the_same_vector_in_any_company(minilm: MiniLmEmbedder) -> None:
    """A batch would scale the activations of int8 by its largest."""
    [alone] = await embedded(minilm, "short")
    _, among, _ = await embedded(minilm, "much longer " * 60, "short", "the third")
    assert (alone == among).all()


@needs_jar
async def test_no_text_is_cut_or_filled_up(minilm: MiniLmEmbedder) -> None:
    """The definition of the tokenizer cuts at 128 pieces, and fills up to as many."""
    assert len(minilm.tokens("word " * 500)) == 500
    assert len(minilm.tokens("word")) == 1
    long = "tide " * 200
    one, other = await embedded(minilm, long, long + "the auditor found a bottle with a letter in it")
    assert float(one @ other) < 0.99


@needs_jar
async def test_a_text_over_the_limit_is_refused(minilm: MiniLmEmbedder) -> None:
    fits, over = await minilm.embed(
        ["word " * minilm.tokens_max, "word " * (minilm.tokens_max + 1)], kind=TextKind.QUERY
    )
    assert not isinstance(fits, EmbeddingFailed)
    assert isinstance(over, EmbeddingFailed)
    assert over.reason is FailureReason.TOO_LONG
    assert over.detail == "255 word pieces, and 254 are allowed"


@needs_jar
@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("\U0001f600 tide", ["\U0001f600", "tide"]),
        ("e\u0301t\u00e9 caf\u00e9", ["e\u0301t", "\u00e9", "caf\u00e9"]),
        ("\U0001d4b3\U0001d4b4 gate", ["\U0001d4b3\U0001d4b4", "gate"]),
        ("\u6f6e\u6c50", ["\u6f6e", "\u6c50"]),
        ("a\r\n\tb", ["a", "b"]),
    ],
)
async def test_places_of_tokens_are_code_points(minilm: MiniLmEmbedder, text: str, pieces: list[str]) -> None:
    assert [text[start:end] for start, end in minilm.tokens(text)] == pieces


@needs_jar
@pytest.mark.parametrize("filler", ["tide and gate \U0001f600 ", "line\n", "x"])
async def test_tokens_of_a_long_text_are_those_of_its_parts(minilm: MiniLmEmbedder, filler: str) -> None:
    text = filler * (3 * STRETCH_CHARACTERS // len(filler))
    spans = minilm.tokens(text)
    assert all(before[0] <= after[0] and before[1] <= after[1] for before, after in pairwise(spans))
    assert "".join(text[start:end] for start, end in spans) == "".join(text.split())
    if filler != "x":  # which is one unknown piece, or one for each stretch
        assert len(spans) == len(minilm.tokens(filler)) * (len(text) // len(filler))


async def gaps_during(work: asyncio.Task[object]) -> list[float]:
    """Return how long each turn of the event loop took while *work* was done."""
    turns = [perf_counter()]
    while not work.done():
        await asyncio.sleep(0.001)
        turns.append(perf_counter())
    await work
    return [after - before for before, after in pairwise(turns)]


@needs_jar
async def test_the_event_loop_turns_while_texts_are_embedded(minilm: MiniLmEmbedder) -> None:
    begun_s = process_time()
    gaps = await gaps_during(asyncio.create_task(minilm.embed(["tide and gate " * 60] * 20, kind=TextKind.PASSAGE)))
    assert len(gaps) > 20
    assert max(gaps) < max(0.25, (process_time() - begun_s) / 2)


@needs_jar
async def test_the_event_loop_turns_while_a_thread_counts_tokens(minilm: MiniLmEmbedder) -> None:
    """The tokenizer's plain call would hold the interpreter's lock from start to end."""
    begun_s = process_time()
    gaps = await gaps_during(asyncio.create_task(asyncio.to_thread(minilm.tokens, "tide and gate " * 100_000)))
    assert len(gaps) > 10
    assert max(gaps) < (process_time() - begun_s) / 2


@needs_jar
async def test_a_long_call_ends_between_two_texts_when_it_is_cancelled(minilm: MiniLmEmbedder) -> None:
    call = asyncio.create_task(minilm.embed(["tide and gate " * 60] * 10_000, kind=TextKind.PASSAGE))
    await embedded(minilm, "another call has its turn, so the first is under way")
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    async with asyncio.timeout(ALONE_S):
        await embedded(minilm, "and the threads are free again")


@needs_jar
async def test_a_query_does_not_wait_for_a_long_call() -> None:
    """Two threads: the long call has both, and gives one up after a text."""
    embedder = MiniLmEmbedder(JAR, threads=2)
    call = asyncio.create_task(embedder.embed(["tide and gate " * 60] * 10_000, kind=TextKind.PASSAGE))
    try:
        async with asyncio.timeout(ALONE_S):
            await embedded(embedder, "which gate is shut?")
        assert not call.done()
    finally:
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        await embedder.close()


@needs_jar
async def test_its_fingerprint_is_that_of_another_process_and_its_long_text_is_long(minilm: MiniLmEmbedder) -> None:
    other = MiniLmEmbedder(JAR, threads=1)
    assert other.id == minilm.id
    assert agrees(await fingerprint(minilm), await fingerprint(other))
    assert max(len(minilm.tokens(text)) for text in CANONICAL_TEXTS) > 128
    await other.close()


def jar_of(folder: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(folder / "a.jar", "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return folder / "a.jar"


@pytest.mark.parametrize(
    ("files", "fault"),
    [
        ({}, r"must have one file \*\.onnx, and has 0"),
        ({"a.onnx": b"", "b.onnx": b""}, r"must have one file \*\.onnx, and has 2"),
        ({"a.onnx": b"x"}, r"must have one file \*tokenizer\.json, and has 0"),
        ({"a.onnx": b"x", "tokenizer.json": b"{}"}, "does not load"),
        ({"a.onnx": b"x", "tokenizer.json": b"\xff"}, "does not load"),
    ],
)
def test_a_jar_without_a_model_prevents_the_start(tmp_path: Path, files: dict[str, bytes], fault: str) -> None:
    with pytest.raises(SettingsInvalid, match=f"TIDEGATE_MINILM_JAR.*{fault}"):
        MiniLmEmbedder(jar_of(tmp_path, files), threads=1)


def test_what_is_no_jar_prevents_the_start(tmp_path: Path) -> None:
    (tmp_path / "text.jar").write_text("not a jar")
    for path in (tmp_path / "missing.jar", tmp_path / "text.jar", tmp_path):
        with pytest.raises(SettingsInvalid, match=r"TIDEGATE_MINILM_JAR: .* cannot be read .*: set it to the jar"):
            MiniLmEmbedder(path, threads=1)
