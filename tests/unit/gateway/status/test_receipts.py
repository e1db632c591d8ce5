"""What a receipt tells in each state of a record, and to whom."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.errors import StoreUnavailable
from gateway.kafka.effect import Effect
from gateway.kafka.followers import GroupFollower, PartitionProgress
from gateway.kafka.reader import Edges, LogRecord, Search
from gateway.runs.effects import effect_finders
from gateway.runs.facts import FACT_READERS
from gateway.runs.store import RecordIdentity
from gateway.status.effects import Effects
from gateway.status.endpoints import EndpointViews
from gateway.status.receipts import Receipts
from gateway.status.records import describe
from gateway.status.views import WalReceipt
from schemas.access.credentials import Principal, Right
from schemas.catalogue import CODEC
from schemas.kafka import headers
from schemas.kafka.places import Partition, RecordPlace
from schemas.kafka.positions import PositionFault
from schemas.kafka.topics import Group
from schemas.kafka.transactions import OpenTransaction
from schemas.pacing.breaker import BreakerState
from schemas.runs.records import EndpointState, EnvironmentCaptured, TraceRecord, event_id
from schemas.runs.topics import EVALUATION, PERSISTENCE, RUN_EVENTS
from schemas.sinks.topics import SINK
from tests.support import builders
from tests.support.fakes import InForce, MemoryCommitted, MemoryLog, MemoryRunStore
from tests.unit.gateway.conftest import NOW

PLACE = RecordPlace("run.events", 0, 5)
EVENT = CODEC.encode(builders.run_event())
GARBAGE = b"\x07no frame"
LETTER_PLACE = RecordPlace("run.events.persistence.dlq", 0, 2)
STORED = Effect(outcome="stored", at=NOW)


def who(tenant: str = builders.TENANT, *rights: Right) -> Principal:
    return Principal(key_id="k", tenant=tenant, rights=frozenset({Right.READ, *rights}), agents=None)


def record(value: bytes = EVENT, *, place: RecordPlace = PLACE, **by_name: str) -> LogRecord:
    return LogRecord(
        place=place,
        written_at=NOW - timedelta(seconds=3),
        key=builders.RUN.encode(),
        value=value,
        headers=[(name, text.encode()) for name, text in by_name.items()],
    )


def letter(value: bytes = GARBAGE, **by_name: str) -> LogRecord:
    why = {headers.ERROR_CLASS: "undecodable", headers.ERROR_MESSAGE: "magic byte is 7"}
    return record(value, place=LETTER_PLACE, **by_name, **why)


async def receipt_of(
    found: LogRecord | None,
    *,
    committed: int | None = 9,
    principal: Principal | None = None,
    store: MemoryRunStore | None = None,
    place: RecordPlace = PLACE,
    group: Group = PERSISTENCE,
    others: Mapping[Partition, int | None] | None = None,
    endpoints: Mapping[str, EndpointState] | None = None,
    **log: Any,
) -> WalReceipt | None:
    """Return the receipt of *place*; the log holds *found* there, or, with None, begins after it."""
    views = EndpointViews(endpoints or {})
    edges = Edges(first=0 if found else place.offset + 1, end=9)
    memory = MemoryLog(records={place: found} if found else {}, **{"edges_of": edges, **log})
    offsets = MemoryCommitted({0: committed}, others=dict(others or {}))
    async with GroupFollower(group, offsets, clock=lambda: NOW) as follower:
        receipts = Receipts(
            log=memory,
            effects=Effects(
                log=memory,
                finders=effect_finders(
                    store or MemoryRunStore(builders.TENANT), views, InForce(builders.credentials())
                ),
                facts=FACT_READERS,
            ),
            facts=FACT_READERS,
            endpoints=views,
            followers={group.name: follower},
            clock=lambda: NOW,
        )
        return await receipts.find(place, principal or who())


def only_group(receipt: WalReceipt | None) -> Any:
    assert receipt is not None
    [group] = receipt.groups
    return group


async def test_a_record_that_waits_says_how_far_behind_the_group_is() -> None:
    receipt = await receipt_of(record(), committed=2)
    group = only_group(receipt)
    assert (group.state, group.records_ahead, group.waiting_s, group.effect) == ("waiting", 3, 3.0, None)
    assert receipt is not None
    assert receipt.record is not None
    told = receipt.record
    assert (told.name, told.tenant, told.run_id, told.seq) == ("RunEvent", builders.TENANT, builders.RUN, 1)
    assert told.event_id == event_id(builders.TENANT, builders.RUN, 1)


async def test_committed_at_the_record_is_not_yet_past_it() -> None:
    assert only_group(await receipt_of(record(), committed=5)).records_ahead == 0
    assert only_group(await receipt_of(record(), committed=6)).state == "done"


async def test_a_group_without_an_offset_has_not_started() -> None:
    assert only_group(await receipt_of(record(), committed=None)).state == "not_started"


async def test_what_the_group_made_of_it_stands_in_the_store() -> None:
    store = MemoryRunStore(builders.TENANT, effects={PLACE: STORED})
    letters = {PLACE: letter()}  # a dead letter that was sent back and stored
    assert only_group(await receipt_of(record(), store=store, letters=letters)).effect == STORED
    assert store.looks == [(PLACE, RecordIdentity(run_id=builders.RUN, event_sha256=builders.run_event().event_sha256))]


async def test_the_store_is_told_that_a_record_is_an_environment() -> None:
    """One whose place is gone was replaced by a later capture."""
    captured = EnvironmentCaptured(
        tenant=builders.TENANT, run_id=builders.RUN, environment="{}", environment_sha256=bytes(32), captured_at=NOW
    )
    store = MemoryRunStore(builders.TENANT)
    receipt = await receipt_of(record(CODEC.encode(captured)), store=store)
    assert store.looks == [(PLACE, RecordIdentity(run_id=builders.RUN, environment=True))]
    assert receipt is not None
    assert receipt.record is not None
    assert receipt.record.event_id == event_id(builders.TENANT, builders.RUN, "environment")


async def test_a_dead_letter_says_why_and_where_it_lies() -> None:
    effect = only_group(await receipt_of(record(), letters={PLACE: letter()})).effect
    assert (effect.outcome, effect.reason, effect.detail) == ("dead_lettered", "undecodable", "magic byte is 7")
    assert effect.dead_letter == LETTER_PLACE.wal_id


@pytest.mark.parametrize(("complete", "said"), [(True, "neither in the store"), (False, "no time to search")])
async def test_what_cannot_be_found_is_unknown(complete: bool, said: str) -> None:
    effect = only_group(await receipt_of(record(), complete=complete)).effect
    assert effect.outcome == "unknown"
    assert said in effect.detail


async def test_without_the_store_the_rest_is_still_told() -> None:
    store = MemoryRunStore(builders.TENANT, failure=StoreUnavailable("the store is away"))
    assert only_group(await receipt_of(record(), committed=2, store=store)).state == "waiting"
    unknown = Effect(outcome="unknown", detail="the store is away")
    assert only_group(await receipt_of(record(), store=store)).effect == unknown
    found = only_group(await receipt_of(record(), store=store, letters={PLACE: letter()}))
    assert found.effect.outcome == "dead_lettered"
    assert only_group(await receipt_of(None, store=store)).effect == unknown


async def test_an_expired_record_is_told_by_what_came_of_it() -> None:
    store = MemoryRunStore(builders.TENANT, effects={PLACE: STORED})
    receipt = await receipt_of(None, store=store)
    assert receipt is not None
    assert (receipt.log.state, receipt.log.first_offset, receipt.record) == ("expired", 6, None)
    assert only_group(receipt).effect == STORED
    mine = {PLACE: letter(tenant=builders.TENANT)}
    assert only_group(await receipt_of(None, letters=mine)).effect.outcome == "dead_lettered"
    assert await receipt_of(None) is None
    assert await receipt_of(None, letters={PLACE: letter(tenant="other")}) is None
    assert await receipt_of(None, store=store, principal=who("other")) is None


async def test_a_record_that_expired_before_its_group_came_was_missed() -> None:
    group = only_group(await receipt_of(None, committed=2))
    assert (group.state, group.effect, group.waiting_s) == ("missed", None, None)


async def test_only_its_tenant_may_ask() -> None:
    assert await receipt_of(record(), principal=who("other", Right.ADMIN)) is None
    assert await receipt_of(record(tenant="other"), principal=who("other")) is None  # a header against the record
    assert await receipt_of(record(GARBAGE, tenant=builders.TENANT), principal=who("other")) is None


async def test_what_does_not_decode_is_told_by_its_headers() -> None:
    by_name = {"tenant": builders.TENANT, "event-id": "evt_1", "seq": "7"}
    receipt = await receipt_of(record(GARBAGE, **by_name))
    assert receipt is not None
    assert receipt.record is not None
    told = receipt.record
    assert (told.name, told.event_id, told.seq, told.key) == (None, "evt_1", 7, builders.RUN)
    assert "magic byte" in (told.problem or "")
    for no_number in ("x", "9" * 5000):
        assert only_group(await receipt_of(record(GARBAGE, **by_name | {"seq": no_number}))).state == "done"


async def test_what_names_no_tenant_is_for_those_who_administer() -> None:
    assert await receipt_of(record(GARBAGE)) is None
    assert await receipt_of(record(GARBAGE), principal=who(builders.TENANT, Right.ADMIN)) is not None


async def test_a_place_where_nothing_was_written_has_no_receipt() -> None:
    assert await receipt_of(record(), place=RecordPlace("run.events", 0, 9)) is None
    assert await receipt_of(record(), place=RecordPlace("run.events", 1, 0)) is None


async def test_a_topic_that_no_group_reads_has_a_receipt_without_groups() -> None:
    trace = TraceRecord(
        tenant=builders.TENANT, run_id=builders.RUN, status="failed", event_count=0, chain_head=bytes(32), document="{}"
    )
    place = RecordPlace("run.traces", 0, 0)
    receipt = await receipt_of(record(CODEC.encode(trace), place=place), place=place)
    assert receipt is not None
    assert (receipt.groups, receipt.record and receipt.record.event_id) == ([], None)
    assert await receipt_of(None, place=place) is None


SCORER = EVALUATION.group("scorer", delays=["30s", "5m"])
FIRST_TIER = SCORER.tiers[0].topic.name


def endpoint(
    *types: str, tenant: str | None = None, first_offsets: list[int] | None = None
) -> dict[str, EndpointState]:
    state = EndpointState(
        endpoint="scorer",
        tenant=tenant,
        types=list(types or ("*",)),
        breaker=BreakerState.CLOSED,
        since=NOW,
        first_offsets=first_offsets,
    )
    return {"scorer": state}


def sealed() -> LogRecord:
    made = builders.raw(builders.run_event())
    return LogRecord(place=PLACE, written_at=NOW, key=made.key, value=made.value, headers=made.headers)


async def effect_on(found: LogRecord | None, **given: Any) -> Effect:
    effect = only_group(await receipt_of(found, group=SCORER, **{"endpoints": endpoint(), **given})).effect
    assert isinstance(effect, Effect)
    return effect


async def test_what_is_put_aside_nowhere_was_delivered() -> None:
    assert (await effect_on(sealed())).outcome == "delivered"


async def test_what_an_endpoint_does_not_ask_for_was_not_sent() -> None:
    assert (await effect_on(sealed(), endpoints=endpoint("message"))).outcome == "filtered"


async def test_what_lies_before_the_place_where_an_endpoint_began_was_not_sent() -> None:
    before = [0] * PLACE.partition
    effect = await effect_on(sealed(), endpoints=endpoint(first_offsets=[*before, PLACE.offset + 1]))
    assert (effect.outcome, effect.detail) == ("filtered", "the endpoint began behind it; a replay sends it")
    assert (await effect_on(sealed(), endpoints=endpoint(first_offsets=[*before, PLACE.offset]))).outcome == "delivered"
    # Of a partition that was added later nothing is known.
    assert (await effect_on(sealed(), endpoints=endpoint(first_offsets=before))).outcome == "delivered"


async def test_what_is_not_valid_was_not_sent() -> None:
    effect = await effect_on(record())
    assert (effect.outcome, effect.reason) == ("rejected", "unsigned_direct")


async def test_what_waits_in_a_tier_says_until_when_and_why() -> None:
    failed = {headers.ERROR_CLASS: "delivery_failed", headers.ERROR_MESSAGE: "HTTP 500"}
    waiting = record(place=RecordPlace(FIRST_TIER, 0, 4), **failed)
    effect = await effect_on(sealed(), letters={PLACE: waiting}, others={Partition(FIRST_TIER, 0): 4})
    assert (effect.outcome, effect.reason, effect.detail) == ("deferred", "delivery_failed", "HTTP 500")
    assert waiting.written_at is not None
    assert effect.due_at == waiting.written_at + timedelta(seconds=30)


async def test_what_waited_and_was_handled_was_delivered() -> None:
    waited = record(place=RecordPlace(FIRST_TIER, 0, 4))
    effect = await effect_on(sealed(), letters={PLACE: waited}, others={Partition(FIRST_TIER, 0): 5})
    assert effect.outcome == "delivered"


async def test_a_dead_letter_that_was_sent_back_waits_until_it_is_handled() -> None:
    back = record(place=RecordPlace(SCORER.redrive.name, 0, 1))
    place = Partition(SCORER.redrive.name, 0)
    assert (await effect_on(sealed(), letters={PLACE: back}, others={place: 1})).outcome == "deferred"
    assert (await effect_on(sealed(), letters={PLACE: back}, others={place: 2})).outcome == "delivered"


async def test_a_search_that_had_no_time_claims_no_delivery() -> None:
    assert (await effect_on(sealed(), complete=False)).outcome == "unknown"


async def test_an_expired_record_that_nothing_tells_of_is_nobodys() -> None:
    assert await receipt_of(None, group=SCORER, endpoints=endpoint()) is None


async def test_an_endpoint_of_another_tenant_is_not_told_of() -> None:
    receipt = await receipt_of(sealed(), group=SCORER, endpoints=endpoint(tenant="other"))
    assert receipt is not None
    assert receipt.groups == []


async def test_a_sink_is_not_told_of_to_a_tenant() -> None:
    """Its name is the deployment's own."""
    receipt = await receipt_of(sealed(), group=SINK.group("files", source=RUN_EVENTS))
    assert receipt is not None
    assert receipt.groups == []


