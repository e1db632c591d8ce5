"""Object storage is counted, and its absence is said once."""

import asyncio
from typing import Any

import pytest
from structlog.testing import capture_logs

from gateway.errors import ObjectsUnavailable
from gateway.objects.measured import MeasuredStorage
from gateway.objects.storage import Damaged
from schemas.process.telemetry import OBJECT_DURATION, OF_GATEWAY, Telemetry
from tests.support.fakes import MemoryObjects


def count(telemetry: Telemetry, operation: str, outcome: str) -> Any:
    labels = {"operation": operation, "outcome": outcome}
    return telemetry.registry.get_sample_value(f"{OBJECT_DURATION.name}_count", labels)


async def test_each_outcome_is_counted() -> None:
    objects, telemetry = MemoryObjects(), Telemetry(OF_GATEWAY)
    storage = MeasuredStorage(objects, telemetry)
    await storage.put("a", b"1")
    assert await storage.get("a", size_bytes=1) == b"1"
    assert await storage.get("b", size_bytes=1) is None
    with pytest.raises(Damaged):
        await storage.get("a", size_bytes=2)
    assert [count(telemetry, *each) for each in (("put", "done"), ("get", "done"), ("get", "failed"))] == [1, 2, 1]


async def test_going_away_and_coming_back_are_said_once() -> None:
    """With why, of which the client is told nothing; a storage that only hangs is away as well."""
    objects = MemoryObjects(gate=asyncio.Event())
    storage = MeasuredStorage(objects, Telemetry(OF_GATEWAY))
    with capture_logs() as said:
        for _ in range(2):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await storage.put("a", b"1")
        objects.gate = None
        for _ in range(2):
            await storage.put("a", b"1")
        objects.failure = ObjectsUnavailable("away")
        objects.failure.__cause__ = OSError("connection refused")
        for _ in range(2):
            with pytest.raises(ObjectsUnavailable):
                await storage.get("a", size_bytes=1)
    assert [(each["event"], each.get("error")) for each in said] == [
        ("object storage unavailable", "no answer in time"),
        ("object storage available", None),
        ("object storage unavailable", "connection refused"),
    ]
