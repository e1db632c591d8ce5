"""The handler of a sink's group, in the loop that every group shares: what each answer does to the records."""

import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.outbound.breaker import IN_A_ROW_MAX, Breaker
from processors.runtime.batch import Batch, RawRecord
from processors.runtime.contract import Arrival, Outcome, Reading
from processors.runtime.dead_letters import OutgoingRecord
from processors.runtime.delivery import Delivery
from processors.runtime.errors import Misconfigured, Transient
from processors.runtime.health import Health
from processors.runtime.limit import DeadLetterLimit
from processors.sinks.contract import BatchRefused, BatchTooLarge, Refused, SinkBatch, TryAgain
from processors.sinks.documents import SourceRecord
from processors.sinks.guarding import GuardedSink
from processors.sinks.sinking import SinkAddress, Sinking
from schemas.errors import Reason, Rejection
from schemas.kafka import headers
from schemas.kafka.places import Partition
from schemas.kafka.topics import Topic
from schemas.process import telemetry
from schemas.process.telemetry import Telemetry
from schemas.sinks.sinks_file import JsonlSink, Retry
from schemas.sinks.telemetry import OF_SINK
from schemas.sinks.topics import SINK
from tests.support.builders import USER_TOPIC
from tests.support.sinks import TOPIC_ID, Answer, Behaviour, RecordingSink, arrival, offsets

ADDRESS = SinkAddress(name="shelf", topic=USER_TOPIC, topic_id=TOPIC_ID, replay_id=None)
RETRY = Retry(first_s=1.0, longest_s=10.0)
LIMIT = DeadLetterLimit(consecutive_max=1000, share_max=1.0)
SOURCE = Partition(USER_TOPIC, 0)


class Loop:
    """A sink behind its handler and the loop, on a clock that only pauses move."""

    def __init__(self, behaviour: Behaviour = lambda _batch: None, **settings: object) -> None:
        self.sink = RecordingSink(behaviour)
        self.now_s = 0.0
        self.pauses_s: list[float] = []
        self.halted_in_pauses: list[bool] = []
        self.letters: list[tuple[int, str, str]] = []  # offset, reason, detail
        self.health = Health(joined=True)
        self.instruments = Telemetry(OF_SINK)
        self.skip_until = 0
        self.given: dict[int, Arrival[SourceRecord]] = {}
        self.breaker = Breaker(changed=lambda _state, _why: None)
        self.sinking = Sinking(
            ADDRESS,
            JsonlSink(folder="unused", retry=RETRY, **settings),  # type: ignore[arg-type]  # as the file has them
            GuardedSink(self.sink, timeout_s=5.0),
            breaker=self.breaker,
            skip_until=self._ordered,
            instruments=self.instruments,
            clock_s=lambda: self.now_s,
            jitter=lambda: 0.0,
        )
        self.delivery = Delivery(
            SINK.group("shelf"),
            self.sinking.write,
            read=self._read,
            dead_letters=self,
            instruments=self.instruments,
            health=self.health,
            limit=lambda: LIMIT,
            clock_s=lambda: self.now_s,
            sleep=self._sleep,
        )

    async def deliver(self, *arrivals: Arrival[SourceRecord]) -> None:
        """Deliver a batch of the log."""
        self.given = dict(enumerate(arrivals))
        await self.delivery.deliver(Batch(SOURCE, [each.raw for each in arrivals]))

    async def write(self, _topic: Topic, records: Sequence[OutgoingRecord]) -> None:
        """Take dead letters."""
        for each in records:
            by_name = dict(each.headers)
            values = [by_name[name] for name in (headers.ORIGINAL_OFFSET, headers.ERROR_CLASS, headers.ERROR_MESSAGE)]
            offset, reason, detail = (value.decode() if isinstance(value, bytes) else value for value in values)
            self.letters.append((int(offset), reason, detail))

    async def _ordered(self, _partition: int) -> int:
        return self.skip_until

    async def _sleep(self, seconds: float) -> None:
        self.pauses_s.append(seconds)
        self.halted_in_pauses.append(SOURCE in self.health.halted)
        self.now_s += seconds

    def _read(self, _records: Sequence[RawRecord]) -> Reading[SourceRecord]:
        return Reading(list(self.given.values()), [])

    @property
    def asked(self) -> list[list[int]]:
        """Return the offsets of each batch that was written, or tried."""
        return [offsets(each) for each in self.sink.asked]

    @property
    def tokens(self) -> list[str]:
        return [each.token.rpartition("/")[2] for each in self.sink.asked]

    def count(self, outcome: Outcome, reason: str = "") -> float:
        return self.instruments[telemetry.RECORDS].labels(USER_TOPIC, "sink.shelf", outcome, reason)._value.get()  # type: ignore[no-any-return]