async def test_what_is_handled_during_the_search_is_not_taken_for_delivered() -> None:
    """It may have failed again meanwhile, behind what was searched."""
    group = EVALUATION.group("scorer", delays=["30s"])
    tier = group.tiers[0].topic.name
    committed = {tier: {0: PartitionProgress(committed=4, moved_at=None)}, group.redrive.name: {}}
    waits = LogRecord(place=RecordPlace(tier, 0, 4), written_at=NOW, key=b"r", value=GARBAGE, headers=[])

    class Meanwhile(MemoryLog):
        async def set_aside(self, group: Group, place: RecordPlace, *, written_at: datetime | None) -> Search:
            committed[tier] = {0: PartitionProgress(committed=5, moved_at=None)}
            return Search(last=waits, complete=True)

    effects = Effects(
        log=Meanwhile(),
        finders=effect_finders(MemoryRunStore(builders.TENANT), EndpointViews({}), InForce(builders.credentials())),
        facts=FACT_READERS,
    )
    follower: Any = SimpleNamespace(group=group, progress=lambda topic: committed[topic])
    view = describe(record(), FACT_READERS)
    assert (await effects.find(follower, PLACE, record(), view, who())).outcome == "deferred"


@pytest.mark.parametrize("fault", list(PositionFault))
async def test_a_position_that_has_outlived_the_log_says_nothing_of_a_record(fault: PositionFault) -> None:
    group = only_group(await receipt_of(record(), faulty={0: fault}))
    assert (group.state, group.effect) == ("displaced", None)
    assert group.problem


