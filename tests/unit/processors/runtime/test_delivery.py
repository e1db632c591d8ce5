"""The loop that settles every record of a slice."""

import asyncio
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
import pytest

from processors.runtime.batch import Batch, Cut
from processors.runtime.contract import Arrival, FailedRecord, Outcome, Settled, Tally
from processors.runtime.dead_letters import OutgoingRecord
from processors.runtime.delivery import Delivery
from processors.runtime.errors import RecordRefused, Transient
from processors.runtime.health import Health
from processors.runtime.limit import DeadLetterLimit
from processors.runtime.reading import trusting_reader
from schemas.access import credentials as credentials_file
from schemas.access.credentials import Agent, CredentialsFile, FileCredentials, Gateway
from schemas.errors import Poison, Reason
from schemas.kafka import headers
from schemas.kafka.places import Partition
from schemas.kafka.topics import Group, Topic
from schemas.process import telemetry
from schemas.runs.codec import RUN_CODEC
from schemas.runs.records import RunRecord
from schemas.runs.topics import EVALUATION, PERSISTENCE
from schemas.runs.validity import check_direct
from tests.support.builders import TENANT, Raw, credentials, event, raw, run_event, signed

TP = Partition("run.events", 0)


class Store:
    """Stores what it is given, less what the test makes it refuse."""

    def __init__(self, *, poison_seqs: Sequence[int] = (), failures: int = 0) -> None:
        self.seqs: list[int] = []
        self.calls: list[int] = []
        self.arrivals: list[Arrival[RunRecord]] = []
        self.poison_seqs = poison_seqs
        self.failures = failures

    async def append(self, arrivals: Sequence[Arrival[RunRecord]]) -> Settled[RunRecord]:
        self.calls.append(len(arrivals))
        if self.failures:
            self.failures -= 1
            raise Transient("Postgres is away")
        seqs = [arrival.record.seq for arrival in arrivals]  # type: ignore[union-attr]  # events only in these tests
        if set(seqs) & set(self.poison_seqs):
            raise Poison(Reason.NOT_STORABLE, "22P05")
        self.seqs += seqs
        self.arrivals += arrivals
        return Settled(Tally({(Outcome.DONE, None): len(seqs)}))


class Writer:
    """Takes dead letters and deferrals, after a number of failures."""

    def __init__(
        self, failures: int = 0, group: Group = PERSISTENCE, *, bytes_max: int | None = None, refuses: int = 0
    ) -> None:
        self.bytes_max = bytes_max  # of a value; as an operator may have set the topic's max.message.bytes
        self.refuses = refuses  # how many records, whatever they are
        self.letters: list[OutgoingRecord] = []
        self.deferred: list[tuple[str, OutgoingRecord]] = []
        self.failures = failures
        self.group = group

    async def write(self, topic: Topic, records: Sequence[OutgoingRecord]) -> None:
        if self.failures:
            self.failures -= 1
            raise Transient("broker is away")
        too_large = self.bytes_max is not None and any(len(each.value or b"") > self.bytes_max for each in records)
        if too_large or self.refuses:
            self.refuses -= not too_large
            raise RecordRefused("the topic takes no such record")
        if topic == self.group.dead_letters:
            self.letters += records
        else:
            assert topic in [tier.topic for tier in self.group.tiers]
            self.deferred += [(topic.name, record) for record in records]


class Loop:
    """A delivery over fakes, with the waits it made."""

    def __init__(self, tmp_path: Path, store: Any, writer: Writer | None = None, *, group: Group = PERSISTENCE) -> None:
        path = self.credentials_path = tmp_path / "credentials.toml"
        credentials_file.write(path, credentials())
        self.waits_s: list[float] = []
        self.limit = DeadLetterLimit()
        self.writer = writer or Writer(group=group)
        self.now_s = 0.0
        self.health = Health()
        self.instruments = telemetry.Telemetry(telemetry.OF_PROCESSORS)
        self.delivery = Delivery(
            group,
            store.append,
            dead_letters=self.writer,  # type: ignore[arg-type]  # a fake of the same shape
            read=trusting_reader(check_direct, codec=RUN_CODEC, credentials=FileCredentials(CredentialsFile(path))),
            instruments=self.instruments,
            health=self.health,
            limit=lambda: self.limit,
            sleep=self._sleep,
            clock_s=lambda: self.now_s,
        )

    async def _sleep(self, seconds: float) -> None:
        assert self.delivery.asleep, "a lane that waits is known to"
        self.waits_s.append(seconds)
        self.now_s += seconds
        await asyncio.sleep(0)

    def counted(self, outcome: Outcome, reason: str = "") -> float:
        labels = {"topic": "run.events", "group": "persistence", "outcome": outcome, "reason": reason}
        return self.instruments.registry.get_sample_value("tidegate_records_total", labels) or 0.0


