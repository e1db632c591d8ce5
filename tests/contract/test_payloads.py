"""One suite over payloads as processors fetch them: from a folder, from a bucket that speaks S3, and from the fake."""

import secrets
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from gateway.objects.backend import ObstoreStorage
from processors.runtime import payloads
from processors.runtime.errors import Transient
from processors.runtime.payloads import ObstorePayloads, Payloads
from schemas.objects.references import PayloadProblem, PayloadRef, reference_to
from tests.support.fakes import MemoryPayloads
from tests.support.s3 import BUCKET, aws, s3_server

LARGEST_BYTES = 10 * 1024 * 1024


@dataclass
class Kept:
    """What a gateway has kept, and who fetches it."""

    put: Callable[[str, bytes], Awaitable[None]]
    payloads: Payloads


@pytest.fixture(scope="module")
def s3_port() -> Iterator[int]:
    """Yield where an S3 server listens."""
    with s3_server() as port:
        yield port


@pytest.fixture(params=["fake", "folder", "s3"])
def kept(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kept:
    """Return each of the three."""
    if request.param == "fake":
        fake = MemoryPayloads()

        async def put(key: str, content: bytes) -> None:
            fake.kept[key] = content

        return Kept(put, fake)
    location = str(tmp_path / "objects")
    if request.param == "s3":
        location = f"s3://{BUCKET}/{secrets.token_hex(4)}"
        for name, value in aws(request.getfixturevalue("s3_port")).items():
            monkeypatch.setenv(name, value)
    return Kept(ObstoreStorage(location).put, ObstorePayloads(location))


def reference(content: bytes) -> PayloadRef:
    return reference_to(content, tenant="demo", run_id="run-1")


@pytest.mark.parametrize("content", [b"1", bytes(LARGEST_BYTES)], ids=["byte", "largest"])
async def test_what_a_gateway_has_kept_is_fetched(kept: Kept, content: bytes) -> None:
    await kept.put(reference(content).key, content)
    assert await kept.payloads.fetch(reference(content)) == content


async def test_what_is_not_there_is_missing(kept: Kept) -> None:
    assert await kept.payloads.fetch(reference(b"1234")) is PayloadProblem.MISSING


@pytest.mark.parametrize("content", [b"12345", b"4321"], ids=["other size", "other bytes"])
async def test_what_is_not_what_was_sent_is_not_shown(kept: Kept, content: bytes) -> None:
    await kept.put(reference(b"1234").key, content)
    assert await kept.payloads.fetch(reference(b"1234")) is PayloadProblem.DAMAGED


async def test_a_bucket_that_is_missing_is_no_missing_payload(s3_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in aws(s3_port).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(Transient):
        await ObstorePayloads("s3://no-such-bucket/prefix").fetch(reference(b"1234"))


async def test_a_storage_that_is_away_is_waited_for_a_bounded_time(
    unused_tcp_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in aws(unused_tcp_port).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(payloads, "FETCH_S", 0.5)
    with pytest.raises(Transient):
        await ObstorePayloads(f"s3://{BUCKET}/prefix").fetch(reference(b"1234"))


async def test_a_folder_that_is_away_is_not_one_without_the_object(tmp_path: Path) -> None:
    folder = tmp_path / "objects"
    found = ObstorePayloads(str(folder))
    await ObstoreStorage(str(folder)).put(reference(b"1").key, b"1")
    folder.rename(tmp_path / "away")
    with pytest.raises(Transient, match="away"):
        await found.fetch(reference(b"1"))
    (tmp_path / "away").rename(folder)
    assert await found.fetch(reference(b"1")) == b"1"


async def test_a_folder_that_is_back_before_it_is_looked_at_has_what_it_kept(tmp_path: Path) -> None:
    kept, found = ObstoreStorage(str(tmp_path)), ObstorePayloads(str(tmp_path))
    await kept.put(reference(b"1").key, b"1")
    found._store = AwayAtFirst(found._store)  # type: ignore[assignment]
    assert await found.fetch(reference(b"1")) == b"1"


class AwayAtFirst:
    """A store that misses an object at the first read of it."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self._is_away = True

    async def get_async(self, key: str) -> Any:
        if self._is_away:
            self._is_away = False
            raise FileNotFoundError(key)
        return await self._store.get_async(key)