async def test_a_row_of_this_very_record_says_that_it_is_done_whatever_the_position() -> None:
    store = MemoryRunStore(builders.TENANT, effects={PLACE: STORED})
    group = only_group(await receipt_of(record(), store=store, faulty={0: PositionFault.REWRITTEN}))
    assert (group.state, group.effect, group.problem) == ("done", STORED, None)


async def test_a_dead_letter_of_another_record_that_had_the_place_before_is_not_this_one() -> None:
    other = letter(**{headers.EVENT_ID: "evt_of_another"})
    group = only_group(await receipt_of(record(), letters={PLACE: other}))
    assert group.effect.outcome == "unknown"
    same = letter(**{headers.EVENT_ID: event_id(builders.TENANT, builders.RUN, 1)})
    assert only_group(await receipt_of(record(), letters={PLACE: same})).effect.outcome == "dead_lettered"


async def test_a_record_behind_an_open_transaction_says_whose_it_is() -> None:
    transaction = OpenTransaction(producer_id=7, first_offset=5, last_written_at=NOW)
    receipt = await receipt_of(
        record(), committed=5, edges_of=Edges(first=0, end=5, undecided=1), transaction=transaction
    )
    assert receipt is not None
    assert receipt.log.state == "undecided"
    since = (NOW - timedelta(seconds=3)).isoformat(timespec="milliseconds")
    assert receipt.log.detail == f"not decided yet: an open transaction of producer 7 since {since}"
    assert only_group(receipt).state == "waiting"