def events(count: int) -> list[Any]:
    return [raw(run_event(event(seq)), offset=seq) for seq in range(1, count + 1)]


async def test_a_slice_is_stored_at_once_and_in_order(tmp_path: Path) -> None:
    store = Store()
    loop = Loop(tmp_path, store)
    await loop.delivery.deliver(Batch(TP, events(100)))
    assert store.calls == [100]
    assert store.seqs == list(range(1, 101))
    assert loop.counted(Outcome.DONE) == 100


async def test_a_store_that_is_away_is_waited_for(tmp_path: Path) -> None:
    store = Store(failures=30)
    loop = Loop(tmp_path, store)
    await loop.delivery.deliver(Batch(TP, events(3)))
    assert store.seqs == [1, 2, 3]
    assert loop.writer.letters == []
    assert len(loop.waits_s) == 30
    assert max(loop.waits_s) <= 5.0
    assert loop.health.waiting == {}


@pytest.mark.parametrize("poison", [[1], [5], [10], [1, 2], [4, 9], list(range(1, 11))], ids=str)
async def test_poison_is_found_and_its_neighbours_are_stored_in_order(tmp_path: Path, poison: list[int]) -> None:
    store = Store(poison_seqs=poison)
    loop = Loop(tmp_path, store)
    await loop.delivery.deliver(Batch(TP, events(10)))
    assert store.seqs == [seq for seq in range(1, 11) if seq not in poison]
    offsets = [dict(letter.headers)[headers.ORIGINAL_OFFSET] for letter in loop.writer.letters]
    assert offsets == [str(seq).encode() for seq in poison]
    assert loop.counted(Outcome.DEAD_LETTER, "not_storable") == len(poison)


async def test_what_does_not_decode_is_dead_lettered_with_its_bytes(tmp_path: Path) -> None:
    store = Store()
    loop = Loop(tmp_path, store)
    bad = Raw(key=b"k", value=b"no avro", offset=7, headers=[("tenant", b"x"), ("empty", None)])
    await loop.delivery.deliver(Batch(TP, [*events(2), bad, *events(4)[3:]]))
    (letter,) = loop.writer.letters
    assert (letter.key, letter.value) == (b"k", b"no avro")
    sent = dict(letter.headers)
    assert sent["tenant"] == b"x"
    assert sent[headers.ORIGINAL_TOPIC] == b"run.events"
    assert sent[headers.ORIGINAL_PARTITION] == b"0"
    assert sent[headers.ORIGINAL_OFFSET] == b"7"
    assert sent[headers.FAILED_PART] == b"persistence"
    assert sent[headers.ERROR_CLASS] == b"undecodable"
    assert store.seqs == [1, 2, 4]


async def test_a_dead_letter_that_is_not_acknowledged_is_written_again_not_dropped(tmp_path: Path) -> None:
    loop = Loop(tmp_path, Store(), Writer(failures=5))
    await loop.delivery.deliver(Batch(TP, [Raw(value=b"bad")]))
    assert len(loop.writer.letters) == 1
    assert len(loop.waits_s) == 5


async def test_a_dead_letter_that_its_topic_refuses_is_written_without_its_bytes(tmp_path: Path) -> None:
    """Regression: that a record is too large counted as an outage, and its partition waited at it for ever."""
    store = Store()
    loop = Loop(tmp_path, store, Writer(bytes_max=100))
    bad = Raw(key=b"run-1", value=b"bad" * 100, offset=1, headers=[("seq", b"7")])
    await loop.delivery.deliver(Batch(TP, [bad, *events(2)[1:]]))
    (letter,) = loop.writer.letters
    by_name = dict(letter.headers)
    assert (letter.key, letter.value, by_name["seq"]) == (b"run-1", None, b"7")
    assert (by_name[headers.CUT_PARTS], by_name[headers.CUT_VALUE_BYTES]) == (b"value", b"300")
    assert by_name[headers.CUT_VALUE_SHA256] == sha256(b"bad" * 100).hexdigest().encode()
    assert (by_name[headers.ORIGINAL_OFFSET], by_name[headers.ERROR_CLASS]) == (b"1", b"undecodable")
    assert store.seqs == [2]
    assert loop.waits_s == []


