"""What may follow in a run: from memory, from a look at the log, and in doubt."""

import asyncio

import msgspec
import pytest

from gateway.errors import (
    EventTooLarge,
    IdempotencyConflict,
    LogUnavailable,
    ObjectsUnavailable,
    QueueFull,
    Refused,
    RunClosed,
    SequenceError,
    StoreUnavailable,
)
from gateway.kafka.records import Outgoing
from gateway.runs.parsing.offers import Offer
from gateway.runs.sequence import looks, sequencer
from gateway.runs.sequence.memory import REMEMBERED_MAX, Closing, Entry, Known
from gateway.runs.sequence.sequencer import Taken
from gateway.runs.sequence.tail import PartitionTail
from schemas.access.credentials import Gateway
from schemas.kafka.places import RecordPlace
from schemas.kafka.seal import record_mac
from schemas.objects.references import INLINE_BYTES_MAX
from schemas.runs.records import RunStatus
from tests.support import builders
from tests.support.fakes import InForce, log_record
from tests.unit.gateway.runs.sequence.conftest import KEY, Door, finalization, offer

LARGE = "x" * INLINE_BYTES_MAX


async def test_events_follow_one_another(door: Door) -> None:
    places = [await door.one(offer(seq)) for seq in (1, 2, 3)]
    assert [status for status, _ in places] == ["accepted"] * 3
    assert [place.offset for _, place in places] == [0, 1, 2]
    assert door.tails.reads == 1, "only the first of a run is looked up"


async def test_a_hundred_retries_of_one_event_make_one_record(door: Door) -> None:
    """Also when they come before anything is known of the run."""
    answers = await asyncio.gather(*(door.one(offer(1)) for _ in range(100)))
    assert [status for status, _ in answers].count("accepted") == 1
    assert {place.wal_id for _, place in answers} == {"run.events/0/0"}
    assert len(door.publisher.published) == 1


async def test_what_is_not_next_is_refused_with_what_is(door: Door) -> None:
    await door.one(offer(1))
    with pytest.raises(SequenceError) as refused:
        await door.one(offer(3))
    assert refused.value.expected_seq == 2


async def test_the_log_is_looked_at_before_a_refusal(door: Door) -> None:
    """Another gateway has taken what is missing here."""
    await door.one(offer(1))
    door.appear(offer(2).record, offer(3).record)
    assert (await door.one(offer(4)))[0] == "accepted"


async def test_other_content_is_a_conflict(door: Door) -> None:
    await door.one(offer(1, key="k"))
    with pytest.raises(IdempotencyConflict):
        await door.one(offer(1, content="other"))
    with pytest.raises(IdempotencyConflict):
        await door.one(offer(2, key="k"))


@pytest.mark.parametrize("again", [offer(1, content="other"), offer(2, key="k")], ids=["seq", "key"])
async def test_other_content_is_a_conflict_though_retention_has_removed_the_first(door: Door, again: Offer) -> None:
    """Regression: it was 503 for as long as the gateway remembered the event."""
    await door.one(offer(1, key="k"))
    await door.stored_to(1)
    door.store.numbering[KEY] = Known(head=1, removed=True)
    with pytest.raises(IdempotencyConflict):
        await door.one(again)


@pytest.mark.parametrize("again", [offer(1, content="other"), offer(2, key="k")], ids=["seq", "key"])
async def test_other_content_is_a_conflict_though_an_open_transaction_hides_the_first(door: Door, again: Offer) -> None:
    await door.one(offer(1, key="k"))
    door.tails.hidden_from = 0
    with pytest.raises(IdempotencyConflict):
        await door.one(again)


async def test_a_seq_whose_record_persistence_has_rejected_is_free(door: Door) -> None:
    """Memory knows what was acknowledged, the store what counts."""
    await door.one(offer(1))
    await door.one(offer(2, key="used before"))
    await door.stored_to(2)
    first = Entry(sha256=offer(1).event.sha256, idempotency_key=None, receipt=RecordPlace("run.events", 0, 0))
    door.store.numbering[KEY] = Known(head=1, entries={1: first})
    assert (await door.one(offer(2)))[0] == "accepted"


