"""Slices to one endpoint: order within a run, independence between runs, and what is done about failures."""

import asyncio
import json
import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from processors.outbound.breaker import Breaker
from processors.outbound.sending import Answer, AttemptResult
from processors.runs.evaluation.forwarding import RESOLVED_MAX, End, Forwarder, Undelivered
from processors.runs.evaluation.webhook import WebhookMessage
from processors.runtime.contract import Arrival, Outcome, Settled, Tally
from processors.runtime.errors import Transient
from schemas.errors import Reason, Rejection
from schemas.pacing.breaker import BreakerState
from schemas.runs.endpoints import Endpoint, new_secret
from schemas.runs.records import RunRecord, event_id
from tests.support.builders import event, raw, referring, run_event
from tests.support.fakes import MemoryPayloads

TAKEN = Answer(verdict=AttemptResult.TAKEN)
FAILED = Answer(verdict=AttemptResult.FAILED, detail="HTTP 500")
REFUSED = Answer(verdict=AttemptResult.REFUSED, detail="HTTP 400")
SEEDS = 40
GONE = Answer(verdict=AttemptResult.GONE, detail="HTTP 410")


class Receiver:
    """Answers as the test says, and keeps what it took in order; time passes only where something waits."""

    def __init__(
        self, answers: Callable[[str], Answer] = lambda _: TAKEN, *, made: type[Forwarder] = Forwarder, **endpoint: Any
    ) -> None:
        self.answers = answers
        self.endpoint = Endpoint(url="https://example.org", secrets=(new_secret(),), **endpoint)
        self.now_s = 0.0
        self.waits_s: list[float] = []
        self.attempts: list[str] = []
        self.taken: list[str] = []
        self.bodies: list[dict[str, Any]] = []
        self.payloads = MemoryPayloads()
        self.under_way = 0
        self.most_under_way = 0
        self.breaker = Breaker(changed=lambda *_: None)
        self.forwarder = made(
            lambda: self.endpoint,
            send=self.send,
            payloads=self.payloads,
            breaker=self.breaker,
            concurrency=self.endpoint.concurrency,
            clock_s=lambda: self.now_s,
            sleep=self.sleep,
            jitter=lambda: 0.0,
        )

    async def send(self, _endpoint: Endpoint, message: WebhookMessage) -> Answer:
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        self.attempts.append(message.id)
        self.bodies.append(json.loads(message.body))
        for _ in range(3):
            await asyncio.sleep(0)
        self.under_way -= 1
        answer = self.answers(message.id)
        if answer is TAKEN:
            self.taken.append(message.id)
        return answer

    async def sleep(self, seconds: float) -> None:
        self.waits_s.append(seconds)
        self.now_s += seconds
        await asyncio.sleep(0)

    async def until_settled(self, arrivals: Sequence[Arrival[RunRecord]]) -> Settled[RunRecord]:
        """As the delivery loop does: again after each wait."""
        for _ in range(1000):
            try:
                return await self.forwarder.forward(arrivals)
            except Transient:
                await self.sleep(5.0)
        raise AssertionError("never settled")


def arrivals(*places: tuple[str, int], rejected: Sequence[int] = (), partition: int = 0) -> list[Arrival[RunRecord]]:
    found = []
    for offset, (run_id, seq) in enumerate(places):
        record = run_event(event(seq, run_id=run_id))
        rejection = Rejection(reason=Reason.UNSIGNED_DIRECT, detail="") if offset in rejected else None
        found.append(Arrival(raw(record, offset=offset, partition=partition), {}, record, rejection))  # type: ignore[arg-type]
    return found


def ids(*places: tuple[str, int]) -> list[str]:
    return [event_id("demo", run_id, seq) for run_id, seq in places]


