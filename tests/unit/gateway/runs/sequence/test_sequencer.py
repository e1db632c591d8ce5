"""What may follow in a run: from memory, from a look at the log, and in doubt."""

import asyncio

import msgspec
import pytest

from gateway.errors import (
    EventTooLarge,
    HttpError,
    IdempotencyConflict,
    LogUnavailable,
    ObjectsUnavailable,
    QueueFull,
    RunClosed,
    SequenceError,
    StoreUnavailable,
)
from gateway.kafka.records import OutgoingRecord
from gateway.runs.parsing.prepared import PreparedEvent
from gateway.runs.sequence import sequencer, state_reader
from gateway.runs.sequence.memory import REMEMBERED_MAX, KnownEvent, RunEnd, RunState
from gateway.runs.sequence.sequencer import Submission
from gateway.runs.sequence.tail import PartitionTail
from schemas.access.credentials import Gateway
from schemas.kafka.places import RecordPlace
from schemas.kafka.seal import record_mac
from schemas.objects.references import INLINE_BYTES_MAX
from schemas.runs.records import RunStatus
from tests.support import builders
from tests.support.fakes import InForce, log_record
from tests.unit.gateway.runs.sequence.conftest import KEY, Door, finalization, prepared

LARGE = "x" * INLINE_BYTES_MAX


async def test_events_follow_one_another(door: Door) -> None:
    places = [await door.one(prepared(seq)) for seq in (1, 2, 3)]
    assert [status for status, _ in places] == ["accepted"] * 3
    assert [place.offset for _, place in places] == [0, 1, 2]
    assert door.tails.reads == 1, "only the first of a run is looked up"


async def test_a_hundred_retries_of_one_event_make_one_record(door: Door) -> None:
    """Also when they come before anything is known of the run."""
    answers = await asyncio.gather(*(door.one(prepared(1)) for _ in range(100)))
    assert [status for status, _ in answers].count("accepted") == 1
    assert {place.wal_id for _, place in answers} == {"run.events/0/0"}
    assert len(door.publisher.published) == 1


async def test_what_is_not_next_is_refused_with_what_is(door: Door) -> None:
    await door.one(prepared(1))
    with pytest.raises(SequenceError) as refused:
        await door.one(prepared(3))
    assert refused.value.expected_seq == 2


async def test_the_log_is_looked_at_before_a_refusal(door: Door) -> None:
    """Another gateway has taken what is missing here."""
    await door.one(prepared(1))
    door.appear(prepared(2).record, prepared(3).record)
    assert (await door.one(prepared(4)))[0] == "accepted"


async def test_other_content_is_a_conflict(door: Door) -> None:
    await door.one(prepared(1, key="k"))
    with pytest.raises(IdempotencyConflict):
        await door.one(prepared(1, content="other"))
    with pytest.raises(IdempotencyConflict):
        await door.one(prepared(2, key="k"))


@pytest.mark.parametrize("again", [prepared(1, content="other"), prepared(2, key="k")], ids=["seq", "key"])
async def test_other_content_is_a_conflict_though_retention_has_removed_the_first(
    door: Door, again: PreparedEvent
) -> None:
    """Regression: it was 503 for as long as the gateway remembered the event."""
    await door.one(prepared(1, key="k"))
    await door.stored_to(1)
    door.store.numbering[KEY] = RunState(head=1, removed=True)
    with pytest.raises(IdempotencyConflict):
        await door.one(again)


@pytest.mark.parametrize("again", [prepared(1, content="other"), prepared(2, key="k")], ids=["seq", "key"])
async def test_other_content_is_a_conflict_though_an_open_transaction_hides_the_first(
    door: Door, again: PreparedEvent
) -> None:
    await door.one(prepared(1, key="k"))
    door.tails.hidden_from = 0
    with pytest.raises(IdempotencyConflict):
        await door.one(again)


async def test_a_seq_whose_record_persistence_has_rejected_is_free(door: Door) -> None:
    """Memory knows what was acknowledged, the store what counts."""
    await door.one(prepared(1))
    await door.one(prepared(2, key="used before"))
    await door.stored_to(2)
    first = KnownEvent(sha256=prepared(1).identity.sha256, idempotency_key=None, place=RecordPlace("run.events", 0, 0))
    door.store.numbering[KEY] = RunState(head=1, entries={1: first})
    assert (await door.one(prepared(2)))[0] == "accepted"


