"""What answers is no gateway, or none that works: nothing is lost that a later answer takes, and nothing hangs."""

from dataclasses import replace

import pytest

from gateway.client.answers import Answer as Read
from gateway.client.answers import read_position, read_promise, read_results, refuse
from gateway.client.errors import Refused, SendAgainLater
from tests.unit.gateway.client.fake_gateway import Answer, FakeGateway
from tests.unit.gateway.client.test_client import IMPATIENT, QUICK, RUN, connect

HTML = b"<html>Please log in</html>"
GARBAGE = {
    "200 with a page": Answer(status=200, body=HTML),
    "202 with a page": Answer(status=202, body=HTML),
    "202 without a body": Answer(status=202, body=b""),
    "202 with JSON of another kind": Answer(status=202, body=b"[1, 2]"),
    "202 with too few results": Answer(status=202, body=b'{"results": []}'),
    "202 with a result of no known kind": Answer(status=202, body=b'{"results": [{"status": "maybe"}]}'),
    "202 without a place": Answer(status=202, body=b'{"results": [{"status": "accepted"}]}'),
    "207 with nothing but skipped": Answer(status=207, body=b'{"results": [{"status": "skipped"}]}'),
    "207 with deep JSON": Answer(status=207, body=b"[" * 100_000),
    "207 with bytes that are no text": Answer(status=207, body=b'{"results": "\xff"}'),
    "302": Answer(status=302, body=b"", headers={"Location": "http://127.0.0.1:1/login"}),
    "404 with a page": Answer(status=404, body=HTML),
    "408 of the gateway": Answer(status=408, code="REQUEST_TIMEOUT"),
    "407 of a proxy": Answer(status=407, body=HTML),
    "500 with a page": Answer(status=500, body=HTML),
    "502": Answer(status=502, body=b""),
    "503 with a date": Answer(status=503, headers={"Retry-After": "Fri, 31 Dec 9999 23:59:59 GMT"}),
    "503 with a date that no clock has": Answer(
        status=503, headers={"Retry-After": "Mon, 20 Nov 99999999999 19:12:08 GMT"}
    ),
    "503 with a negative wait": Answer(status=503, headers={"Retry-After": "-5"}),
    "503 with a fraction": Answer(status=503, headers={"Retry-After": "1e-3"}),
    "429 without a wait": Answer(status=429, body=HTML),
    "a huge answer": Answer(status=202, body=b" " * (9 * 1024 * 1024)),
    "a packed answer": Answer(status=202, body=b"\x1f\x8b\x08", headers={"Content-Encoding": "gzip"}),
}


@pytest.mark.parametrize("answer", GARBAGE.values(), ids=GARBAGE.keys())
async def test_an_event_is_sent_again_until_a_gateway_answers(gateway: FakeGateway, answer: Answer) -> None:
    gateway.answers.append(answer)
    gateway.other_answers.append(answer)  # to the finalization
    async with connect(gateway) as client, client.run(RUN) as run:
        await run.event("message", 1)
    assert [event["payload"] for event in gateway.events[RUN]] == [1]
    assert gateway.finalized[RUN] == {"status": "succeeded", "event_count": 1}
    assert (run.accepted_count, run.dropped_count) == (1, 0)


@pytest.mark.parametrize("answer", GARBAGE.values(), ids=GARBAGE.keys())
async def test_a_run_ends_in_time_whatever_answers(gateway: FakeGateway, answer: Answer) -> None:
    gateway.always = answer
    async with connect(gateway, bounds=replace(IMPATIENT, close_max_s=0.3)) as client, client.run(RUN) as run:
        await run.event("message", 1)
        await gateway.asked.wait()
    assert {one.code for one in run.dropped} == {"NOT_SENT"}


@pytest.mark.parametrize("wait", ["99999999", "9" * 5000, "\u0663"])
async def test_a_wait_without_end_is_cut(gateway: FakeGateway, wait: str) -> None:
    gateway.answers.append(Answer(status=429, headers={"Retry-After": wait.encode().decode("latin-1")}))
    bounds = replace(QUICK, retry_after_max_s=0.01)
    async with connect(gateway, bounds=bounds) as client, client.run(RUN) as run:
        await run.event("message", 1)
    assert run.accepted_count == 1


async def test_no_gateway_from_the_start_does_not_hold_the_program_up() -> None:
    gateway = FakeGateway()
    gateway.url = "http://127.0.0.1:1"
    async with connect(gateway, bounds=IMPATIENT) as client, client.run(RUN) as run:
        await run.event("message", 1)
    assert "message" in {one.type for one in run.dropped}


async def test_a_gateway_that_comes_back_gets_what_waited_meanwhile() -> None:
    gateway = FakeGateway()
    async with gateway.running():
        port = int(gateway.url.rpartition(":")[2])
        client = connect(gateway)
        await client.__aenter__()
        run = client.run(RUN)
        await run.__aenter__()
        await run.event("message", 1)
        await gateway.arrived.wait()
    await run.event("message", 2)
    second = FakeGateway()
    second.events = gateway.events
    async with second.running(port=port):
        await run.event("message", 3)
        await run.__aexit__(None, None, None)
        await client.__aexit__(None, None, None)
    assert [(event["seq"], event["payload"]) for event in second.events[RUN]] == [(1, 1), (2, 2), (3, 3)]
    assert second.finalized[RUN] == {"status": "succeeded", "event_count": 3}
    assert run.dropped_count == 0


def read(status: int, body: bytes, retry_after: str = "") -> Read:
    return Read(status=status, reason="", body=body, retry_after=retry_after)


@pytest.mark.parametrize("status", [200, 204, 301, 302, 307, 404, 407, 408, 421, 425, 500, 502, 503, 504, 599])
def test_who_is_no_gateway_refuses_nothing_for_good(status: int) -> None:
    later = refuse(read(status, HTML))
    assert isinstance(later, SendAgainLater)
    assert later.in_doubt


@pytest.mark.parametrize("status", [400, 401, 403, 413, 431])
def test_a_proxy_may_refuse_an_event(status: int) -> None:
    assert isinstance(refuse(read(status, HTML)), Refused)


@pytest.mark.parametrize("body", [b"", b"{}", b'{"last_seq": -1}', b'{"last_seq": "1"}', b'{"last_seq": 1e400}', HTML])
def test_a_position_is_a_number_from_0(body: bytes) -> None:
    with pytest.raises(SendAgainLater):
        read_position(read(200, body))


def test_results_are_as_many_as_events() -> None:
    body = b'{"results": [{"status": "accepted", "wal_id": "run.events/0/1"}]}'
    assert len(read_results(read(202, body), 1)) == 1
    with pytest.raises(SendAgainLater):
        read_results(read(202, body), 2)


def test_a_receipt_names_a_place() -> None:
    assert read_promise(read(202, b'{"status": "duplicate", "wal_id": "run.events/0/1"}')) == ("run.events/0/1", True)
    with pytest.raises(SendAgainLater):
        read_promise(read(202, b'{"status": "accepted"}'))
