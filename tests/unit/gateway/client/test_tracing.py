"""Calls of traced functions, as events of the run around them."""

import asyncio
import contextvars
import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from gateway.client import traced
from gateway.client.shown import CHARACTERS_MAX, LEFT_OUT, VALUES_MAX, shown
from gateway.client.tracing import _wrap
from schemas.strictjson import decode
from tests.unit.gateway.client.fake_gateway import FakeGateway
from tests.unit.gateway.client.test_bad_items import BAD, Hostile, HostileDict
from tests.unit.gateway.client.test_client import RUN, connect
from tests.unit.gateway.client.test_failures import HostileError


@traced
async def search(text: str, *, limit: int = 3) -> list[str]:
    """Find."""
    return [text] * limit


@traced(name="divide")
def quotient(dividend: float, divisor: float) -> float:
    return dividend / divisor


@traced
async def outer() -> object:
    await search("a", limit=1)
    return quotient(1, 2)


@traced(arguments=False, result=False)
def secretive(password: str) -> str:
    return password


@traced
def anything(value: object) -> object:
    return value


class Tools:
    @traced
    def method(self, number: int) -> int:
        return number + 1

    @classmethod
    @traced
    def of_class(cls, number: int) -> int:
        return number + 2


def told(gateway: FakeGateway, run_id: str = RUN) -> list[tuple[str, str, dict[str, Any]]]:
    return [(event["type"], event["actor"], event["payload"]) for event in gateway.events[run_id]]


async def test_a_call_and_its_result_share_an_id(gateway: FakeGateway) -> None:
    async with connect(gateway) as client, client.run(RUN):
        assert await search("tide", limit=2) == ["tide", "tide"]
    (call, call_actor, called), (result, result_actor, returned) = told(gateway)
    assert (call, call_actor, result, result_actor) == ("tool_call", "agent", "tool_result", "tool")
    assert called == {"call_id": called["call_id"], "tool": "search", "arguments": {"text": "tide", "limit": 2}}
    assert returned["call_id"] == called["call_id"]
    assert returned["result"] == ["tide", "tide"]
    assert returned["duration_s"] >= 0


async def test_an_exception_is_an_error_and_raised_as_it_was(gateway: FakeGateway) -> None:
    async with connect(gateway) as client, client.run(RUN):
        with pytest.raises(ZeroDivisionError):
            quotient(1, 0)
    (_, _, called), (kind, actor, failed) = told(gateway)
    assert (kind, actor, failed["tool"], failed["error"]) == ("error", "tool", "divide", "ZeroDivisionError")
    assert failed["call_id"] == called["call_id"]
    assert "dividend / divisor" in failed["traceback"]
    assert gateway.finalized[RUN]["status"] == "succeeded", "it was caught"


async def test_a_call_inside_another_names_it(gateway: FakeGateway) -> None:
    async with connect(gateway) as client, client.run(RUN):
        await asyncio.gather(outer(), outer())
    calls = {payload["call_id"]: payload for kind, _, payload in told(gateway) if kind == "tool_call"}
    inner = [call for call in calls.values() if call["tool"] != "outer"]
    assert len(inner) == 4
    assert all(calls[call["parent_call_id"]]["tool"] == "outer" for call in inner)
    assert all("parent_call_id" not in call for call in calls.values() if call["tool"] == "outer")


async def test_methods_show_neither_self_nor_cls(gateway: FakeGateway) -> None:
    async with connect(gateway) as client, client.run(RUN):
        assert Tools().method(1) == 2
        assert Tools.of_class(1) == 3
    assert [payload["arguments"] for kind, _, payload in told(gateway) if kind == "tool_call"] == [{"number": 1}] * 2


async def test_what_is_not_to_be_shown_is_not(gateway: FakeGateway) -> None:
    async with connect(gateway) as client, client.run(RUN):
        secretive("hunter2")
        anything({"api_key": "abc", "nested": [{"token": "abc"}], "text": "Bearer abc.def", "n": 1})
    assert "hunter2" not in str(told(gateway))
    assert told(gateway)[2][2]["arguments"]["value"] == {
        "api_key": "***",
        "nested": [{"token": "***"}],
        "text": "***",
        "n": 1,
    }


@pytest.mark.parametrize("value", BAD.values(), ids=BAD.keys())
async def test_what_cannot_be_encoded_is_shown_as_text_and_returned_as_it_was(
    gateway: FakeGateway, value: object
) -> None:
    async with connect(gateway, strict=True) as client, client.run(RUN) as run:
        assert anything(value) is value
    assert [kind for kind, _, _ in told(gateway)] == ["tool_call", "tool_result"]
    assert run.dropped_count == 0