async def test_a_topic_that_takes_no_dead_letter_at_all_is_waited_for(tmp_path: Path) -> None:
    """An operator can mend it, and nothing may be skipped meanwhile."""
    loop = Loop(tmp_path, Store(), Writer(refuses=4))
    await loop.delivery.deliver(Batch(TP, [Raw(value=b"bad")]))
    assert len(loop.writer.letters) == 1
    assert len(loop.waits_s) == 3


async def test_what_a_delay_tier_refuses_is_a_dead_letter_at_once(tmp_path: Path) -> None:
    loop = Loop(tmp_path, Endpoint(failing=[1]), Writer(group=ENDPOINT, bytes_max=10), group=ENDPOINT)
    await loop.delivery.deliver(Batch(TP, events(1)))
    (letter,) = loop.writer.letters
    assert dict(letter.headers)[headers.CUT_PARTS] == b"value"
    assert loop.waits_s == []


async def test_what_comes_without_its_bytes_is_a_dead_letter_with_its_place(tmp_path: Path) -> None:
    cut = Cut(Reason.TOO_LARGE, "its batch inflates to more than is handled")
    store = Store()
    loop = Loop(tmp_path, store)
    await loop.delivery.deliver(Batch(TP, [Raw(offset=0, cut=cut), *events(1)]))
    (letter,) = loop.writer.letters
    by_name = dict(letter.headers)
    assert (letter.key, letter.value) == (None, None)
    assert (by_name[headers.CUT_PARTS], by_name[headers.ERROR_CLASS]) == (b"value key headers", b"too_large")
    assert (by_name[headers.ORIGINAL_OFFSET], by_name[headers.ERROR_MESSAGE]) == (b"0", cut.detail.encode())
    assert headers.CUT_VALUE_BYTES not in by_name
    assert store.seqs == [1]


async def test_a_slice_of_poison_alone_reaches_no_store(tmp_path: Path) -> None:
    store = Store()
    loop = Loop(tmp_path, store)
    await loop.delivery.deliver(Batch(TP, [Raw(value=b"bad"), Raw(value=None)]))
    assert store.calls == []
    assert len(loop.writer.letters) == 2


async def test_a_record_that_breaks_a_rule_goes_to_the_store_with_its_reason(tmp_path: Path) -> None:
    seen: list[Arrival[RunRecord]] = []

    class Keeping(Store):
        async def append(self, arrivals: Sequence[Arrival[RunRecord]]) -> Settled[RunRecord]:
            seen.extend(arrivals)
            return Settled(Tally({(Outcome.REJECTED, Reason.UNSIGNED_DIRECT): 1}))

    loop = Loop(tmp_path, Keeping())
    await loop.delivery.deliver(Batch(TP, [raw(run_event(), checked=False)]))
    (arrival,) = seen
    assert arrival.rejection is not None
    assert arrival.rejection.reason is Reason.UNSIGNED_DIRECT
    assert loop.counted(Outcome.REJECTED, "unsigned_direct") == 1


async def test_an_error_without_a_meaning_leaves_the_loop(tmp_path: Path) -> None:
    """Only the lane may see it: it ends the process, and the committed offset brings the slice back."""

    class Broken(Store):
        async def append(self, arrivals: Sequence[Arrival[RunRecord]]) -> Settled[RunRecord]:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await Loop(tmp_path, Broken()).delivery.deliver(Batch(TP, events(1)))


