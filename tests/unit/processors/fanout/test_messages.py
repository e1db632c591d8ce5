"""Messages: their JSON, and the frame that every websocket client understands."""

import json

import pytest
from aiohttp import ClientSession, web

from processors.fanout.messages import framed, plain
from processors.fanout.streams.runs import RunStreamRecord
from schemas.kafka.places import Partition
from schemas.objects.references import PayloadRef
from tests.support.builders import event, run_event

PLACE = Partition("run.events", 3)
LENGTHS = [0, 1, 125, 126, 127, 65_535, 65_536, 200_000]


async def test_a_client_reads_frames_of_every_length(unused_port: int) -> None:
    """Against aiohttp's own parser."""

    async def send(request: web.Request) -> web.WebSocketResponse:
        ws = web.WebSocketResponse(compress=False)
        await ws.prepare(request)
        assert request.transport is not None
        request.transport.write(b"".join(framed(b"x" * length) for length in LENGTHS))
        await ws.close()
        return ws

    app = web.Application()
    app.add_routes([web.get("/", send)])
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", unused_port).start()
    try:
        async with ClientSession() as session, session.ws_connect(f"http://127.0.0.1:{unused_port}/") as ws:
            assert [len((await ws.receive()).data) for _ in LENGTHS] == LENGTHS
    finally:
        await runner.cleanup()


def told(**changes: object) -> RunStreamRecord:
    record = run_event(event(7, payload={"n": 1}), **changes)
    return RunStreamRecord(record, partition=PLACE, offset=42, timestamp_ms=0)


def payload_of(frame: bytes) -> bytes:
    return frame[4:] if frame[1] == 126 else frame[2:]


def test_an_event_is_told_with_its_place_and_its_numbers_untouched() -> None:
    text = '{ "a" : 1.00, "b": 1e5 }'
    frame = told(payload=text).message("CURSOR").frame
    assert text.encode() in frame
    message = json.loads(payload_of(frame))
    assert list(message) == ["type", "cursor", "event", "wal_id"]
    assert (message["type"], message["cursor"], message["wal_id"]) == ("trace_event", "CURSOR", "run.events/3/42")
    assert (message["event"]["seq"], message["event"]["run_id"], message["event"]["payload_ref"]) == (7, "run-1", None)


def test_a_payload_in_object_storage_is_told_by_its_reference() -> None:
    reference = PayloadRef(key="demo/run-1/00", size_bytes=200_000, sha256=b"\x00")
    message = json.loads(payload_of(told(payload=None, payload_ref=reference).message("C").frame))
    assert message["event"]["payload"] is None
    assert message["event"]["payload_ref"]["size_bytes"] == 200_000


def test_what_all_sockets_have_in_common_is_encoded_once() -> None:
    one = told()
    first, second = one.message("A"), one.message("B")
    assert first.frame.replace(b'"A"', b'"B"') == second.frame


@pytest.mark.parametrize(("cursor", "members"), [(None, ["type"]), ("C", ["type", "cursor"])])
def test_a_plain_message_has_a_cursor_if_it_is_given_one(cursor: str | None, members: list[str]) -> None:
    message = plain("ping", cursor=cursor)
    assert (list(json.loads(payload_of(message.frame))), message.cursor) == (members, cursor)