async def test_what_others_wrote_is_a_duplicate_at_their_place(door: Door) -> None:
    """From the tail and from the store, by seq and by key."""
    door.appear(prepared(2, key="k-2").record)
    place = RecordPlace("run.events", 0, 7)
    door.store.numbering[KEY] = RunState(
        head=1, entries={1: KnownEvent(sha256=prepared(1).identity.sha256, idempotency_key=None, place=place)}
    )
    assert await door.one(prepared(1)) == ("duplicate", place)
    assert await door.one(prepared(2, key="k-2")) == ("duplicate", RecordPlace("run.events", 0, 100))
    with pytest.raises(IdempotencyConflict):
        await door.one(prepared(4, key="k-2"))


async def test_a_retry_of_what_memory_has_dropped_is_found_in_the_log(door: Door) -> None:
    for seq in range(1, REMEMBERED_MAX + 3):
        await door.one(prepared(seq))
    assert await door.one(prepared(1)) == ("duplicate", RecordPlace("run.events", 0, 0))
    assert door.tails.reads == 2


async def test_what_the_log_lacks_below_the_head_is_taken(door: Door) -> None:
    """A direct producer left a gap, or a record never arrived."""
    door.appear(prepared(1).record, prepared(4).record)
    assert (await door.one(prepared(3)))[0] == "accepted"
    assert (await door.one(prepared(5)))[0] == "accepted"


async def test_what_persistence_will_reject_is_no_part_of_the_run(door: Door) -> None:
    """Anyone who may produce to the topic could else stop a run."""
    forged = prepared(1, content="forged").record
    door.appear(msgspec.structs.replace(forged, headers=[]), msgspec.structs.replace(forged, value=b"no frame"))
    assert (await door.one(prepared(1)))[0] == "accepted"


def resealed(given: OutgoingRecord, secret: str, *, value: bytes | None = None) -> OutgoingRecord:
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
    door.appear(resealed(prepared(1).record, "a-newer-secret"))
    assert (await door.one(prepared(2)))[0] == "accepted"
    door.appear(resealed(prepared(3).record, "forged-secret"))
    assert (await door.one(prepared(3)))[0] == "accepted"


async def test_a_newer_release_that_signs_with_a_newer_secret_is_noticed(door: Door) -> None:
    door.credentials.written = NEWER
    newer = prepared(1).record
    door.appear(resealed(newer, "a-newer-secret", value=newer.value[:1] + b"\x00\x00\x03\xe7" + newer.value[5:]))
    (submission,) = await door.submit(prepared(2))
    assert isinstance(submission, Submission)
    assert not submission.verified


async def test_a_record_of_a_newer_release_proves_nothing(door: Door) -> None:
    """Its run goes on, unverified, until a worker of that release has stored it."""
    newer = prepared(1).record
    value = newer.value[:1] + b"\x00\x00\x03\xe7" + newer.value[5:]
    door.appear(resealed(newer, builders.MAC_SECRET, value=value))
    (submission,) = await door.submit(prepared(2))
    assert isinstance(submission, Submission)
    assert not submission.verified


async def test_an_error_of_ours_keeps_nobody_waiting(door: Door) -> None:
    door.store.failure = RuntimeError("a bug")
    (submission,) = await door.submit(prepared(1))
    assert isinstance(submission, Submission)
    assert not submission.verified


async def test_what_the_store_has_leaves_the_tail() -> None:
    """A tail that only grew would fill up."""
    tail = PartitionTail(0, records_max=4, credentials=InForce(builders.credentials()))
    for offset in range(4):
        tail.add(log_record(prepared(offset + 1).record, RecordPlace("run.events", 0, offset)))
    assert tail.full
    asked = [prepared(1).identity, prepared(4).identity]
    assert tail.add_to(RunState(), KEY, asked).entries.keys() == {1, 4}
    tail.begin_at(3)
    assert not tail.full
    assert tail.add_to(RunState(), KEY, asked).entries.keys() == {4}
    tail.begin_at(9)
    assert (tail.add_to(RunState(), KEY, asked), tail.end) == (RunState(read_to=9), 9)