class Answers:
    """Answers in turn; then takes everything."""

    def __init__(self, *answers: Answer | Exception) -> None:
        self.left = list(answers)

    def __call__(self, _batch: SinkBatch) -> Answer:
        answer = self.left.pop(0) if self.left else None
        if isinstance(answer, Exception):
            raise answer
        return answer


def refuses(*bad: int, with_: type[Exception] = BatchRefused) -> Behaviour:
    """Return a sink that refuses each batch which holds one of the records at *bad*."""

    def behave(batch: SinkBatch) -> Answer:
        if set(bad) & set(offsets(batch)):
            raise with_("HTTP 400")
        return None

    return behave


def records(*at: int, **changes: object) -> list[Arrival[SourceRecord]]:
    return [arrival(offset, **changes) for offset in at]


async def test_a_batch_is_written_once_with_its_name() -> None:
    loop = Loop()
    await loop.deliver(*records(10, 11, 12))
    assert (loop.asked, loop.tokens) == ([[10, 11, 12]], ["10-12"])
    assert loop.sink.asked[0].token == f"{USER_TOPIC}@{TOPIC_ID}/0/10-12"
    assert loop.count(Outcome.DONE) == 3


async def test_what_is_not_asked_for_is_passed_by() -> None:
    loop = Loop(tenant="demo", types=("order.*",))
    rejection = Rejection(reason=Reason.UNKNOWN_TENANT, detail="no")
    await loop.deliver(
        arrival(0, type="order.paid"),
        arrival(1, type="page"),
        arrival(2, type="order.sent", tenant="other"),
        arrival(3, type="order.sent", rejection=rejection),
        arrival(4, type="order.sent"),
    )
    assert loop.asked == [[0, 4]]
    assert (loop.count(Outcome.FILTERED), loop.count(Outcome.REJECTED, "unknown_tenant")) == (2, 1)


async def test_nothing_is_written_where_nothing_is_asked_for() -> None:
    loop = Loop(types=("page",))
    await loop.deliver(*records(0, 1))
    assert loop.asked == []


async def test_a_sink_that_is_away_gets_the_same_batch_until_it_takes_it() -> None:
    """Report: a chunk was gone after its retry limit. Attempts have none."""
    loop = Loop(Answers(*[Transient("busy")] * 30))
    await loop.deliver(*records(0, 1, 2))
    assert loop.asked == [[0, 1, 2]] * 31
    assert (loop.letters, loop.sink.taken) == ([], [0, 1, 2])


async def test_pauses_grow_to_the_longest_and_a_sink_may_ask_for_more_up_to_it() -> None:
    loop = Loop(
        Answers(Transient("a"), Transient("b"), Transient("c", retry_after_s=7.0), Transient("d", retry_after_s=1e9))
    )
    await loop.deliver(*records(0))
    assert loop.pauses_s == [1.0, 2.0, 7.0, 10.0]


async def test_while_the_breaker_is_open_nothing_is_tried_and_nothing_moved() -> None:
    """Report: an open breaker sent everything to the dead letters."""
    loop = Loop(Answers(*[Transient("down")] * IN_A_ROW_MAX), breaker_open_s=500.0)
    await loop.deliver(*records(0, 1))
    assert len(loop.asked) == IN_A_ROW_MAX + 1
    assert loop.now_s >= 500.0
    assert loop.letters == []