async def test_without_a_run_nothing_happens(gateway: FakeGateway) -> None:
    assert await search("a", limit=1) == ["a"]
    assert quotient(1, 2) == 0.5
    async with connect(gateway) as client, client.run(RUN):
        pass
    assert quotient(1, 2) == 0.5
    assert RUN not in gateway.events


async def test_a_function_that_is_called_wrongly_says_so_itself(gateway: FakeGateway) -> None:
    async with connect(gateway) as client, client.run(RUN):
        with pytest.raises(TypeError, match="missing 1 required positional argument"):
            quotient(1)  # type: ignore[call-arg]
    assert told(gateway)[0][2]["arguments"] == {"args": [1]}


async def test_a_call_that_is_cancelled_ends_as_an_error(gateway: FakeGateway) -> None:
    started = asyncio.Event()

    @traced
    async def hang() -> None:
        started.set()
        await asyncio.Event().wait()

    async with connect(gateway) as client, client.run(RUN):
        task = asyncio.create_task(hang())
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert [(kind, payload.get("error")) for kind, _, payload in told(gateway)] == [
        ("tool_call", None),
        ("error", "asyncio.exceptions.CancelledError"),
    ]


async def test_functions_in_other_threads_and_loops_report_to_their_run(gateway: FakeGateway) -> None:
    async with connect(gateway) as client, client.run(RUN):
        await asyncio.to_thread(quotient, 1, 2)
        await asyncio.to_thread(lambda: asyncio.run(search("a", limit=1)))
        await asyncio.to_thread(lambda: [anything(number) for number in range(500)])
    assert len(told(gateway)) == 2 * 502
    ids = [payload["call_id"] for _, _, payload in told(gateway)]
    assert ids[::2] == ids[1::2]


async def test_a_run_that_has_ended_leaves_the_function_alone(gateway: FakeGateway) -> None:
    async with connect(gateway, strict=True) as client:
        async with client.run(RUN) as run:
            context = contextvars.copy_context()
        assert context.run(quotient, 1, 2) == 0.5
    assert run.accepted_count == 0


def test_a_generator_function_is_refused_where_it_is_decorated() -> None:
    def generate() -> Iterator[int]:
        yield 1

    async def generate_async() -> AsyncIterator[int]:
        yield 1

    for function in (generate, generate_async):
        with pytest.raises(TypeError, match="generator"):
            _wrap(function, name=None, arguments=True, result=True)


def test_what_cannot_be_called_is_refused_where_it_is_decorated() -> None:
    with pytest.raises(TypeError, match="below @classmethod"):
        _wrap(classmethod(lambda _cls: None), name=None, arguments=True, result=True)  # type: ignore[arg-type]


def test_the_function_keeps_its_name_and_documentation() -> None:
    assert (search.__name__, search.__doc__) == ("search", "Find.")
    assert asyncio.iscoroutinefunction(search)
    assert traced(len)([1, 2]) == 2


@dataclass
class Point:
    x: float
    password: str


def test_values_are_shown_within_bounds() -> None:
    assert shown(Point(1.5, "abc")) == {"x": 1.5, "password": "***"}
    assert shown([True, None, 1.5, float("nan"), 2**70, b"abc"]) == [True, None, 1.5, "nan", str(2**70), "<3 bytes>"]
    assert shown(Hostile()) == "<Hostile that cannot be shown: RuntimeError>"
    assert isinstance(shown(HostileDict(a=1)), dict)
    assert isinstance(shown(HostileError()), str)
    long = shown({"a": list(range(10 * VALUES_MAX)), "b": 1})
    assert isinstance(long, dict)
    assert len(long["a"]) <= VALUES_MAX
    assert long[LEFT_OUT] is True
    assert len(str(shown("word " * CHARACTERS_MAX))) < 2 * CHARACTERS_MAX
    deep: object = 1
    for _ in range(1000):
        deep = [deep]
    assert str(shown(deep)).count("[") < 20
    cyclic: list[object] = []
    cyclic.append(cyclic)
    shown(cyclic)


@pytest.mark.parametrize("value", BAD.values(), ids=BAD.keys())
def test_every_value_is_shown_as_json(value: object) -> None:
    text = json.dumps(shown(value), ensure_ascii=False, allow_nan=False)
    text.encode()
    decode(text)