async def test_what_others_wrote_is_a_duplicate_at_their_place(door: Door) -> None:
    """From the tail and from the store, by seq and by key."""
    door.appear(offer(2, key="k-2").record)
    place = RecordPlace("run.events", 0, 7)
    door.store.numbering[KEY] = Known(
        head=1, entries={1: Entry(sha256=offer(1).event.sha256, idempotency_key=None, receipt=place)}
    )
    assert await door.one(offer(1)) == ("duplicate", place)
    assert await door.one(offer(2, key="k-2")) == ("duplicate", RecordPlace("run.events", 0, 100))
    with pytest.raises(IdempotencyConflict):
        await door.one(offer(4, key="k-2"))


async def test_a_retry_of_what_memory_has_dropped_is_found_in_the_log(door: Door) -> None:
    for seq in range(1, REMEMBERED_MAX + 3):
        await door.one(offer(seq))
    assert await door.one(offer(1)) == ("duplicate", RecordPlace("run.events", 0, 0))
    assert door.tails.reads == 2


async def test_what_the_log_lacks_below_the_head_is_taken(door: Door) -> None:
    """A direct producer left a gap, or a record never arrived."""
    door.appear(offer(1).record, offer(4).record)
    assert (await door.one(offer(3)))[0] == "accepted"
    assert (await door.one(offer(5)))[0] == "accepted"


async def test_what_persistence_will_reject_is_no_part_of_the_run(door: Door) -> None:
    """Anyone who may produce to the topic could else stop a run."""
    forged = offer(1, content="forged").record
    door.appear(msgspec.structs.replace(forged, headers=[]), msgspec.structs.replace(forged, value=b"no frame"))
    assert (await door.one(offer(1)))[0] == "accepted"


def resealed(given: Outgoing, secret: str, *, value: bytes | None = None) -> Outgoing:
    """Return the record as a gateway seals it that signs with *secret*."""
    value = given.value if value is None else value
    mac = record_mac(secret, topic=given.topic, key=given.key, tenant=builders.TENANT.encode(), value=value)
    headers = [(name, mac if name == "gateway-mac" else text) for name, text in given.headers]
    return msgspec.structs.replace(given, value=value, headers=headers)


NEWER = msgspec.structs.replace(
    builders.credentials(), gateway=Gateway(mac_secrets=["a-newer-secret", builders.MAC_SECRET])
)


async def test_what_another_gateway_sealed_with_a_newer_secret_is_part_of_the_run(door: Door) -> None:
    """It may have read the credentials file before this one does."""
    door.credentials.written = NEWER
    door.appear(resealed(offer(1).record, "a-newer-secret"))
    assert (await door.one(offer(2)))[0] == "accepted"
    door.appear(resealed(offer(3).record, "forged-secret"))
    assert (await door.one(offer(3)))[0] == "accepted"


async def test_a_newer_release_that_signs_with_a_newer_secret_is_noticed(door: Door) -> None:
    door.credentials.written = NEWER
    newer = offer(1).record
    door.appear(resealed(newer, "a-newer-secret", value=newer.value[:1] + b"\x00\x00\x03\xe7" + newer.value[5:]))
    (taken,) = await door.take(offer(2))
    assert isinstance(taken, Taken)
    assert not taken.verified


async def test_a_record_of_a_newer_release_proves_nothing(door: Door) -> None:
    """Its run goes on, unverified, until a worker of that release has stored it."""
    newer = offer(1).record
    value = newer.value[:1] + b"\x00\x00\x03\xe7" + newer.value[5:]
    door.appear(resealed(newer, builders.MAC_SECRET, value=value))
    (taken,) = await door.take(offer(2))
    assert isinstance(taken, Taken)
    assert not taken.verified


async def test_an_error_of_ours_keeps_nobody_waiting(door: Door) -> None:
    door.store.failure = RuntimeError("a bug")
    (taken,) = await door.take(offer(1))
    assert isinstance(taken, Taken)
    assert not taken.verified


async def test_what_the_store_has_leaves_the_tail() -> None:
    """A tail that only grew would fill up."""
    tail = PartitionTail(0, records_max=4, credentials=InForce(builders.credentials()))
    for offset in range(4):
        tail.take(log_record(offer(offset + 1).record, RecordPlace("run.events", 0, offset)))
    assert tail.full
    asked = [offer(1).event, offer(4).event]
    assert tail.add_to(Known(), KEY, asked).entries.keys() == {1, 4}
    tail.begin_at(3)
    assert not tail.full
    assert tail.add_to(Known(), KEY, asked).entries.keys() == {4}
    tail.begin_at(9)
    assert (tail.add_to(Known(), KEY, asked), tail.end) == (Known(seen_to=9), 9)