@pytest.mark.parametrize("bad", [[0], [2], [4], [0, 4], [1, 2, 3]])
async def test_refused_items_are_dead_letters_with_their_reason_and_the_rest_is_taken(bad: list[int]) -> None:
    loop = Loop(Answers([Refused(index, f"bad {index}") for index in bad]))
    await loop.deliver(*records(0, 1, 2, 3, 4))
    assert loop.letters == [(index, "delivery_refused", f"bad {index}") for index in bad]
    assert loop.asked == [[0, 1, 2, 3, 4]]


@pytest.mark.parametrize("bad", [[0], [3], [7], [2, 5], list(range(8))])
async def test_of_a_batch_that_is_refused_only_the_bad_records_are_dead_letters(bad: list[int]) -> None:
    """Reports: one bad row ended the task, or lost its whole batch, or made what was taken come twice."""
    loop = Loop(refuses(*bad))
    await loop.deliver(*records(*range(8)))
    assert [offset for offset, _, _ in loop.letters] == bad
    taken = [offset for batch in loop.sink.asked if not set(bad) & set(offsets(batch)) for offset in offsets(batch)]
    assert taken == [offset for offset in range(8) if offset not in bad]


async def test_items_to_try_again_are_written_alone_in_order_and_named_after_what_they_are() -> None:
    """Report: items that failed within a 200 were dropped."""
    loop = Loop(Answers([TryAgain(1, "busy"), TryAgain(2, "busy"), TryAgain(4, "busy"), Refused(0, "bad")]))
    await loop.deliver(*records(0, 1, 2, 3, 4))
    assert loop.tokens == ["0-4", "1-2", "4-4"]
    assert [offset for offset, _, _ in loop.letters] == [0]


async def test_too_large_a_batch_is_made_smaller_and_stays_so() -> None:
    loop = Loop(lambda batch: _too_large(batch, records_max=3))
    await loop.deliver(*records(*range(8)))
    assert loop.asked == [list(range(8)), [0, 1, 2, 3], [0, 1], [2, 3], [4, 5], [6, 7]]
    await loop.deliver(*records(8, 9, 10))
    assert loop.asked[-2:] == [[8, 9], [10]]
    assert loop.letters == []


async def test_a_record_that_is_too_large_by_itself_is_a_dead_letter() -> None:
    loop = Loop(refuses(1, with_=BatchTooLarge))
    await loop.deliver(*records(0, 1, 2, 3))
    assert [(offset, reason) for offset, reason, _ in loop.letters] == [(1, "too_large")]
    assert loop.sink.taken == [0, 2, 3]


def _too_large(batch: SinkBatch, *, records_max: int) -> None:
    if len(batch.records) > records_max:
        raise BatchTooLarge("HTTP 413")


async def test_a_wrong_setting_holds_the_sink_and_calls_a_person() -> None:
    """Reports: offsets were committed past events that a wrong password refused."""
    loop = Loop()
    seen: list[tuple[bool, str | None]] = []

    def behave(_batch: SinkBatch) -> Answer:
        seen.append((SOURCE in loop.health.halted, loop.sinking.held_for))
        if len(seen) < 4:
            raise Misconfigured("HTTP 401")
        return None

    loop.sink.behaviour = behave
    await loop.deliver(*records(0, 1))
    assert seen == [(False, None), *[(True, "sink shelf: HTTP 401")] * 3]
    assert (loop.letters, loop.asked) == ([], [[0, 1]] * 4)
    assert (loop.sinking.held_for, loop.health.status()) == (None, "ready")


async def test_a_held_sink_stays_held_while_its_breaker_is_open() -> None:
    loop = Loop(Answers(*[Misconfigured("HTTP 401")] * IN_A_ROW_MAX), breaker_open_s=60.0)
    await loop.deliver(*records(0))
    assert all(loop.halted_in_pauses)
    assert len(loop.halted_in_pauses) > IN_A_ROW_MAX


