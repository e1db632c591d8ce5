"""One child for one upload: whatever it does, it is one failure, and the next upload is read."""

import asyncio
import os
import socket
from pathlib import Path

import pytest

from processors.documents.parsing.messages import ChildLimits
from processors.documents.parsing.processes import Parsers
from processors.documents.parsing.results import CONTENT_BYTES_MAX, Parsed, ParseFailed, Reason

READER = "tests.support.reader:read"
FAST = ChildLimits(cpu_s=1, wall_s=20.0)
WITHIN_S = 30.0


def parsers(*, limit: int = 2, limits: ChildLimits = FAST, wait_s: float = WITHIN_S) -> Parsers:
    return Parsers(limit=limit, limits=limits, wait_s=wait_s, reader=READER)


async def told(found: Parsers, order: str) -> Parsed | ParseFailed:
    async with asyncio.timeout(WITHIN_S):
        return await found.parse(order.encode(), content_type="text/plain")


async def text_of(found: Parsers, order: str) -> str:
    outcome = await told(found, order)
    assert isinstance(outcome, Parsed), outcome
    return outcome.parts[0].text


async def test_a_small_page_is_read() -> None:
    busy: list[float] = []
    async with Parsers(limit=1, busy=busy.append) as found:
        outcome = await found.parse(b"<h1>One</h1><p>two", content_type="text/html; charset=utf-8")
    assert len(busy) == 1
    assert isinstance(outcome, Parsed)
    assert outcome.parts[0].text == "# One\n\ntwo"


@pytest.mark.parametrize(
    ("content", "content_type", "reason"),
    [
        (b"x" * (CONTENT_BYTES_MAX + 1), "text/plain", Reason.TOO_LARGE),
        (b"x", "image/png", Reason.UNSUPPORTED_TYPE),
        (b"x", "application/pdf", Reason.TYPE_MISMATCH),
    ],
)
async def test_what_is_not_read_needs_no_child(content: bytes, content_type: str, reason: Reason) -> None:
    outcome = await parsers().parse(content, content_type=content_type)
    assert isinstance(outcome, ParseFailed)
    assert outcome.reason is reason


@pytest.mark.parametrize(
    ("order", "reason"),
    [
        ("segfault", Reason.CRASHED),
        ("abort", Reason.CRASHED),
        ("exit", Reason.CRASHED),
        ("loop", Reason.TIMEOUT),
        ("hog", Reason.MEMORY),
        ("close", Reason.BAD_ANSWER),
        ("garbage", Reason.BAD_ANSWER),
        ("endless", Reason.BAD_ANSWER),
        ("error", Reason.CORRUPT),
    ],
)
async def test_what_an_upload_does_ends_its_own_child_alone(order: str, reason: Reason) -> None:
    # One second is enough for a loop, and not always for a gigabyte.
    async with parsers(limits=FAST if order == "loop" else ChildLimits()) as found:
        beside = asyncio.create_task(told(found, "beside"))
        outcome = await told(found, order)
        assert isinstance(outcome, ParseFailed)
        assert outcome.reason is reason
        assert not outcome.is_transient
        assert isinstance(await beside, Parsed)
        assert await text_of(found, "next") == "next"


async def test_a_child_that_waits_for_ever_is_killed_in_time() -> None:
    async with parsers(limits=ChildLimits(wall_s=0.5)) as found:
        outcome = await told(found, "wait")
        assert isinstance(outcome, ParseFailed)
        assert outcome.reason is Reason.TIMEOUT


async def test_a_child_has_an_empty_folder_a_session_and_one_connection() -> None:
    async with parsers() as found:
        # The connection, the standard streams, and the listing's own.
        assert await text_of(found, "where") == "[] 5 True"


async def test_a_child_writes_no_file(tmp_path: Path) -> None:
    place = tmp_path / "file"
    async with parsers() as found:
        assert await text_of(found, f"write {place}") == "OSError27"  # EFBIG
        assert await text_of(found, "write here") == "FileNotFoundError2"
    assert place.stat().st_size == 0


async def test_a_child_reaches_no_network_where_the_system_allows_that() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        async with parsers() as found:
            reached = await text_of(found, f"connect {server.getsockname()[1]}")
            assert found.is_without_network is not None
            assert reached == ("refused" if found.is_without_network else "connected")


async def test_a_cancelled_parse_leaves_no_child() -> None:
    async with parsers(limit=1) as found:
        parse = asyncio.create_task(told(found, "wait"))
        zygote = found._zygote
        assert zygote is not None
        async with asyncio.timeout(WITHIN_S):
            while not (children := list(zygote._children)):  # noqa: ASYNC110  nothing tells of a fork
                await asyncio.sleep(0)
        parse.cancel()
        with pytest.raises(asyncio.CancelledError):
            await parse
        with pytest.raises(ProcessLookupError):
            os.kill(children[0], 0)
        assert await text_of(found, "next") == "next"


async def test_no_more_than_the_limit_run_and_others_wait_a_bounded_time() -> None:
    async with parsers(limit=1, limits=ChildLimits(wall_s=2.0), wait_s=0.2) as found:
        first = asyncio.create_task(told(found, "wait"))
        await asyncio.sleep(0)
        second = await told(found, "second")
        assert isinstance(second, ParseFailed)
        assert second.reason is Reason.BUSY
        assert second.is_transient
        assert isinstance(await first, ParseFailed)


async def test_after_its_zygote_is_killed_there_is_another() -> None:
    async with parsers() as found:
        assert await text_of(found, "one") == "one"
        assert found._zygote is not None
        found._zygote.kill()
        async with asyncio.timeout(WITHIN_S):
            await found._zygote.gone.wait()
        assert await text_of(found, "two") == "two"


async def test_a_reader_that_cannot_be_loaded_is_said() -> None:
    async with Parsers(limit=1, reader="processors.documents.parsing.nothing:read") as found:
        outcome = await found.parse(b"text", content_type="text/plain")
        assert isinstance(outcome, ParseFailed)
        assert outcome.reason is Reason.UNAVAILABLE


async def test_a_page_that_is_nested_for_ever_takes_no_longer_than_its_bound() -> None:
    async with Parsers(limit=1, limits=FAST) as found:
        outcome = await found.parse(b"<div>" * 100_000 + b"x", content_type="text/html")
        assert isinstance(outcome, ParseFailed)
        assert outcome.reason is Reason.TIMEOUT
        assert isinstance(await found.parse(b"next", content_type="text/html"), Parsed)
