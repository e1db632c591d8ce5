"""Bodies made to hurt: refused under the declared codes, at a bounded cost, while others are served."""

import asyncio
import json
import threading
import time
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from io import BytesIO

import pytest

from gateway.http.bodies import SMALL_BYTES_MAX, TOON_SMALL_BYTES_MAX, Body, MediaType
from gateway.runs.parsing.bodies import parse_event
from gateway.runs.parsing.plain_body import read_plain
from schemas import strictjson
from schemas.errors import Invalid
from schemas.runs.rules import EVENT_BYTES_MAX
from tests.support import builders
from tests.unit.gateway.conftest import Served, made_of

MIB = 1024 * 1024
EVENTS = f"/api/runs/{builders.RUN}/events"
INVALID = {"VALIDATION_ERROR"}
PAUSE_S_MAX = 5.0  # a machine that does other things may pause for a second; on the loop these would take far longer


def event(payload: str) -> bytes:
    """Return an event whose payload is this JSON text."""
    whole = json.dumps(builders.event(payload="PAYLOAD"), ensure_ascii=False)
    return whole.replace('"PAYLOAD"', payload).encode()


def many(item: str, bytes_count: int) -> str:
    """Return an array of *item* that is about so long."""
    return f"[{','.join([item] * (bytes_count // (len(item) + 1)))}]"


HOSTILE = {
    "100,000 deep": "[" * 100_000 + "]" * 100_000,
    "100,000 objects deep": '{"a":' * 100_000 + "1" + "}" * 100_000,
    "100,000 deep and cut": "[" * 100_000,
    "an integer of 5 MB": "9" * 5 * MIB,
    "a negative one": "-" + "9" * 5 * MIB,
    "an exponent of 5 MB": "1e" + "9" * 5 * MIB,
    "numbers that overflow": many("1e999", MIB),
    "long integers": many("9" * 30, MIB),
    "duplicate keys": "{" + ",".join(['"a":1'] * 100_000) + "}",
    "escaped duplicate keys": '{"a":1,"\\u0061":2}',
    "a lone surrogate": '"\\ud800"',
    "surrogates the wrong way round": '"\\ude00\\ud83d"',
    "a lone surrogate as a key": '{"\\udfff":1}',
    "lone surrogates": many('"\\ud800"', MIB),
    "NUL": '"\\u0000"',
    "NUL as it is": '"\0"',
    "NaN": "NaN",
    "Infinity": "[Infinity,-Infinity]",
    "a great many arrays": many("[]", 4 * MIB),
    "a long name over many faults": '{"' + "~" * MIB + '":' + many("1e999", MIB) + "}",
    "an unended string": '"' + "a" * 5 * MIB,
    "an encoded surrogate": '"\ud800"',
}

TOON = {
    "100,000 deep": "".join(f"{' ' * 2 * depth}a:\n" for depth in range(3000)),
    "a number of 1 MB": "seq: " + "9" * MIB,
    "a number that overflows": "seq: 1e999",
    "a duplicate key": "seq: 1\nseq: 2",
    "NUL": 'seq: "\0"',
    "a surrogate": 'seq: "\\ud800"',
    "a great many values": "a[200000]: " + ",".join("1" * 200_000),
    "a count that is not so": "a[9999999999]: 1",
    "tables in one line": "a[1]{" + ",".join(map(str, range(1000))) + "}:\n  1",
}


