"""Object storage as maintenance sees it, in a folder and in a bucket: what the gateway keeps is listed, and goes."""

import secrets
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gateway.objects.backend import ObstoreStorage
from processors.runs.retention.objects import ObstoreObjects
from processors.runs.retention.rules import StoredObject
from processors.runtime.errors import Transient
from schemas.objects.references import owner_of
from schemas.process.settings import SettingsInvalid
from tests.support.s3 import BUCKET, aws, s3_server

RUNS = ("...", "..a", "a..", "-", "_", ":", "a:b", "A" * 128, "run-1")


@pytest.fixture(params=["folder", "s3"])
def location(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    if request.param == "folder":
        yield str(tmp_path / "objects")
        return
    with s3_server() as port:
        for name, value in aws(port).items():
            monkeypatch.setenv(name, value)
        yield f"s3://{BUCKET}/some/prefix"


async def listed(objects: ObstoreObjects) -> dict[str, StoredObject]:
    return {each.key: each async for page in objects.pages() for each in page}


async def test_what_the_gateway_keeps_is_listed_by_its_name_and_goes_when_it_is_deleted(location: str) -> None:
    kept, objects = ObstoreStorage(location), ObstoreObjects(location)
    assert await listed(objects) == {}
    names = [f"demo/{run_id}/{secrets.token_hex(32)}" for run_id in RUNS]
    for name in names:
        await kept.put(name, b"1234")
    found = await listed(objects)
    assert set(found) == set(names)
    for name, run_id in zip(names, RUNS, strict=True):
        assert owner_of(name) == ("demo", run_id)
        assert found[name].size_bytes == 4
        assert abs(datetime.now(UTC) - found[name].modified_at) < timedelta(minutes=1)
        assert await objects.stat(name) == found[name]
    await objects.delete(names[0])
    await objects.delete(names[0])
    assert await objects.stat(names[0]) is None
    assert set(await listed(objects)) == set(names[1:])
    await kept.put(names[0], b"1234")
    assert await kept.get(names[0], size_bytes=4) == b"1234", "its folder is made again"


async def test_a_bucket_that_is_not_there_is_away_and_not_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    with s3_server() as port:
        for name, value in aws(port).items():
            monkeypatch.setenv(name, value)
        objects = ObstoreObjects("s3://nowhere/prefix")
        with pytest.raises(Transient):
            await listed(objects)
        with pytest.raises(Transient):
            await objects.delete(f"demo/run-1/{'a' * 64}")


@pytest.mark.parametrize("location", ["s3://", "https://host/bucket", "gs://bucket", "/dev/null/objects"])
def test_what_is_no_place_stops_the_start(location: str) -> None:
    with pytest.raises(SettingsInvalid):
        ObstoreObjects(location)
