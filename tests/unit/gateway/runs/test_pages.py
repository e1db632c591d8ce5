"""Pages resolve within bounds."""

import asyncio

import msgspec
import pytest

from gateway.errors import ObjectsUnavailable
from gateway.runs.pages import FETCHES_MAX, PAGES_MAX, Pages
from schemas.objects.references import reference_to, to_json
from schemas.runs.views import EventView
from tests.support import builders
from tests.support.fakes import MemoryObjects
from tests.unit.gateway.conftest import event_view


class Counting(MemoryObjects):
    """Knows how many reads there were at once."""

    reading = 0
    most = 0

    async def get(self, key: str, *, size_bytes: int) -> bytes | None:
        self.reading += 1
        self.most = max(self.most, self.reading)
        try:
            await asyncio.sleep(0)
            return await super().get(key, size_bytes=size_bytes)
        finally:
            self.reading -= 1


def referring(storage: MemoryObjects, seq: int) -> EventView:
    content = b'"%d"' % seq
    reference = reference_to(content, tenant=builders.TENANT, run_id=builders.RUN)
    storage.kept[reference.key] = content
    return event_view(seq, payload_ref=to_json(reference))


async def test_few_are_fetched_at_once() -> None:
    storage = Counting()
    pages = Pages(storage)
    events = [referring(storage, seq) for seq in range(1, 20)]
    shown = await asyncio.gather(*(pages.resolve(events) for _ in range(3 * PAGES_MAX)))
    assert {len(page) for page in shown} == {len(events)}
    assert [bytes(event.payload) for event in shown[0]] == [b'"%d"' % event.seq for event in events]
    assert storage.most <= PAGES_MAX * FETCHES_MAX


async def test_a_slow_storage_is_not_waited_for_long() -> None:
    """The turn is free again afterwards."""
    storage = MemoryObjects(gate=asyncio.Event())
    pages, events = Pages(storage, timeout_s=0.05), [referring(storage, 1)]
    waiting = await asyncio.gather(*(pages.resolve(events) for _ in range(PAGES_MAX + 1)), return_exceptions=True)
    assert {type(each) for each in waiting} == {ObjectsUnavailable}
    storage.gate = None
    (event,) = await pages.resolve(events)
    assert bytes(event.payload) == b'"1"'


async def test_a_page_without_references_waits_for_nobody() -> None:
    storage = MemoryObjects(gate=asyncio.Event())
    pages, events = Pages(storage), [referring(storage, 1)]
    waiting = [asyncio.create_task(pages.resolve(events)) for _ in range(PAGES_MAX)]
    await asyncio.sleep(0)
    whole = [msgspec.structs.replace(events[0], payload_ref=msgspec.Raw(b"null"))]
    assert await pages.resolve(whole) == whole
    assert storage.gate is not None
    storage.gate.set()
    await asyncio.gather(*waiting)


async def test_nothing_is_fetched_any_more_once_the_storage_is_away() -> None:
    storage = Counting(failure=ObjectsUnavailable("away"))
    with pytest.raises(ObjectsUnavailable):
        await Pages(storage).resolve([referring(storage, seq) for seq in range(1, 20)])
    assert (storage.reading, storage.most) == (0, FETCHES_MAX)