@asynccontextmanager
async def probed() -> AsyncIterator[None]:
    """Yield the loop turns all the while."""
    longest_s = 0.0

    async def turn() -> None:
        nonlocal longest_s
        last_s = time.perf_counter()
        while True:
            await asyncio.sleep(0.001)
            now_s = time.perf_counter()
            longest_s, last_s = max(longest_s, now_s - last_s), now_s

    turning = asyncio.create_task(turn())
    try:
        yield
    finally:
        turning.cancel()
    assert longest_s < PAUSE_S_MAX


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("form", ["event", "environment", "batch", "lines"])
async def test_hostile_json_is_refused(served: Served, name: str, form: str) -> None:
    whole = event("PAYLOAD").replace(b"PAYLOAD", HOSTILE[name].encode("utf-8", "surrogatepass"))
    method, url, body, media_type = {
        "event": ("POST", EVENTS, whole, "application/json"),
        "environment": ("PUT", f"/api/runs/{builders.RUN}/environment", whole, "application/json"),
        "batch": ("POST", f"{EVENTS}/batch", b"[%b]" % whole, "application/json"),
        "lines": ("POST", f"{EVENTS}/batch", b"%b\n" % whole, "application/x-ndjson"),
    }[form]
    headers = served.headers(**{"Content-Type": media_type})
    async with probed(), served.client.request(method, url, data=BytesIO(body), headers=headers) as answer:
        text, told = await answer.text(), await answer.json()
    code = told["results"][0]["code"] if answer.status == 207 else told["code"]
    assert (answer.status, code) in [
        (status, each) for status in (207, 400, 413, 422) for each in ("VALIDATION_ERROR", "PAYLOAD_TOO_LARGE")
    ]
    assert len(text) < 100_000
    assert not served.publisher.published


@pytest.mark.parametrize("name", TOON)
@pytest.mark.parametrize("path", ["", "/batch"])
async def test_hostile_toon_is_refused(served: Served, name: str, path: str) -> None:
    headers = served.headers(**{"Content-Type": "text/toon"})
    async with (
        probed(),
        served.client.post(EVENTS + path, data=BytesIO(TOON[name].encode()), headers=headers) as answer,
    ):
        assert answer.status in (400, 413, 422)
        assert (await answer.json())["code"] in ("TOON_VALIDATION_ERROR", "PAYLOAD_TOO_LARGE")
    assert not served.publisher.published


@pytest.mark.parametrize(
    ("media_type", "bytes_max"),
    [(MediaType.JSON, SMALL_BYTES_MAX), (MediaType.NDJSON, SMALL_BYTES_MAX), (MediaType.TOON, TOON_SMALL_BYTES_MAX)],
)
async def test_only_a_small_body_is_judged_on_the_loop(media_type: MediaType, bytes_max: int) -> None:
    """The worst of that size take milliseconds."""

    def on_the_loop(_text: bytes) -> bool:
        return threading.current_thread() is threading.main_thread()

    for more, expected in ((0, True), (1, False)):
        text = b'"' + b"a" * (bytes_max - 2 + more) + b'"'
        body = Body(received=text, media_type=media_type, coding=None, bytes_max=EVENT_BYTES_MAX)
        assert await made_of(body, on_the_loop) is expected


def test_numbers_with_exponents_do_not_hold_up_all_threads() -> None:
    """The library needs 10 us for each of them: 2 s for this body, in one call that lets nobody else run."""
    body = event(many("1e300", MIB))
    before_s = time.thread_time()
    assert read_plain(body) is None
    assert time.thread_time() - before_s < 0.5


@pytest.mark.parametrize("blanks", ["", " ", "\n\t "])
def test_an_exponent_is_seen_wherever_it_stands(blanks: str) -> None:
    """At the seam of two searches as well."""
    for before in (0, 9000, MIB - 700, *range(MIB - 80, MIB + 10)):
        body = b'{"a":"%b","b":[%b1.5E3]}' % (b"x" * before, blanks.encode())
        assert read_plain(body) is None


def test_a_long_name_over_many_values_costs_no_more_than_itself() -> None:
    """A place is spelled out where there is a fault, and a name in it is cut."""
    text = '{"' + "~" * MIB + '":' + many("1", MIB)[:-1] + ",1e999]}"
    tracemalloc.start()
    with pytest.raises(Invalid) as refused:
        strictjson.decode(text)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < 100 * MIB
    (fault,) = refused.value.faults
    assert len(fault.pointer) < 250
    assert fault.pointer.endswith(f"/{MIB // 2}")


def test_an_answer_lists_a_bounded_number_of_faults() -> None:
    body = json.dumps({f"unknown-{number}": 0 for number in range(10_000)}).encode()
    with pytest.raises(Invalid) as refused:
        parse_event(body, run_id=builders.RUN)
    assert len(refused.value.faults) < 2 * strictjson.FAULTS_MAX
