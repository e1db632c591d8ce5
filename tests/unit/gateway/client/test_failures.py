"""The exception that ended a run, as an event: what is shown of it, and what is not."""

import asyncio
import json
import traceback

import pytest

from gateway.client.failures import TRACEBACK_CHARACTERS_MAX, Scrubber, describe
from schemas.strictjson import decode
from tests.unit.gateway.client.fake_gateway import FakeGateway
from tests.unit.gateway.client.test_client import RUN, SECRET, connect

SCRUBBER = Scrubber(["tg_a1_topsecretkey", SECRET, None, "ab"], {"DB_PASSWORD": "hunter2-hunter2", "REGION": "north"})


class HostileError(Exception):
    def __str__(self) -> str:
        raise RuntimeError

    __repr__ = __str__


def raised(error: BaseException) -> BaseException:
    try:
        raise error  # noqa: TRY301
    except BaseException as caught:  # noqa: BLE001
        return caught


async def test_the_exception_that_ends_a_run_is_its_last_event(gateway: FakeGateway) -> None:
    async def fail() -> None:
        async with connect(gateway, secret=SECRET) as client, client.run(RUN) as run:
            await run.event("message", 1)
            raise LookupError(f"no row for password={SECRET} of {SECRET}")

    with pytest.raises(LookupError):
        await fail()
    event = gateway.events[RUN][-1]
    assert (event["type"], event["actor"]) == ("error", "agent")
    assert event["payload"]["error"] == "LookupError"
    assert event["payload"]["message"] == "no row for *** of ***"
    assert "in fail" in event["payload"]["traceback"]
    assert event["payload"]["traceback"].endswith("LookupError: no row for *** of ***\n")
    assert gateway.finalized[RUN] == {"status": "failed", "event_count": 2}


async def test_a_run_can_end_as_failed_without_an_exception(gateway: FakeGateway) -> None:
    async with connect(gateway) as client:
        async with client.run(RUN) as run:
            await run.fail("no tide table")
        async with client.run("run-2") as run:
            await run.fail(raised(KeyError("harbour")))
        async with client.run("run-3") as run:
            await run.fail()
    assert [event["payload"] for event in gateway.events[RUN]] == [{"error": "failed", "message": "no tide table"}]
    assert gateway.events["run-2"][0]["payload"]["error"] == "KeyError"
    assert gateway.finalized == {
        RUN: {"status": "failed", "event_count": 1},
        "run-2": {"status": "failed", "event_count": 1},
        "run-3": {"status": "failed", "event_count": 0},
    }


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (SystemExit(0), "succeeded"),
        (SystemExit(), "succeeded"),
        (SystemExit(2), "failed"),
        (KeyboardInterrupt(), "cancelled"),
        (asyncio.CancelledError(), "cancelled"),
        (HostileError(), "failed"),
        (RecursionError(), "failed"),
    ],
)
async def test_how_a_block_is_left_says_how_the_run_ended(
    gateway: FakeGateway, error: BaseException, status: str
) -> None:
    async with connect(gateway) as client:
        run = client.run(RUN)
        await run.__aenter__()
        await run.__aexit__(type(error), error, None)
    assert gateway.finalized[RUN]["status"] == status
    assert [event["type"] for event in gateway.events.get(RUN, [])] == (["error"] if status == "failed" else [])


def test_no_secret_is_shown() -> None:
    password = "correct horse"
    error = raised(
        ValueError(
            f"postgresql://ada:{password.replace(' ', '')}@db/x tg_a1_topsecretkey hunter2-hunter2 "
            "{'api_key': 'abcdef'} sk-abcdef123456 north ab"
        )
    )
    payload = describe(error, SCRUBBER)
    for secret in ("correcthorse", "topsecretkey", "hunter2", "abcdef"):
        assert secret not in str(payload)
    assert "north ab" in str(payload["message"])


def test_a_secret_in_a_line_of_source_is_not_shown() -> None:
    assert "swordfish" not in SCRUBBER.end('  File "a.py"\n    connect(password = "swordfish")\n', 1000)


@pytest.mark.parametrize(
    "error",
    [
        HostileError(),
        ValueError("\ud83d\0" * 10),
        ValueError("x" * 10_000_000),
        ValueError("line\n" * 1_000_000),
        type("Odd\n", (Exception,), {})("odd name"),
        ExceptionGroup("many", [ValueError(str(number)) for number in range(1000)]),
        KeyError(),
    ],
    ids=["hostile", "bytes", "long", "lines", "name", "group", "empty"],
)
def test_whatever_was_raised_is_a_payload_of_bounded_size(error: Exception) -> None:
    payload = describe(raised(error), SCRUBBER)
    text = json.dumps(payload, ensure_ascii=False)
    text.encode()
    assert decode(text) == payload
    assert len(text) < 2 * TRACEBACK_CHARACTERS_MAX + 5000


def test_a_deep_recursion_and_a_long_chain_are_cut() -> None:
    def recurse(depth: int) -> None:
        if depth:
            recurse(depth - 1)
        else:
            raise ValueError("the bottom")

    error: Exception = ValueError("first")
    try:
        recurse(500)
    except ValueError as caught:
        error = caught
    for number in range(200):
        following = ValueError(number)
        following.__cause__ = error
        error = following
    assert len(traceback.format_exception(error)) > 200
    shown = describe(error, SCRUBBER)
    assert len(str(shown["traceback"])) <= TRACEBACK_CHARACTERS_MAX + 20
    assert str(shown["traceback"]).endswith("ValueError: 199\n")