async def test_a_topic_of_poison_stops_at_the_limit_and_goes_on_when_it_is_raised(tmp_path: Path) -> None:
    class Watching(Loop):
        async def _sleep(self, seconds: float) -> None:
            self.halted_after = len(self.writer.letters)
            self.halted = set(self.health.halted)
            self.limit = DeadLetterLimit(consecutive_max=1000, share_max=1.0)
            await super()._sleep(seconds)

    loop = Watching(tmp_path, Store())
    loop.limit = DeadLetterLimit(consecutive_max=10)
    await loop.delivery.deliver(Batch(TP, [Raw(value=b"bad", offset=offset) for offset in range(50)]))
    assert (loop.halted_after, loop.halted) == (10, {TP})
    assert len(loop.writer.letters) == 50
    assert loop.health.halted == set()


async def test_good_records_between_poison_keep_it_within_the_limit(tmp_path: Path) -> None:
    loop = Loop(tmp_path, Store())
    loop.limit = DeadLetterLimit(consecutive_max=2)
    records = [
        Raw(value=b"bad", offset=offset) if offset % 2 else raw(run_event(event(offset + 1)), offset=offset)
        for offset in range(20)
    ]
    await loop.delivery.deliver(Batch(TP, records))
    assert len(loop.writer.letters) == 10
    assert loop.waits_s == []


@pytest.mark.parametrize(("share", "halts"), [(0.25, False), (0.45, False), (0.75, True)])
async def test_in_a_long_slice_poison_is_judged_by_its_share_of_it(tmp_path: Path, share: float, halts: bool) -> None:
    class Watching(Loop):
        async def _sleep(self, seconds: float) -> None:
            self.limit = DeadLetterLimit(consecutive_max=10_000, share_max=1.0)
            await super()._sleep(seconds)

    loop = Watching(tmp_path, Store())
    for batch in range(2):
        records = [
            Raw(value=b"bad", offset=offset)
            if int((offset + 1) * share) > int(offset * share)
            else raw(run_event(event(offset + 1)), offset=offset)
            for offset in range(batch * 4000, (batch + 1) * 4000)
        ]
        await loop.delivery.deliver(Batch(TP, records))
    assert bool(loop.waits_s) == halts
    assert len(loop.writer.letters) == int(8000 * share)


ENDPOINT = EVALUATION.group("scorer", delays=["30s", "5m"])


class Endpoint:
    """Takes what it is given, less the seqs that fail by themselves."""

    def __init__(self, *, failing: Sequence[int] = (), refused: Sequence[int] = ()) -> None:
        self.failing = set(failing)
        self.refused = set(refused)
        self.taken: list[int] = []

    async def append(self, arrivals: Sequence[Arrival[RunRecord]]) -> Settled[RunRecord]:
        by_seq = {each.record.seq: each for each in arrivals}  # type: ignore[union-attr]  # events only
        seqs = [seq for seq in by_seq if seq not in {*self.failing, *self.refused}]
        self.taken += seqs
        return Settled(
            Tally({(Outcome.DONE, None): len(seqs)}),
            retry_later=[
                FailedRecord(by_seq[seq], Reason.DELIVERY_FAILED, "500") for seq in by_seq if seq in self.failing
            ],
            dead=[FailedRecord(by_seq[seq], Reason.DELIVERY_REFUSED, "400") for seq in by_seq if seq in self.refused],
        )


def read_back(letter: OutgoingRecord, *, written_s: float) -> Any:
    return Raw(key=letter.key, value=letter.value, headers=letter.headers, timestamp=round(written_s * 1000))  # type: ignore[arg-type]


async def test_what_failed_by_itself_waits_and_its_neighbours_are_done(tmp_path: Path) -> None:
    endpoint = Endpoint(failing=[2], refused=[4])
    loop = Loop(tmp_path, endpoint, group=ENDPOINT)
    await loop.delivery.deliver(Batch(TP, events(5)))
    assert endpoint.taken == [1, 3, 5]
    assert [topic for topic, _ in loop.writer.deferred] == ["run.events.evaluation.scorer.retry.30s"]
    assert len(loop.writer.letters) == 1