async def test_a_runs_events_come_one_after_the_other_and_runs_side_by_side() -> None:
    receiver = Receiver(concurrency=4)
    slices = [(f"run-{n % 6}", n // 6 + 1) for n in range(30)]
    settled = await receiver.forwarder.forward(arrivals(*slices))
    assert settled.tally == Tally({(Outcome.DONE, None): 30})
    for run in range(6):
        own = [each for each in receiver.taken if each in ids(*((f"run-{run}", seq) for seq in range(1, 6)))]
        assert own == ids(*((f"run-{run}", seq) for seq in range(1, 6)))
    assert receiver.most_under_way == 4


async def test_what_is_not_asked_for_or_not_valid_is_not_sent() -> None:
    receiver = Receiver(types=("message",))
    assert (await receiver.forwarder.forward(arrivals(("a", 1)))).tally == Tally({(Outcome.FILTERED, None): 1})
    receiver.endpoint = Receiver().endpoint
    settled = await receiver.forwarder.forward(arrivals(("a", 1), rejected=[0]))
    assert settled.tally == Tally({(Outcome.REJECTED, Reason.UNSIGNED_DIRECT): 1})
    assert receiver.attempts == []


@pytest.mark.parametrize("broken", [OverflowError("Python int too large"), RuntimeError("\udcff"), KeyError("x")])
async def test_an_attempt_that_raises_whatever_it_is_has_failed(broken: Exception) -> None:
    """Regression: one broken header of a receiver's answer ended the worker at each start."""
    broken_left = 2

    def answer(_: str) -> Answer:
        nonlocal broken_left
        broken_left -= 1
        if broken_left >= 0:
            raise broken
        return TAKEN

    receiver = Receiver(answer)
    assert (await receiver.until_settled(arrivals(("a", 1)))).tally == Tally({(Outcome.DONE, None): 1})
    assert receiver.attempts == ids(("a", 1)) * 3


async def test_attempts_that_raise_open_the_breaker_with_a_printable_reason() -> None:
    def answer(_: str) -> Answer:
        raise RuntimeError("\udcff\n")

    receiver = Receiver(answer)
    with pytest.raises(Transient):
        await receiver.forwarder.forward(arrivals(("a", 1)))
    assert receiver.breaker.state is BreakerState.OPEN
    assert receiver.breaker.reason == "RuntimeError: \\udcff\\u000a"


def one_large(content: bytes) -> Arrival[RunRecord]:
    record = referring(content, run_id="a")
    return Arrival(raw(record), {}, record, None)  # type: ignore[arg-type]


async def test_a_payload_in_object_storage_is_sent_to_who_asks_for_it() -> None:
    content = b'{"n": 1.000}'
    for resolve, payload in ((False, None), (True, {"n": 1.0})):
        receiver = Receiver(resolve=resolve)
        arrival = one_large(content)
        receiver.payloads.kept[arrival.record.payload_ref.key] = content  # type: ignore[union-attr]
        await receiver.forwarder.forward([arrival])
        (event_sent,) = (body["data"]["event"] for body in receiver.bodies)
        assert (event_sent["payload"], event_sent["payload_ref"]["size_bytes"]) == (payload, len(content))
        assert "payload_problem" not in event_sent
        assert receiver.payloads.fetched == resolve


async def test_a_payload_that_is_gone_is_said_to_be() -> None:
    receiver = Receiver(resolve=True)
    await receiver.forwarder.forward([one_large(b"1234")])
    (body,) = receiver.bodies
    assert (body["data"]["event"]["payload"], body["data"]["event"]["payload_problem"]) == (None, "missing")


async def test_an_object_storage_that_is_away_holds_its_run_and_is_no_failure_of_the_receiver() -> None:
    receiver = Receiver(resolve=True)
    content = b'"large"'
    slices = [one_large(content), *arrivals(("a", 1), ("a", 2), ("b", 1))[1:]]
    receiver.payloads.kept[slices[0].record.payload_ref.key] = content  # type: ignore[union-attr]
    receiver.payloads.away = True
    for _ in range(10):
        with pytest.raises(Transient, match="object storage"):
            await receiver.forwarder.forward(slices)
    assert receiver.taken == ids(("b", 1))
    assert receiver.breaker.is_closed
    receiver.payloads.away = False
    await receiver.forwarder.forward(slices)
    assert receiver.taken == ids(("b", 1), ("a", 1), ("a", 2)), "what was taken is not sent again"


async def test_few_large_payloads_are_held_at_once() -> None:
    receiver = Receiver(resolve=True, concurrency=64)
    found = []
    for number in range(20):
        record = referring(b"1234", run_id=f"run-{number}")
        receiver.payloads.kept[record.payload_ref.key] = b"1234"  # type: ignore[union-attr]
        found.append(Arrival(raw(record, offset=number), {}, record, None))  # type: ignore[arg-type]
    await receiver.forwarder.forward(found)
    assert (len(receiver.taken), receiver.most_under_way) == (20, RESOLVED_MAX)


async def test_those_that_wait_for_their_turn_with_a_large_payload_leave_room_for_others() -> None:
    receiver = Receiver(resolve=True, concurrency=RESOLVED_MAX + 1)
    there = receiver.payloads.there = asyncio.Event()
    large = []
    for number in range(2 * RESOLVED_MAX):
        record = referring(b"1234", run_id=f"run-{number}")
        large.append(Arrival(raw(record, offset=100 + number), {}, record, None))  # type: ignore[arg-type]
    forwarding = asyncio.create_task(receiver.forwarder.forward([*large, *arrivals(("small", 1))]))
    for _ in range(20):
        await asyncio.sleep(0)
    assert receiver.taken == ids(("small", 1))
    there.set()
    await forwarding
    assert len(receiver.taken) == len(large) + 1


async def test_a_record_that_fails_for_a_while_is_tried_again_in_place() -> None:
    left = [FAILED, FAILED, TAKEN]
    receiver = Receiver(lambda _: left.pop(0) if left else TAKEN)
    await receiver.forwarder.forward(arrivals(("a", 1), ("a", 2)))
    assert receiver.taken == ids(("a", 1), ("a", 2))
    assert receiver.waits_s == [1.0, 2.0]


@pytest.mark.parametrize(("asked_s", "waited_s"), [(None, 1.0), (0.2, 1.0), (1.5, 1.5), (3600.0, 2.0)])
async def test_a_receiver_may_slow_us_down_and_not_stop_us(asked_s: float | None, waited_s: float) -> None:
    left = [Answer(verdict=AttemptResult.FAILED, retry_after_s=asked_s)]
    receiver = Receiver(lambda _: left.pop() if left else TAKEN)
    await receiver.forwarder.forward(arrivals(("a", 1)))
    assert receiver.waits_s == [waited_s]


async def test_while_others_are_taken_one_that_fails_is_put_aside_and_its_run_goes_on() -> None:
    [bad] = ids(("a", 2))
    receiver = Receiver(lambda each: FAILED if each == bad else TAKEN)
    settled = await receiver.forwarder.forward(arrivals(("a", 1), ("a", 2), ("a", 3)))
    [failed] = settled.retry_later
    assert (failed.reason, settled.dead) == (Reason.DELIVERY_FAILED, [])
    assert settled.tally == Tally({(Outcome.DONE, None): 2})
    assert receiver.attempts.count(bad) == 4
    assert receiver.taken == ids(("a", 1), ("a", 3))


async def test_what_is_refused_for_good_is_not_tried_again() -> None:
    [bad] = ids(("a", 1))
    receiver = Receiver(lambda each: REFUSED if each == bad else TAKEN)
    settled = await receiver.forwarder.forward(arrivals(("a", 1), ("a", 2)))
    [failed] = settled.dead
    assert (failed.reason, settled.retry_later) == (Reason.DELIVERY_REFUSED, [])
    assert receiver.attempts.count(bad) == 1


async def test_an_outage_moves_nothing_and_keeps_the_order_of_each_run() -> None:
    down_until_s = 200.0
    receiver = Receiver(lambda _: FAILED if receiver.now_s < down_until_s else TAKEN)
    places = [(f"run-{n % 3}", n // 3 + 1) for n in range(30)]
    settled = await receiver.until_settled(arrivals(*places))
    assert settled.tally == Tally({(Outcome.DONE, None): 30})
    for run in range(3):
        own = ids(*((f"run-{run}", seq) for seq in range(1, 11)))
        assert [each for each in receiver.taken if each in own] == own


class MovesInAnOutage(Forwarder):
    """Puts aside what fails though nothing else is taken."""

    def _takes_others(self, *, since_s: float) -> bool:
        return True


async def test_one_run_alone_is_not_put_aside_in_an_outage() -> None:
    """Its first event fails until the breaker opens: there is no other whose success would say that it is to blame."""
    given = arrivals(*(("a", seq) for seq in range(1, 6)))
    receiver = Receiver(lambda _: FAILED if receiver.now_s < 200 else TAKEN)
    assert (await receiver.until_settled(given)).tally == Tally({(Outcome.DONE, None): 5})
    mistaken = Receiver(lambda _: FAILED if mistaken.now_s < 200 else TAKEN, made=MovesInAnOutage)
    assert (await mistaken.until_settled(given)).retry_later


async def test_while_the_breaker_is_open_nothing_is_attempted() -> None:
    receiver = Receiver(lambda _: FAILED)
    with pytest.raises(Transient):
        await receiver.forwarder.forward(arrivals(("a", 1), ("b", 1)))
    assert receiver.breaker.state is BreakerState.OPEN
    before = len(receiver.attempts)
    for _ in range(5):
        with pytest.raises(Transient):
            await receiver.forwarder.forward(arrivals(("a", 1), ("b", 1)))
    assert len(receiver.attempts) == before


async def test_what_was_delivered_of_a_slice_that_waits_is_not_sent_again() -> None:
    down = set(ids(("a", 2), ("b", 1), ("c", 1), ("d", 1), ("e", 1), ("f", 1)))
    receiver = Receiver(lambda each: FAILED if each in down and receiver.now_s < 100 else TAKEN)
    await receiver.until_settled(arrivals(("a", 1), ("a", 2), ("b", 1), ("c", 1), ("d", 1), ("e", 1), ("f", 1)))
    assert receiver.attempts.count(*ids(("a", 1))) == 1
    assert sorted(receiver.taken) == sorted({*down, *ids(("a", 1))})


async def test_another_run_is_the_probe_after_one_has_failed() -> None:
    """A record on which a receiver always fails does not keep the others from it."""
    [bad] = ids(("a", 1))
    receiver = Receiver(lambda each: FAILED if each == bad or receiver.now_s < 40 else TAKEN)
    settled = await receiver.until_settled(arrivals(("a", 1), ("a", 2), ("b", 1)))
    assert [each.arrival.record.run_id for each in settled.retry_later] == ["a"]
    assert set(receiver.taken) == set(ids(("a", 2), ("b", 1)))


async def test_an_endpoint_that_is_gone_is_disabled_and_loses_nothing() -> None:
    receiver = Receiver(lambda _: GONE)
    with pytest.raises(Transient, match="410"):
        await receiver.forwarder.forward(arrivals(("a", 1)))
    receiver.answers = lambda _: TAKEN
    receiver.now_s = 1e6
    with pytest.raises(Transient):
        await receiver.forwarder.forward(arrivals(("a", 1)))
    receiver.breaker.enabled()
    assert (await receiver.forwarder.forward(arrivals(("a", 1)))).tally == Tally({(Outcome.DONE, None): 1})


async def test_an_attempt_that_is_cut_off_by_a_revocation_holds_no_probe() -> None:
    receiver = Receiver(lambda _: FAILED)
    with pytest.raises(Transient):
        await receiver.forwarder.forward(arrivals(("a", 1)))
    receiver.now_s += 100
    forwarding = asyncio.create_task(receiver.forwarder.forward(arrivals(("a", 1))))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert receiver.under_way == 1
    forwarding.cancel()
    await asyncio.wait([forwarding])
    receiver.answers = lambda _: TAKEN
    assert (await receiver.forwarder.forward(arrivals(("a", 1)))).tally == Tally({(Outcome.DONE, None): 1})


@pytest.mark.parametrize("seed", range(SEEDS))
async def test_every_event_is_taken_or_named_whatever_the_receiver_does(seed: int) -> None:
    await demand(Forwarder, seed)


class PassesByWhatIsBlocked(Forwarder):
    """Takes a record for done that the breaker did not let through."""

    async def _deliver(self, arrival: Arrival[RunRecord]) -> End | Undelivered | None:
        return await super()._deliver(arrival) or (Outcome.DONE, None)


class SendsARunAtOnce(Forwarder):
    """Makes every event a run of its own."""

    def _runs(self, arrivals: Sequence[Arrival[RunRecord]]) -> Sequence[Sequence[Arrival[RunRecord]]]:
        return [[each] for run in super()._runs(arrivals) for each in run]


class RemembersNothing(Forwarder):
    """Sends a slice that waited from its start again."""

    async def forward(self, arrivals: Sequence[Arrival[RunRecord]]) -> Settled[RunRecord]:
        self._settled.clear()
        return await super().forward(arrivals)


@pytest.mark.parametrize("mistake", [PassesByWhatIsBlocked, SendsARunAtOnce, RemembersNothing])
async def test_each_of_these_mistakes_is_seen(mistake: type[Forwarder]) -> None:
    for seed in range(SEEDS):
        try:
            await demand(mistake, seed)
        except AssertionError:
            return
    pytest.fail("nobody noticed")


async def demand(made: type[Forwarder], seed: int) -> None:
    """Once or a failure, and a run's deliveries in order, while another lane's events go on coming."""
    chance = random.Random(seed)
    places = [(f"run-{n % 4}", n // 4 + 1) for n in range(28)]
    bad = {each for each in ids(*places) if chance.random() < 0.1}
    outages = [(chance.uniform(0, 200), chance.uniform(1, 80)) for _ in range(3)]

    downs: dict[str, list[bool]] = {each: [] for each in ids(*places)}

    def answers(each: str) -> Answer:
        is_down = any(start <= receiver.now_s < start + length for start, length in outages)
        downs.setdefault(each, []).append(is_down)
        if is_down:
            return FAILED
        if each in bad:
            return FAILED if seed % 2 else REFUSED
        return TAKEN if chance.random() > 0.1 else FAILED

    receiver = Receiver(answers, made=made)
    failed: list[str] = []
    lane = asyncio.create_task(settle_all(receiver, arrivals(*places), failed))
    for seq in range(1, 1000):
        if lane.done():
            break
        await settle_all(receiver, arrivals(("other", seq), partition=1), [])
        await receiver.sleep(1.0)
    await lane
    taken = [each for each in receiver.taken if each in ids(*places)]
    each_once = sorted(taken + failed) == sorted(ids(*places))
    assert each_once  # by itself: a mistake makes lists whose difference takes a minute to print
    # While it is down nothing else is taken, so that nothing of an outage is put aside for good.
    assert not [each for each in failed if each not in bad and all(was_down for was_down in downs[each])]
    for run in range(4):
        own = [each for each in ids(*((f"run-{run}", seq) for seq in range(1, 8))) if each not in failed]
        assert [each for each in taken if each in own] == own


async def settle_all(receiver: Receiver, given: Sequence[Arrival[RunRecord]], failed: list[str]) -> None:
    """As the delivery loop does, keeping what failed by itself."""
    settled = await receiver.until_settled(given)
    events = [each.arrival.record for each in (*settled.retry_later, *settled.dead)]
    failed += ids(*((each.run_id, each.seq) for each in events))  # type: ignore[union-attr]
