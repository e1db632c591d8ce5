"""An event that cannot be sent is reported where it is made, and costs nothing else."""

import asyncio
from collections import UserDict
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.client import TidegateClient
from gateway.client.encoding import Agent, encode
from schemas.errors import Invalid
from schemas.runs.rules import EVENT_BYTES_MAX, event_faults
from schemas.runs.signature import event_signature_holds
from schemas.strictjson import decode
from tests.unit.gateway.client.fake_gateway import FakeGateway
from tests.unit.gateway.client.test_client import QUICK, RUN, SECRET, connect


class Hostile:
    """A value whose every method raises."""

    def __repr__(self) -> str:
        raise RuntimeError

    def __str__(self) -> str:
        raise RuntimeError


class HostileDict(dict[str, object]):
    def items(self) -> Any:
        raise KeyError("items")


def cyclic() -> list[object]:
    items: list[object] = []
    items.append(items)
    return items


def nested(depth: int) -> object:
    value: object = 1
    for _ in range(depth):
        value = [value]
    return value


BAD = {
    "lone surrogate": {"text": "\ud83d"},
    "lone surrogate as a name": {"\udcff": 1},
    "NaN": {"score": float("nan")},
    "Infinity": float("-inf"),
    "NUL": "a\0b",
    "an integer of more than 64 bits": 2**64,
    "an integer of more digits than Python writes": 10**5000,
    "too deep": nested(65),
    "far too deep": nested(100_000),
    "cyclic": cyclic(),
    "a set": {1, 2},
    "bytes": b"abc",
    "a naive datetime": datetime(2026, 1, 1),  # noqa: DTZ001
    "an object": object(),
    "hostile": Hostile(),
    "a hostile dict": HostileDict(a=1),
    "not a dict": UserDict(a=1),
    "two names that become one": {1: "a", "1": "b"},
    "a name that is no string": {(1, 2): 3},
    "too large": "x" * EVENT_BYTES_MAX,
    "too large once encoded": "\u20ac" * (EVENT_BYTES_MAX // 3),
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD.keys())
async def test_a_bad_payload_is_dropped_and_the_rest_goes_on(gateway: FakeGateway, bad: object) -> None:
    async with connect(gateway, secret=SECRET) as client, client.run(RUN) as run:
        await run.event("message", "before")
        await run.event("message", bad)
        await run.event("message", "after")
    assert [(event["seq"], event["payload"]) for event in gateway.events[RUN]] == [(1, "before"), (2, "after")]
    assert gateway.finalized[RUN] == {"status": "succeeded", "event_count": 2}
    assert [(one.type, one.code) for one in run.dropped] == [("message", "INVALID")]
    assert run.dropped[0].detail.isprintable()


BAD_ARGUMENTS: dict[str, dict[str, Any]] = {
    "type": {"type": "Not Lower"},
    "no type": {"type": None},
    "a type that cannot be printed": {"type": "\ud83d"},
    "actor": {"actor": "A\n"},
    "a naive moment": {"at": datetime(2026, 1, 1)},  # noqa: DTZ001
    "a moment that is no datetime": {"at": "2026-01-01T00:00:00Z"},
    "a moment before the year 1": {"at": datetime.fromisoformat("0001-01-01T00:00:00+10:00")},
}


@pytest.mark.parametrize("bad", BAD_ARGUMENTS.values(), ids=BAD_ARGUMENTS.keys())
async def test_a_bad_argument_is_dropped_and_the_rest_goes_on(gateway: FakeGateway, bad: dict[str, Any]) -> None:
    async with connect(gateway) as client, client.run(RUN) as run:
        await run.event(**{"type": "message", "payload": "bad"} | bad)
        await run.event("message", "after")
    assert [event["payload"] for event in gateway.events[RUN]] == ["after"]
    assert run.dropped_count == 1


async def test_a_strict_client_refuses_a_bad_item_where_it_is_made(gateway: FakeGateway) -> None:
    async with connect(gateway, strict=True) as client, client.run(RUN) as run:
        with pytest.raises(Invalid, match="/payload: a string holds a lone surrogate"):
            await run.event("message", "\ud83d")
        await run.event("message", "after")
    assert [event["payload"] for event in gateway.events[RUN]] == ["after"]


async def test_bad_items_without_end_do_not_fill_the_log(
    gateway: FakeGateway, caplog: pytest.LogCaptureFixture
) -> None:
    async with connect(gateway) as client, client.run(RUN) as run:
        for _ in range(5000):
            await run.event("message", float("nan"))
    assert run.dropped_count == 5000
    assert len(run.dropped) == QUICK.dropped_max
    assert len(caplog.records) < 20


async def test_the_moment_of_an_event_can_be_given(gateway: FakeGateway) -> None:
    async with connect(gateway) as client, client.run(RUN) as run:
        await run.event("message", 1, at=datetime.fromisoformat("2026-01-01T12:00:00+02:00"))
    assert gateway.events[RUN][0]["t"] == "2026-01-01T10:00:00Z"


async def test_a_sender_survives_a_fault_of_its_own(gateway: FakeGateway) -> None:
    """The batch in hand is reported, the next one goes."""
    async with connect(gateway) as client:
        run = client.run(RUN)
        number = run._sender._request
        run._sender._request = fails_first(number)  # type: ignore[method-assign]
        async with run:
            await run.event("message", 1)
            await asyncio.sleep(0)  # one batch each
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            await run.event("message", 2)
    assert [event["payload"] for event in gateway.events[RUN]] == [2]
    assert [one.code for one in run.dropped] == ["CLIENT_ERROR"]
    assert gateway.finalized[RUN]["status"] == "succeeded"


def fails_first(function: Callable[..., Any]) -> Callable[..., Any]:
    calls: list[int] = []

    def call(*args: Any) -> Any:
        calls.append(1)
        if len(calls) == 1:
            raise RuntimeError("a fault of ours")
        return function(*args)

    return call


@pytest.mark.parametrize(
    "wrong",
    [
        {"api_key": "tg_a\r\nX-Other: 1"},
        {"api_key": "tg_\u20ac"},
        {"agent_id": "a/b"},
        {"agent_id": 7},
        {"secret": "\ud83d"},
        {"url": "ftp://host"},
    ],
)
def test_what_no_request_could_carry_is_refused_when_the_client_is_made(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"agent_id|api_key|secret|HTTP"):
        TidegateClient(**{"url": "http://127.0.0.1:1", "api_key": "k", "agent_id": "a"} | wrong)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters()), inner, max_size=4),
    max_leaves=20,
)


@given(JSON, st.text(st.characters(), max_size=20))
def test_whatever_is_encoded_is_valid_and_signed_as_it_is_read(payload: object, kind: str) -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    try:
        event = encode(kind, payload, actor="agent", at=now, run_id="r", agent_id="a")
    except Invalid as error:
        assert error.faults
        return
    event.seq = 1
    read = decode(event.body("r", Agent(agent_id="a", secret=SECRET)).decode())
    assert isinstance(read, dict)
    assert event_faults(read, run_id="r") == []
    assert event_signature_holds(read, read["meta"]["signature"], [SECRET])


@given(JSON)
def test_an_ordinary_event_type_passes_with_every_json_payload_that_is_valid(payload: object) -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    try:
        event = encode("message", payload, actor="agent", at=now, run_id="r", agent_id="a")
    except Invalid:
        return
    assert decode(event.payload) == payload
