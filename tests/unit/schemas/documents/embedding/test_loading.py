"""The embedders that settings name: built-in ones, one of a package outside of the repository, and faults by name."""

import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from deploy.local import folders, jars
from schemas.documents.embedding.config import EmbeddingSettings
from schemas.documents.embedding.contract import EmbeddingFailed, FailureReason, TextKind, TokenizingFailed
from schemas.documents.embedding.loading import ENTRY_POINTS, open_embedders
from schemas.process.settings import SettingsInvalid, load

JAR = folders.cache() / jars.REPOSITORY / jars.pinned_model().path
SOURCE = """
closed = []


class Letters:
    name, dimensions, tokens_max, is_local = "letters", 2, 100, True
    id = "ab" * 32

    def __init__(self, fault=None):
        for name, value in (fault or {}).items():
            setattr(self, name, value)

    def tokens(self, text):
        if "trap" in text:
            raise RuntimeError("caught in it")
        return [(place, place + 1) for place in range(len(text))]

    async def embed(self, texts, *, kind):
        if "trap" in texts:
            raise RuntimeError("caught in it")
        return [[1.0, 0.0] if kind == "passage" else [0.6, 0.8, 9.0][:2 + ("long" in text)] for text in texts]

    async def close(self):
        closed.append(self.id)


def bad_id(): return Letters({"id": "minilm"})
def bad_dimensions(): return Letters({"dimensions": 4001})
def bad_tokens_max(): return Letters({"tokens_max": True})
def bad_is_local(): return Letters({"is_local": None})
def bad_close(): return Letters({"close": None})
def same_id(): return Letters()
def nothing(): return None
def fails(): raise OSError("no weights")
number = 3
"""


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[EntryPoint]:
    """Return the entry points of a package that lies outside of the repository."""
    (tmp_path / "shop_embedders.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "shop_embedders", raising=False)
    names = ["bad_id", "bad_dimensions", "bad_tokens_max", "bad_is_local", "bad_close", "same_id", "nothing", "fails"]
    return [
        EntryPoint("letters", "shop_embedders:Letters", ENTRY_POINTS),
        *(EntryPoint(name, f"shop_embedders:{name}", ENTRY_POINTS) for name in [*names, "number", "missing"]),
        EntryPoint("no_module", "shop_other:make", ENTRY_POINTS),
    ]


def settings(**environ: str) -> EmbeddingSettings:
    return load(EmbeddingSettings, environ)


async def fault_of(environ: dict[str, str], installed: list[EntryPoint]) -> str:
    with pytest.raises(SettingsInvalid) as caught:
        async with open_embedders(settings(**environ), installed=installed):
            pass
    return str(caught.value)


async def test_the_first_is_the_default_and_each_is_found_by_its_id(installed: list[EntryPoint]) -> None:
    named = settings(TIDEGATE_EMBEDDERS="hash, letters,openai")
    async with open_embedders(named, installed=installed) as embedders:
        assert [each.name for each in embedders.all] == ["hash", "letters", "openai"]
        assert embedders.default.name == "hash"
        assert all(embedders.by_id(each.id) is each for each in embedders.all)
        assert embedders.by_id("0" * 64) is None


@pytest.mark.skipif(not JAR.exists(), reason="the jar of the model is not in the cache")
async def test_minilm_is_what_is_loaded_unless_another_is_named() -> None:
    async with open_embedders(settings(TIDEGATE_MINILM_JAR=str(JAR)), installed=[]) as embedders:
        [found] = await embedders.default.embed(["which gate is shut?"], kind=TextKind.QUERY)
        assert embedders.default.name == "minilm"
        assert not isinstance(found, EmbeddingFailed)
        assert found.shape == (384,)


async def test_an_embedder_of_a_package_is_guarded_and_closed(installed: list[EntryPoint]) -> None:
    async with open_embedders(settings(TIDEGATE_EMBEDDERS="letters"), installed=installed) as embedders:
        letters = embedders.default
        assert letters.tokens("ab") == [(0, 1), (1, 2)]
        good, bad = await letters.embed(["short", "long"], kind=TextKind.QUERY)
        assert not isinstance(good, EmbeddingFailed)
        assert isinstance(bad, EmbeddingFailed)
        assert bad.reason is FailureReason.BAD_VECTOR
        [caught] = await letters.embed(["trap"], kind=TextKind.PASSAGE)
        assert isinstance(caught, EmbeddingFailed)
        assert caught.detail == "RuntimeError: caught in it"
        with pytest.raises(TokenizingFailed, match="caught in it"):
            letters.tokens("trap")
    assert sys.modules["shop_embedders"].closed == [letters.id]


@pytest.mark.parametrize(
    ("names", "fault"),
    [
        (",", "TIDEGATE_EMBEDDERS is empty: name at least one"),
        ("bge", "there is no embedder 'bge': name one of .*hash, letters, minilm"),
        ("minilm", "TIDEGATE_MINILM_JAR is missing: set it to"),
        ("hash,hash", "hash and hash are the same: name one of them"),
        ("letters,same_id", "letters and same_id are the same: name one of them"),
        ("bad_id", "embedder bad_id: id must be 64 hexadecimal digits"),
        ("bad_dimensions", "embedder bad_dimensions: dimensions must be from 1 to 4000"),
        ("bad_tokens_max", "embedder bad_tokens_max: tokens_max must be at least 1"),
        ("bad_is_local", "embedder bad_is_local: is_local must be True or False"),
        ("bad_close", "embedder bad_close: tokens, embed and close must be methods"),
        ("nothing", "embedder nothing is not complete"),
        ("fails", "entry point fails: 'shop_embedders:fails' gives no embedder: OSError"),
        ("number", "entry point number: .* gives no embedder"),
        ("missing", "entry point missing: .* gives no embedder"),
        ("no_module", "entry point no_module: .* gives no embedder: ModuleNotFoundError"),
    ],
)
async def test_an_embedder_that_cannot_be_used_prevents_the_start(
    names: str, fault: str, installed: list[EntryPoint]
) -> None:
    with pytest.raises(SettingsInvalid, match=fault):
        async with open_embedders(settings(TIDEGATE_EMBEDDERS=names), installed=installed):
            pass


async def test_those_that_were_loaded_before_a_fault_are_closed(installed: list[EntryPoint]) -> None:
    await fault_of({"TIDEGATE_EMBEDDERS": "letters,bge"}, installed)
    assert sys.modules["shop_embedders"].closed == ["ab" * 32]


async def test_a_package_cannot_take_the_name_of_a_built_in_embedder() -> None:
    fault = await fault_of({"TIDEGATE_EMBEDDERS": "hash"}, [EntryPoint("hash", "shop:make", ENTRY_POINTS)])
    assert "'hash' is the name of a built-in embedder" in fault


async def test_texts_are_sent_to_no_host_that_is_not_listed() -> None:
    environ = {"TIDEGATE_EMBEDDERS": "openai", "TIDEGATE_OPENAI_URL": "https://models.example.com"}
    fault = await fault_of(environ, [])
    assert "host models.example.com is not allowed" in fault
    assert "TIDEGATE_OPENAI_HOSTS" in fault
    async with open_embedders(settings(**environ, TIDEGATE_OPENAI_HOSTS="models.example.com"), installed=[]):
        pass


@pytest.mark.parametrize("name", ["hash", "minilm", "openai"])
def test_without_the_extra_the_start_says_what_to_install(name: str) -> None:
    """In a process of its own, because this one has numpy loaded."""
    program = f"""
import asyncio, sys
sys.modules.update(dict.fromkeys(("numpy", "onnxruntime", "tokenizers")))
from schemas.documents.embedding import config, contract, fingerprints, loading
from schemas.process.settings import SettingsInvalid, load
async def main():
    async with loading.open_embedders(load(config.EmbeddingSettings, {{"TIDEGATE_EMBEDDERS": {name!r}}}), installed=[]):
        pass
try:
    asyncio.run(main())
except SettingsInvalid as error:
    print(error)
"""
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert f"embedder {name} needs a package that is not installed" in said
    assert "pip install 'tidegate[documents]'" in said


def test_a_local_model_leaves_one_core_and_has_at_least_one_thread() -> None:
    assert settings().threads_count >= 1
    assert settings(TIDEGATE_EMBEDDER_THREADS="3").threads_count == 3
