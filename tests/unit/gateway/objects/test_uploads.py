"""Large payloads are set apart, and kept within bounds."""

import asyncio

import msgspec
import pytest

from gateway.errors import NotFound, ObjectsUnavailable, QueueFull
from gateway.objects.uploads import UPLOADS_MAX, Copy, Uploads
from gateway.runs.parsing.prepared import Upload, set_apart
from schemas.objects.references import INLINE_BYTES_MAX, PayloadRef, reference_to
from tests.support import builders
from tests.support.fakes import MemoryObjects


def upload(number: int, *, size_bytes: int = 10) -> Upload:
    return Upload(key=f"demo/run-1/{number}", content=b"x" * size_bytes)


def test_a_payload_at_the_bound_stays_in_its_record() -> None:
    event = builders.run_event(payload=f'"{"x" * (INLINE_BYTES_MAX - 2)}"')
    assert set_apart(event) == (event, None)


def test_a_larger_payload_is_referred_to() -> None:
    """Nothing else of the event changes, its digest least of all."""
    text = f'"{"é" * (INLINE_BYTES_MAX // 2)}"'
    event = builders.run_event(payload=text)
    referring, apart = set_apart(event)
    assert apart is not None
    assert apart.content == text.encode()
    assert referring.payload is None
    assert referring.payload_ref is not None
    assert (referring.payload_ref.key, referring.payload_ref.size_bytes) == (apart.key, INLINE_BYTES_MAX + 2)
    assert msgspec.structs.replace(referring, payload=text, payload_ref=None) == event


async def test_what_is_kept_is_not_refused() -> None:
    storage = MemoryObjects()
    outcomes = await Uploads(storage).keep([upload(1), upload(2), upload(1)])
    assert outcomes == {"demo/run-1/1": None, "demo/run-1/2": None}
    assert sorted(storage.puts) == sorted(storage.kept) == sorted(outcomes), "the same payload is kept once"


async def test_a_storage_that_is_away_refuses_each() -> None:
    away = ObjectsUnavailable("away")
    outcomes = await Uploads(MemoryObjects(failure=away)).keep([upload(1), upload(2)])
    assert set(outcomes.values()) == {away}


async def test_a_slow_storage_is_not_waited_for_long() -> None:
    """Neither by who is being served nor by who waits for a turn; the place is free again afterwards."""
    storage = MemoryObjects(gate=asyncio.Event())
    uploads = Uploads(storage, timeout_s=0.05)
    outcomes = await uploads.keep([upload(number) for number in range(UPLOADS_MAX + 1)])
    assert {type(each) for each in outcomes.values()} == {ObjectsUnavailable}
    assert len(storage.puts) >= UPLOADS_MAX  # the last may have its turn in the moment in which the others give up
    storage.gate = None
    assert await uploads.keep([upload(0)]) == {"demo/run-1/0": None}


async def test_more_bytes_than_may_wait_are_refused() -> None:
    storage = MemoryObjects(gate=asyncio.Event())
    uploads = Uploads(storage, waiting_bytes_max=100)
    first = asyncio.create_task(uploads.keep([upload(1, size_bytes=60)]))
    await asyncio.sleep(0)
    (refusal,) = (await uploads.keep([upload(2, size_bytes=60)])).values()
    assert isinstance(refusal, QueueFull)
    assert storage.gate is not None
    storage.gate.set()
    await first
    assert await uploads.keep([upload(3, size_bytes=100)]) == {"demo/run-1/3": None}


@pytest.mark.parametrize("waiting", [1, UPLOADS_MAX + 1])
async def test_who_gives_up_frees_what_it_held(waiting: int) -> None:
    storage = MemoryObjects(gate=asyncio.Event())
    uploads = Uploads(storage, waiting_bytes_max=waiting * 10)
    given_up = asyncio.create_task(uploads.keep([upload(number) for number in range(waiting)]))
    await asyncio.sleep(0)
    given_up.cancel()
    with pytest.raises(asyncio.CancelledError):
        await given_up
    storage.gate = None
    assert await uploads.keep([upload(0, size_bytes=10 * waiting)]) == {"demo/run-1/0": None}


def kept_before(storage: MemoryObjects, content: bytes) -> PayloadRef:
    """Keep a payload; return the reference to it."""
    reference = reference_to(content, tenant="demo", run_id="run-1")
    storage.kept[reference.key] = content
    return reference


async def test_what_is_kept_already_is_kept_under_another_key_and_once_more_under_its_own() -> None:
    storage = MemoryObjects()
    reference = kept_before(storage, b"text")
    outcomes = await Uploads(storage).copy([Copy(source=reference, key=key) for key in ("demo/other", reference.key)])
    assert outcomes == {"demo/other": None, reference.key: None}
    assert (storage.kept["demo/other"], sorted(storage.puts)) == (b"text", ["demo/other", reference.key])


async def test_what_is_not_there_or_another_content_is_not_copied() -> None:
    storage = MemoryObjects()
    reference = kept_before(storage, b"text")
    storage.kept[reference.key] = b"othe"
    longer = msgspec.structs.replace(reference, size_bytes=5)
    gone = msgspec.structs.replace(reference, key="demo/run-1/gone")
    for number, source in enumerate((reference, longer, gone)):
        [refusal] = (await Uploads(storage).copy([Copy(source=source, key=str(number))])).values()
        assert isinstance(refusal, NotFound)
    assert storage.puts == []


async def test_copies_are_bounded_as_uploads_are() -> None:
    storage = MemoryObjects()
    copies = [Copy(source=kept_before(storage, b"x" * 60), key="0")]
    [refusal] = (await Uploads(storage, waiting_bytes_max=59).copy(copies)).values()
    assert isinstance(refusal, QueueFull)
    storage.failure = ObjectsUnavailable("away")
    assert await Uploads(storage).copy(copies) == {"0": storage.failure}