async def test_records_that_were_sent_back_have_batches_of_their_own_names() -> None:
    """What lay between them is elsewhere: a receiver that knows 3-9 must not take 3, 7 and 9 for it."""
    loop = Loop()
    await loop.deliver(*(arrival(offset, attempt=1) for offset in (3, 7, 8)), arrival(9, attempt=2))
    assert loop.tokens == ["3-3+1", "7-8+1", "9-9+2"]


async def test_records_of_several_partitions_are_never_in_one_batch() -> None:
    loop = Loop()
    await loop.deliver(arrival(3, attempt=1), arrival(4, partition=1, attempt=1))
    assert [(each.partition, offsets(each)) for each in loop.sink.asked] == [(0, [3]), (1, [4])]


async def test_a_batch_that_was_cancelled_comes_again_whole() -> None:
    loop = Loop()
    began = asyncio.Event()

    class Hanging(RecordingSink):
        async def write(self, batch: SinkBatch) -> Answer:
            began.set()
            await asyncio.Event().wait()
            return await super().write(batch)

    loop.sinking._sink = GuardedSink(Hanging(), timeout_s=60.0)
    task = asyncio.create_task(loop.deliver(*records(0, 1)))
    await began.wait()
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    loop.sinking._sink = GuardedSink(loop.sink, timeout_s=60.0)
    await loop.deliver(*records(0, 1))
    assert loop.sink.taken == [0, 1]


async def test_what_fails_is_skipped_where_a_person_has_ordered_it() -> None:
    """Nothing else ends the attempts; what does not fail is written, whatever was ordered."""
    loop = Loop(lambda batch: _away(batch, until=2))
    loop.skip_until = 2
    await loop.deliver(*records(0, 1, 2, 3))
    assert loop.tokens == ["0-3", "2-3"]
    assert (loop.count(Outcome.SKIPPED), loop.count(Outcome.DONE), loop.letters) == (2, 2, [])
    await loop.deliver(arrival(1, attempt=1, type="paid"))
    assert loop.tokens[-1] == "1-1+1"


def _away(batch: SinkBatch, *, until: int) -> None:
    if batch.first < until and not batch.attempt:
        raise Transient("down")


async def test_what_a_person_has_ordered_to_skip_is_written_if_it_can_be() -> None:
    loop = Loop()
    loop.skip_until = 100
    await loop.deliver(*records(0, 1))
    assert loop.sink.taken == [0, 1]


ANSWERS = st.sampled_from(["taken", "transient", "held", "refused", "too large", "in part"])


@given(answers=st.lists(ANSWERS, max_size=30), unwanted=st.sets(st.integers(0, 11)), bad=st.sets(st.integers(0, 11)))
def test_whatever_a_sink_answers_each_record_comes_in_order_or_is_a_dead_letter(
    answers: list[str], unwanted: set[int], bad: set[int]
) -> None:
    """Two batches of one name never differ, and no record is lost."""
    left = iter(answers)

    def behave(batch: SinkBatch) -> Answer:
        match next(left, "taken"):
            case "transient":
                raise Transient("later")
            case "held":
                raise Misconfigured("HTTP 403")
            case "too large" if len(batch.records) > 1:
                raise BatchTooLarge("HTTP 413")
            case "refused" if bad & set(offsets(batch)):
                raise BatchRefused("HTTP 422")
            case "in part":
                return [TryAgain(index) for index in range(0, len(batch.records), 2)]
            case _:
                return None

    loop = Loop(behave, types=("page",))
    at = [arrival(offset, type="click" if offset in unwanted else "page") for offset in range(12)]
    asyncio.run(loop.deliver(*at))
    letters = {offset for offset, _, _ in loop.letters}
    assert letters <= bad - unwanted
    assert sorted([*loop.sink.taken, *letters]) == [offset for offset in range(12) if offset not in unwanted]
    contents = {each.token: offsets(each) for each in loop.sink.asked}
    assert all(contents[each.token] == offsets(each) for each in loop.sink.asked)
    if "in part" not in answers:
        assert loop.sink.taken == sorted(loop.sink.taken)