async def test_the_run_waits_while_an_event_is_in_doubt(door: Door) -> None:
    """Nothing new is taken, a retry joins, and with the report the run goes on."""
    door.publisher.held = []
    (submission,) = await door.submit(prepared(1))
    (delivery,) = door.publisher.held
    delivery.give_up(LogUnavailable("no acknowledgement"))
    assert isinstance(submission, Submission)
    with pytest.raises(LogUnavailable):
        await submission.acknowledged()
    (refused,) = await door.submit(prepared(2))
    assert isinstance(refused, LogUnavailable)
    (joined,) = await door.submit(prepared(1))
    assert isinstance(joined, Submission)
    assert joined.duplicate
    delivery.settle(RecordPlace("run.events", 0, 5))
    assert (await joined.acknowledged()).offset == 5
    door.publisher.held = None
    assert (await door.one(prepared(2)))[0] == "accepted"
    assert len(door.publisher.published) == 2


async def test_what_did_not_arrive_leaves_no_trace(door: Door) -> None:
    """The event after it came through: what failed is a gap that can be filled."""
    door.publisher.held = []
    first, second = await door.submit(prepared(1), prepared(2))
    assert isinstance(first, Submission)
    assert isinstance(second, Submission)
    door.publisher.held[0].settle(EventTooLarge("too large"))
    door.publisher.held[1].settle(RecordPlace("run.events", 0, 0))
    with pytest.raises(EventTooLarge):
        await first.acknowledged()
    door.publisher.held = None
    door.appear(prepared(2).record)
    with pytest.raises(SequenceError):
        await door.one(prepared(4))
    assert (await door.one(prepared(1, content="smaller")))[0] == "accepted"
    assert (await door.one(prepared(3)))[0] == "accepted"


async def test_other_content_waits_for_the_fate_of_what_is_on_its_way(door: Door) -> None:
    door.publisher.held = []
    await door.submit(prepared(1))
    late = asyncio.create_task(door.one(prepared(1, content="other")))
    await asyncio.sleep(0.01)
    assert not late.done()
    delivery, door.publisher.held = door.publisher.held[0], None
    delivery.settle(EventTooLarge("too large"))
    assert (await late)[0] == "accepted"


@pytest.mark.parametrize("refusal", [QueueFull("full"), LogUnavailable("away")])
async def test_what_is_not_handed_over_is_not_remembered(door: Door, refusal: HttpError) -> None:
    door.publisher.failure = refusal
    (outcome,) = await door.submit(prepared(1))
    assert outcome is refusal
    door.publisher.failure = None
    assert await door.one(prepared(1)) == ("accepted", RecordPlace("run.events", 0, 0))


async def test_a_batch_ends_with_what_is_refused(door: Door) -> None:
    outcomes = await door.submit(prepared(1), prepared(3), prepared(2))
    assert [type(outcome) for outcome in outcomes] == [Submission, SequenceError]