async def test_a_deferred_record_waits_its_time_and_then_for_longer_and_is_given_up(tmp_path: Path) -> None:
    """Through every tier, from its own place and with its own proof, at the first moment that it is due."""
    endpoint = Endpoint(failing=[1])
    loop = Loop(tmp_path, endpoint, group=ENDPOINT)
    await loop.delivery.deliver(Batch(TP, events(1)))
    for tier, moment_s in zip(ENDPOINT.tiers, (30.0, 330.0), strict=True):
        topic, letter = loop.writer.deferred[-1]
        assert topic == tier.topic.name
        await loop.delivery.deliver(Batch(Partition(topic, 0), [read_back(letter, written_s=loop.now_s)]))
        assert loop.now_s == pytest.approx(moment_s)
    assert len(loop.writer.deferred) == 2
    [letter] = loop.writer.letters
    assert dict(letter.headers)[headers.ORIGINAL_OFFSET] == b"1"
    assert dict(letter.headers)[headers.ATTEMPT] == b"1"
    assert not loop.delivery.asleep


async def test_of_a_tiers_slice_each_record_waits_for_itself(tmp_path: Path) -> None:
    endpoint = Endpoint(failing=[1, 2, 3])
    loop = Loop(tmp_path, endpoint, group=ENDPOINT)
    await loop.delivery.deliver(Batch(TP, events(3)))
    waiting = [read_back(letter, written_s=10.0 * n) for n, (_, letter) in enumerate(loop.writer.deferred)]
    endpoint.failing = set()
    await loop.delivery.deliver(Batch(Partition(ENDPOINT.tiers[0].topic.name, 0), waiting))
    assert endpoint.taken == [1, 2, 3]
    assert loop.now_s == pytest.approx(50.0)


async def test_what_its_last_tier_gives_up_is_not_held_up_by_the_limit(tmp_path: Path) -> None:
    class Unhalted(Loop):
        async def _sleep(self, seconds: float) -> None:
            assert not self.health.halted
            await super()._sleep(seconds)

    loop = Unhalted(tmp_path, Endpoint(failing=range(1, 21)), group=ENDPOINT)
    loop.limit = DeadLetterLimit(consecutive_max=2)
    await loop.delivery.deliver(Batch(TP, events(20)))
    for tier in ENDPOINT.tiers:
        waiting = [read_back(letter, written_s=0) for _, letter in loop.writer.deferred[-20:]]
        await loop.delivery.deliver(Batch(Partition(tier.topic.name, 0), waiting))
    assert len(loop.writer.letters) == 20


async def test_without_tiers_what_failed_is_a_dead_letter(tmp_path: Path) -> None:
    loop = Loop(tmp_path, Endpoint(failing=[1]))
    await loop.delivery.deliver(Batch(TP, events(1)))
    assert len(loop.writer.letters) == 1


async def test_a_record_that_a_gateway_sealed_with_a_newer_secret_is_accepted(tmp_path: Path) -> None:
    """The gateway may have read the file up to a second before this process does."""
    store = Store()
    loop = Loop(tmp_path, store)
    await loop.delivery.deliver(Batch(TP, events(1)))  # the file was checked a moment ago
    newer = Gateway(mac_secrets=["a-newer-secret", *credentials().gateway.mac_secrets])
    credentials_file.write(loop.credentials_path, msgspec.structs.replace(credentials(), gateway=newer))
    sealed = [raw(run_event(event(seq)), offset=seq, mac_secret="a-newer-secret") for seq in (2, 3)]
    await loop.delivery.deliver(Batch(TP, [*sealed, raw(run_event(event(4)), offset=4, mac_secret="forged-secret")]))
    assert [arrival.rejection and arrival.rejection.reason for arrival in store.arrivals] == [
        *(None, None, None),
        "unsigned_direct",
    ]


async def test_a_direct_record_of_an_agent_that_was_added_a_moment_ago_is_accepted(tmp_path: Path) -> None:
    store = Store()
    loop = Loop(tmp_path, store)
    await loop.delivery.deliver(Batch(TP, events(1)))
    tenant = msgspec.structs.replace(
        credentials().tenants[TENANT], agents={"new-agent": Agent(secrets=["its-secret-1"])}
    )
    credentials_file.write(loop.credentials_path, msgspec.structs.replace(credentials(), tenants={TENANT: tenant}))
    given = signed(event(2), agent_id="new-agent", secret="its-secret-1")
    await loop.delivery.deliver(Batch(TP, [raw(run_event(given), offset=2, checked=False)]))
    assert [arrival.rejection for arrival in store.arrivals] == [None, None]