async def test_the_run_waits_while_an_event_is_in_doubt(door: Door) -> None:
    """Nothing new is taken, a retry joins, and with the report the run goes on."""
    door.publisher.held = []
    (taken,) = await door.take(offer(1))
    (delivery,) = door.publisher.held
    delivery.give_up(LogUnavailable("no acknowledgement"))
    assert isinstance(taken, Taken)
    with pytest.raises(LogUnavailable):
        await taken.acknowledged()
    (refused,) = await door.take(offer(2))
    assert isinstance(refused, LogUnavailable)
    (joined,) = await door.take(offer(1))
    assert isinstance(joined, Taken)
    assert joined.duplicate
    delivery.settle(RecordPlace("run.events", 0, 5))
    assert (await joined.acknowledged()).offset == 5
    door.publisher.held = None
    assert (await door.one(offer(2)))[0] == "accepted"
    assert len(door.publisher.published) == 2


async def test_what_did_not_arrive_leaves_no_trace(door: Door) -> None:
    """The event after it came through: what failed is a gap that can be filled."""
    door.publisher.held = []
    first, second = await door.take(offer(1), offer(2))
    assert isinstance(first, Taken)
    assert isinstance(second, Taken)
    door.publisher.held[0].settle(EventTooLarge("too large"))
    door.publisher.held[1].settle(RecordPlace("run.events", 0, 0))
    with pytest.raises(EventTooLarge):
        await first.acknowledged()
    door.publisher.held = None
    door.appear(offer(2).record)
    with pytest.raises(SequenceError):
        await door.one(offer(4))
    assert (await door.one(offer(1, content="smaller")))[0] == "accepted"
    assert (await door.one(offer(3)))[0] == "accepted"


async def test_other_content_waits_for_the_fate_of_what_is_on_its_way(door: Door) -> None:
    door.publisher.held = []
    await door.take(offer(1))
    late = asyncio.create_task(door.one(offer(1, content="other")))
    await asyncio.sleep(0.01)
    assert not late.done()
    delivery, door.publisher.held = door.publisher.held[0], None
    delivery.settle(EventTooLarge("too large"))
    assert (await late)[0] == "accepted"


@pytest.mark.parametrize("refusal", [QueueFull("full"), LogUnavailable("away")])
async def test_what_is_not_handed_over_is_not_remembered(door: Door, refusal: Refused) -> None:
    door.publisher.failure = refusal
    (outcome,) = await door.take(offer(1))
    assert outcome is refusal
    door.publisher.failure = None
    assert await door.one(offer(1)) == ("accepted", RecordPlace("run.events", 0, 0))


async def test_a_batch_ends_with_what_is_refused(door: Door) -> None:
    outcomes = await door.take(offer(1), offer(3), offer(2))
    assert [type(outcome) for outcome in outcomes] == [Taken, SequenceError]