async def test_without_the_store_events_are_taken_unverified(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing can be refused; when the store is back, the run is looked up."""
    monkeypatch.setattr(state_reader, "RETRY_DELAY_S", 0.01)
    door.store.failure = StoreUnavailable("away")
    (submission,) = await door.submit(prepared(5))
    assert isinstance(submission, Submission)
    assert not submission.verified
    await submission.acknowledged()
    assert (await door.one(prepared(5)))[0] == "duplicate"
    assert (await door.one(prepared(5, content="other")))[0] == "accepted"
    door.store.failure = None
    await asyncio.sleep(0.5)
    (submission,) = await door.submit(prepared(6))
    assert isinstance(submission, Submission)
    assert submission.verified
    with pytest.raises(SequenceError):
        await door.one(prepared(8))


async def test_a_tail_too_long_to_read_leaves_events_unverified(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    """And is not read again for each of them."""
    monkeypatch.setattr(state_reader, "RETRY_DELAY_S", 0.5)
    door.tails.complete = False
    for seq in (9, 10, 11):
        (submission,) = await door.submit(prepared(seq))
        assert isinstance(submission, Submission)
        assert not submission.verified
    assert door.tails.reads == 1
    door.tails.complete = True
    await asyncio.sleep(1.0)
    (submission,) = await door.submit(prepared(12))
    assert isinstance(submission, Submission)
    assert submission.verified


async def test_a_run_is_closed_once(door: Door) -> None:
    await door.one(prepared(1))
    close = door.sequencer.close
    first = await close(KEY, RunStatus.FAILED, finalization(RunStatus.FAILED))
    again = await close(KEY, RunStatus.FAILED, finalization(RunStatus.FAILED))
    assert (first.status, again.status) == ("accepted", "duplicate")
    assert await first.acknowledged() == await again.acknowledged()
    with pytest.raises(IdempotencyConflict):
        await close(KEY, RunStatus.SUCCEEDED, finalization())
    with pytest.raises(RunClosed):
        await door.one(prepared(2))
    assert (await door.one(prepared(1)))[0] == "duplicate"


async def test_others_may_have_closed_the_run(door: Door) -> None:
    """In the tail or in the store."""
    door.appear(prepared(1).record, finalization(RunStatus.CANCELLED))
    with pytest.raises(RunClosed, match="cancelled"):
        await door.one(prepared(2))
    assert (await door.one(prepared(1)))[0] == "duplicate"
    other = (builders.TENANT, "run-2")
    place = RecordPlace("run.events", 0, 3)
    door.store.numbering[other] = RunState(head=1, closing=RunEnd(status=RunStatus.FAILED, place=place))
    submission = await door.sequencer.close(other, RunStatus.FAILED, finalization(RunStatus.FAILED, run_id="run-2"))
    assert (submission.status, await submission.acknowledged()) == ("duplicate", place)


async def test_a_run_is_closed_behind_what_is_on_its_way(door: Door) -> None:
    """In doubt it is not closed."""
    door.publisher.held = []
    await door.submit(prepared(1))
    closing = asyncio.create_task(door.sequencer.close(KEY, RunStatus.SUCCEEDED, finalization()))
    await asyncio.sleep(0.01)
    assert len(door.publisher.published) == 1
    door.publisher.held[0].give_up(LogUnavailable("no acknowledgement"))
    with pytest.raises(LogUnavailable):
        await closing


async def test_a_large_payload_is_kept_once_the_event_would_be_taken(door: Door) -> None:
    """Not for what is refused or is there already."""
    refused, *_ = await door.submit(prepared(2, content=LARGE))
    assert isinstance(refused, SequenceError)
    assert door.objects.puts == []
    assert (await door.one(prepared(1, content=LARGE)))[0] == "accepted"
    assert (await door.one(prepared(1, content=LARGE)))[0] == "duplicate"
    assert len(door.objects.puts) == 1


async def test_events_go_to_the_log_up_to_the_one_whose_payload_is_not_kept(door: Door) -> None:
    """Small ones before it are taken, nothing behind it is; the same again goes through."""
    door.objects.failure = ObjectsUnavailable("away")
    given = [prepared(1), prepared(2, content=LARGE), prepared(3)]
    first, second = await door.submit(*given)
    assert isinstance(first, Submission)
    assert isinstance(second, ObjectsUnavailable)
    assert len(door.publisher.published) == 1
    door.objects.failure = None
    outcomes = await door.submit(*given)
    assert [each.status for each in outcomes if isinstance(each, Submission)] == ["duplicate", "accepted", "accepted"]
    assert len(door.objects.kept) == 1


async def test_large_payloads_that_come_together_are_kept_together(door: Door) -> None:
    door.objects.gate = asyncio.Event()
    taking = asyncio.create_task(door.submit(*(prepared(seq, content=f"{seq}{LARGE}") for seq in (1, 2, 3))))
    async with asyncio.timeout(10):
        for _ in range(3):
            await door.objects.asked.acquire()
    assert door.publisher.published == []
    door.objects.gate.set()
    assert all(isinstance(each, Submission) for each in await taking)
    assert len(door.publisher.published) == 3


async def test_memory_is_bounded(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    """What rested longest is dropped; what is on its way is not."""
    held = sequencer.Sequencer(
        publisher=door.publisher, states=door.sequencer._states, uploads=door.sequencer._uploads, runs_max=3
    )
    monkeypatch.setattr(door, "sequencer", held)
    for number in range(10):
        run_id = f"run-{number}"
        (submission,) = await held.submit((builders.TENANT, run_id), [prepared(1, run_id=run_id)])
        assert isinstance(submission, Submission)
        await submission.acknowledged()
    assert [run_id for _, run_id in held._runs] == ["run-7", "run-8", "run-9"]
