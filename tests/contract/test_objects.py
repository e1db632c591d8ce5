"""One suite over object storage in a folder, in a bucket that speaks S3, and over its fake."""

import asyncio
import secrets
import socket
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from gateway.errors import ObjectsUnavailable
from gateway.objects.backend import ObstoreStorage
from gateway.objects.storage import Damaged, ObjectStorage
from schemas.process.settings import SettingsInvalid
from tests.support.fakes import MemoryObjects
from tests.support.s3 import BUCKET, aws, s3_server

LARGEST_BYTES = 10 * 1024 * 1024


@pytest.fixture(scope="session")
def s3_port() -> Iterator[int]:
    """Yield where an S3 server listens."""
    with s3_server() as port:
        yield port


def tell(monkeypatch: pytest.MonkeyPatch, port: int) -> None:
    """Tell the library where S3 is, as an operator does."""
    for name, value in aws(port).items():
        monkeypatch.setenv(name, value)


@pytest.fixture(params=["fake", "folder", "s3"])
def storage(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ObjectStorage:
    """Return each of the three."""
    if request.param == "fake":
        return MemoryObjects()
    if request.param == "folder":
        return ObstoreStorage(str(tmp_path / "a folder" / "objects"))
    tell(monkeypatch, request.getfixturevalue("s3_port"))
    return ObstoreStorage(f"s3://{BUCKET}/some/prefix")


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def key(run_id: str = "run-1") -> str:
    return f"demo/{run_id}/{secrets.token_hex(32)}"


@pytest.mark.parametrize("content", [b"x", b'"caf\xc3\xa9 1.00"', bytes(LARGEST_BYTES)], ids=["byte", "text", "large"])
async def test_what_is_kept_comes_back(storage: ObjectStorage, content: bytes) -> None:
    name = key()
    await storage.put(name, content)
    assert await storage.get(name, size_bytes=len(content)) == content


# Each may name a run, and none may lead elsewhere.
@pytest.mark.parametrize("run_id", ["...", "..a", "a..", "-", "_", ":", "a:b", "%2e%2e", "A" * 128, "~", "a.tmp#1"])
async def test_any_run_has_a_place_of_its_own(storage: ObjectStorage, run_id: str) -> None:
    name, other = key(run_id), key(run_id)
    await storage.put(name, b"mine")
    assert await storage.get(name, size_bytes=4) == b"mine"
    assert await storage.get(other, size_bytes=4) is None


async def test_what_was_never_kept_is_not_there(storage: ObjectStorage) -> None:
    assert await storage.get(key("another"), size_bytes=1) is None


async def test_the_same_may_be_kept_again(storage: ObjectStorage) -> None:
    """Also at once, as two gateways do."""
    name = key()
    await asyncio.gather(*(storage.put(name, b"same" * 1000) for _ in range(8)))
    assert await storage.get(name, size_bytes=4000) == b"same" * 1000


async def test_another_size_than_was_expected_is_damage(storage: ObjectStorage) -> None:
    name = key()
    await storage.put(name, b"1234")
    with pytest.raises(Damaged):
        await storage.get(name, size_bytes=5)


async def test_a_folder_is_the_owners_alone(tmp_path: Path) -> None:
    """Files lie below it by tenant and run, whole or not at all."""
    folder = tmp_path / "objects"
    storage, name = ObstoreStorage(str(folder)), key()
    await storage.put(name, b"1234")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert files(folder) == [folder / name]


@pytest.mark.parametrize("name", ["../run-1/x", "demo/../../x", "demo//x"])
async def test_no_key_leads_out_of_the_folder(tmp_path: Path, name: str) -> None:
    storage = ObstoreStorage(str(tmp_path / "objects"))
    with suppress(ObjectsUnavailable):
        await storage.put(name, b"1234")
    assert all(path.is_relative_to(tmp_path / "objects") for path in files(tmp_path))


async def test_a_folder_that_cannot_be_written_is_away(tmp_path: Path) -> None:
    storage = ObstoreStorage(str(tmp_path))
    (tmp_path / "demo").write_text("in the way")
    with pytest.raises(ObjectsUnavailable):
        await storage.put(key(), b"1234")


async def test_a_bucket_that_is_not_there_is_away_and_not_empty(s3_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else every payload would be shown as lost."""
    tell(monkeypatch, s3_port)
    storage = ObstoreStorage("s3://nowhere/prefix")
    with pytest.raises(ObjectsUnavailable) as refused:
        await storage.put(key(), b"1234")
    assert "NoSuchBucket" in str(refused.value.__cause__)
    assert "nowhere" not in str(refused.value), "clients are not told"
    with pytest.raises(ObjectsUnavailable):
        await storage.get(key(), size_bytes=4)


async def test_a_server_that_does_not_listen_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    tell(monkeypatch, 9)
    storage = ObstoreStorage(f"s3://{BUCKET}")
    with pytest.raises(ObjectsUnavailable):
        await storage.put(key(), b"1234")
    with pytest.raises(ObjectsUnavailable):
        await storage.get(key(), size_bytes=4)


async def test_a_server_that_does_not_answer_can_be_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever calls bounds the wait, and nothing goes on behind its back."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        tell(monkeypatch, silent.getsockname()[1])
        storage = ObstoreStorage(f"s3://{BUCKET}")
        putting = asyncio.create_task(storage.put(key(), b"1234"))
        connection, _ = await asyncio.to_thread(silent.accept)
        with connection:
            connection.settimeout(10)
            putting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await putting
            while await asyncio.to_thread(connection.recv, 65536):
                pass  # until it is closed


async def test_an_endpoint_without_tls_is_to_be_allowed(s3_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    tell(monkeypatch, s3_port)
    monkeypatch.delenv("AWS_ALLOW_HTTP")
    with pytest.raises(ObjectsUnavailable):
        await ObstoreStorage(f"s3://{BUCKET}").put(key(), b"1234")


@pytest.mark.parametrize("location", ["s3://", "https://host/bucket", "gs://bucket", "/dev/null/objects"])
def test_what_is_no_place_stops_the_start(location: str) -> None:
    with pytest.raises(SettingsInvalid, match="TIDEGATE_OBJECTS"):
        ObstoreStorage(location)