async def test_without_the_store_events_are_taken_unverified(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing can be refused; when the store is back, the run is looked up."""
    monkeypatch.setattr(looks, "AGAIN_S", 0.01)
    door.store.failure = StoreUnavailable("away")
    (taken,) = await door.take(offer(5))
    assert isinstance(taken, Taken)
    assert not taken.verified
    await taken.acknowledged()
    assert (await door.one(offer(5)))[0] == "duplicate"
    assert (await door.one(offer(5, content="other")))[0] == "accepted"
    door.store.failure = None
    await asyncio.sleep(0.5)
    (taken,) = await door.take(offer(6))
    assert isinstance(taken, Taken)
    assert taken.verified
    with pytest.raises(SequenceError):
        await door.one(offer(8))


async def test_a_tail_too_long_to_read_leaves_events_unverified(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    """And is not read again for each of them."""
    monkeypatch.setattr(looks, "AGAIN_S", 0.5)
    door.tails.complete = False
    for seq in (9, 10, 11):
        (taken,) = await door.take(offer(seq))
        assert isinstance(taken, Taken)
        assert not taken.verified
    assert door.tails.reads == 1
    door.tails.complete = True
    await asyncio.sleep(1.0)
    (taken,) = await door.take(offer(12))
    assert isinstance(taken, Taken)
    assert taken.verified


async def test_a_run_is_closed_once(door: Door) -> None:
    await door.one(offer(1))
    close = door.sequencer.close
    first = await close(KEY, RunStatus.FAILED, finalization(RunStatus.FAILED))
    again = await close(KEY, RunStatus.FAILED, finalization(RunStatus.FAILED))
    assert (first.status, again.status) == ("accepted", "duplicate")
    assert await first.acknowledged() == await again.acknowledged()
    with pytest.raises(IdempotencyConflict):
        await close(KEY, RunStatus.SUCCEEDED, finalization())
    with pytest.raises(RunClosed):
        await door.one(offer(2))
    assert (await door.one(offer(1)))[0] == "duplicate"


async def test_others_may_have_closed_the_run(door: Door) -> None:
    """In the tail or in the store."""
    door.appear(offer(1).record, finalization(RunStatus.CANCELLED))
    with pytest.raises(RunClosed, match="cancelled"):
        await door.one(offer(2))
    assert (await door.one(offer(1)))[0] == "duplicate"
    other = (builders.TENANT, "run-2")
    place = RecordPlace("run.events", 0, 3)
    door.store.numbering[other] = Known(head=1, closing=Closing(status=RunStatus.FAILED, receipt=place))
    taken = await door.sequencer.close(other, RunStatus.FAILED, finalization(RunStatus.FAILED, run_id="run-2"))
    assert (taken.status, await taken.acknowledged()) == ("duplicate", place)


async def test_a_run_is_closed_behind_what_is_on_its_way(door: Door) -> None:
    """In doubt it is not closed."""
    door.publisher.held = []
    await door.take(offer(1))
    closing = asyncio.create_task(door.sequencer.close(KEY, RunStatus.SUCCEEDED, finalization()))
    await asyncio.sleep(0.01)
    assert len(door.publisher.published) == 1
    door.publisher.held[0].give_up(LogUnavailable("no acknowledgement"))
    with pytest.raises(LogUnavailable):
        await closing


async def test_a_large_payload_is_kept_once_the_event_would_be_taken(door: Door) -> None:
    """Not for what is refused or is there already."""
    refused, *_ = await door.take(offer(2, content=LARGE))
    assert isinstance(refused, SequenceError)
    assert door.objects.puts == []
    assert (await door.one(offer(1, content=LARGE)))[0] == "accepted"
    assert (await door.one(offer(1, content=LARGE)))[0] == "duplicate"
    assert len(door.objects.puts) == 1


async def test_events_go_to_the_log_up_to_the_one_whose_payload_is_not_kept(door: Door) -> None:
    """Small ones before it are taken, nothing behind it is; the same again goes through."""
    door.objects.failure = ObjectsUnavailable("away")
    given = [offer(1), offer(2, content=LARGE), offer(3)]
    first, second = await door.take(*given)
    assert isinstance(first, Taken)
    assert isinstance(second, ObjectsUnavailable)
    assert len(door.publisher.published) == 1
    door.objects.failure = None
    outcomes = await door.take(*given)
    assert [each.status for each in outcomes if isinstance(each, Taken)] == ["duplicate", "accepted", "accepted"]
    assert len(door.objects.kept) == 1


async def test_large_payloads_that_come_together_are_kept_together(door: Door) -> None:
    door.objects.gate = asyncio.Event()
    taking = asyncio.create_task(door.take(*(offer(seq, content=f"{seq}{LARGE}") for seq in (1, 2, 3))))
    async with asyncio.timeout(10):
        for _ in range(3):
            await door.objects.asked.acquire()
    assert door.publisher.published == []
    door.objects.gate.set()
    assert all(isinstance(each, Taken) for each in await taking)
    assert len(door.publisher.published) == 3


async def test_memory_is_bounded(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    """What rested longest is dropped; what is on its way is not."""
    held = sequencer.Sequencer(
        publisher=door.publisher, looks=door.sequencer._looks, uploads=door.sequencer._uploads, runs_max=3
    )
    monkeypatch.setattr(door, "sequencer", held)
    for number in range(10):
        run_id = f"run-{number}"
        (taken,) = await held.take((builders.TENANT, run_id), [offer(1, run_id=run_id)])
        assert isinstance(taken, Taken)
        await taken.acknowledged()
    assert [run_id for _, run_id in held._runs] == ["run-7", "run-8", "run-9"]
