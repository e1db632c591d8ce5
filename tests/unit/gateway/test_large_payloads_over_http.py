"""Payloads over 102,400 bytes: kept in object storage before their record, and shown again on request."""

import asyncio
import json
from typing import Any

import pytest

from gateway.errors import ObjectsUnavailable
from gateway.runs.store import PAGE_BYTES_MAX
from schemas.canonical import event_digest
from schemas.catalogue import CODEC
from schemas.objects import references
from schemas.objects.references import INLINE_BYTES_MAX, reference_to
from schemas.process.telemetry import OBJECT_DURATION
from schemas.runs.records import RunEvent
from schemas.runs.views import EventView
from tests.support import builders
from tests.unit.gateway.conftest import Served, event_view

URL = f"/api/runs/{builders.RUN}/events"
LARGE = f'{{ "price" : 1.00, "big": 18446744073709551615, "text":"caf\\u00e9 é{"x" * INLINE_BYTES_MAX}" }}'
META = json.dumps({"run_id": builders.RUN, "agent_id": "plain-agent"})


def body(payload: str = LARGE, *, seq: int = 1) -> bytes:
    return (
        f'{{"seq":{seq},"t":"2025-12-05T10:00:00Z","actor":"tool","type":"a","payload":{payload},"meta":{META}}}'
    ).encode()


async def send(served: Served, content: bytes, **more: str) -> tuple[int, Any]:
    headers = served.headers(**{"Content-Type": "application/json", **more})
    async with served.client.post(URL, data=content, headers=headers) as answer:
        return answer.status, await answer.json()


def record(served: Served) -> RunEvent:
    (published,) = served.publisher.published
    decoded = CODEC.decode(published.value)
    assert isinstance(decoded, RunEvent)
    return decoded


def puts(served: Served, outcome: str) -> float:
    return (
        served.telemetry.registry.get_sample_value(
            f"{OBJECT_DURATION.name}_count", {"operation": "put", "outcome": outcome}
        )
        or 0.0
    )


async def test_a_large_payload_is_kept_and_its_record_refers_to_it(served: Served) -> None:
    """The object has the text that was sent; digest and signature are those of the whole event."""
    status, accepted = await send(served, body())
    assert (status, accepted["status"]) == (202, "accepted")
    event, reference = record(served), reference_to(LARGE.encode(), tenant=builders.TENANT, run_id=builders.RUN)
    assert (event.payload, event.payload_ref) == (None, reference)
    assert event.event_sha256 == event_digest(json.loads(body()))
    assert served.objects.kept == {reference.key: LARGE.encode()}
    assert puts(served, "done") == 1


async def test_a_payload_at_the_bound_stays_in_the_log(served: Served) -> None:
    payload = f'"{"x" * (INLINE_BYTES_MAX - 2)}"'
    assert (await send(served, body(payload)))[0] == 202
    assert (record(served).payload, served.objects.puts) == (payload, [])


async def test_toon_is_measured_as_the_json_that_it_stands_for(served: Served) -> None:
    text = "x" * INLINE_BYTES_MAX
    meta = f"meta:\n  run_id: {builders.RUN}\n  agent_id: plain-agent"
    toon = f'seq: 1\nt: "2025-12-05T10:00:00Z"\nactor: tool\ntype: a\npayload: {text}\n{meta}'
    assert (await send(served, toon.encode(), **{"Content-Type": "text/toon"}))[0] == 202
    assert list(served.objects.kept.values()) == [f'"{text}"'.encode()]


async def test_without_object_storage_a_large_event_is_503_and_not_in_the_log(served: Served) -> None:
    """Small events are not concerned; the same again is accepted once it is back, and once."""
    served.objects.failure = ObjectsUnavailable("away")
    assert (await send(served, body("1")))[0] == 202
    status, problem = await send(served, body(seq=2))
    assert (status, problem["code"]) == (503, "STORE_UNAVAILABLE")
    assert len(served.publisher.published) == 1
    served.objects.failure = None
    answers = [(await send(served, body(seq=2)))[1]["status"] for _ in range(2)]
    assert answers == ["accepted", "duplicate"]
    assert len(served.publisher.published) == 2


async def test_a_refusal_says_when_to_come_back(served: Served) -> None:
    served.objects.failure = ObjectsUnavailable("away")
    headers = served.headers(**{"Content-Type": "application/json"})
    async with served.client.post(URL, data=body(), headers=headers) as answer:
        assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
    assert puts(served, "failed") == 1


async def test_what_the_run_does_not_take_is_not_kept(served: Served) -> None:
    """A wrong number, a closed run, an invalid event, a duplicate."""
    assert (await send(served, body(seq=5)))[0] == 409
    assert (await send(served, body(LARGE[:-1])))[0] == 400
    assert served.objects.puts == []
    assert (await send(served, body()))[0] == 202
    assert (await send(served, body()))[1]["status"] == "duplicate"
    assert len(served.objects.puts) == 1


async def test_two_events_for_one_place_are_judged_after_their_payloads_are_kept(served: Served) -> None:
    """Both were the next when they came: one is taken, the other one is not the same."""
    served.objects.gate = asyncio.Event()
    other = LARGE.replace("1.00", "2.00")
    sent = [asyncio.create_task(send(served, body(payload))) for payload in (LARGE, other)]
    async with asyncio.timeout(10):
        for _ in sent:
            await served.objects.asked.acquire()
    served.objects.gate.set()
    answers = await asyncio.gather(*sent)
    assert sorted(status for status, _ in answers) == [202, 409]
    assert len(served.publisher.published) == 1
    taken = [payload for payload, (status, _) in zip((LARGE, other), answers, strict=True) if status == 202]
    reference = record(served).payload_ref
    assert reference is not None
    assert served.objects.kept[reference.key].decode() == taken[0]


async def test_a_run_that_is_closed_meanwhile_takes_no_more(served: Served) -> None:
    served.objects.gate = asyncio.Event()
    sent = asyncio.create_task(send(served, body()))
    async with asyncio.timeout(10):
        await served.objects.asked.acquire()
    headers = served.headers(**{"Content-Type": "application/json"})
    url = f"/api/runs/{builders.RUN}/finalize"
    async with served.client.post(url, data=b'{"status":"failed"}', headers=headers) as closed:
        assert closed.status == 202
    served.objects.gate.set()
    status, problem = await sent
    assert (status, problem["code"]) == (409, "RUN_FINALIZED")
    assert len(served.publisher.published) == 1


async def test_a_batch_ends_before_the_event_whose_payload_is_not_kept(served: Served) -> None:
    """The rest is to be sent again and is not charged; then it is taken, each payload kept before its record."""
    headers = served.headers(**{"Content-Type": "application/x-ndjson"})
    batch = b"\n".join([body("1"), body(seq=2), body("3", seq=3), body(seq=4)])
    answers = []
    for failure in (ObjectsUnavailable("away"), None):
        served.objects.failure = failure
        async with served.client.post(f"{URL}/batch", data=batch, headers=headers) as answer:
            document = await answer.json()
            answers.append((answer.status, [each["status"] for each in document["results"]]))
        if failure is not None:
            assert document["results"][1]["code"] == "STORE_UNAVAILABLE"
            assert len(served.publisher.published) == 1
    assert answers == [
        (207, ["accepted", "retry", "retry", "retry"]),
        (202, ["duplicate", "accepted", "accepted", "accepted"]),
    ]
    assert len(served.publisher.published) == 4
    assert len(served.objects.kept) == 1, "the same payload of one run is one object"


async def test_a_batch_of_which_nothing_can_be_kept_is_503(served: Served) -> None:
    served.objects.failure = ObjectsUnavailable("away")
    headers = served.headers(**{"Content-Type": "application/x-ndjson"})
    async with served.client.post(f"{URL}/batch", data=body() + b"\n" + body("2", seq=2), headers=headers) as answer:
        assert (answer.status, (await answer.json())["code"]) == (503, "STORE_UNAVAILABLE")
    assert served.publisher.published == []


def shown(seq: int, payload: str | None = None, *, referred: bytes | None = None) -> EventView:
    reference = "null"
    if referred is not None:
        reference = references.to_json(reference_to(referred, tenant=builders.TENANT, run_id=builders.RUN))
    return event_view(seq, payload=payload or "null", payload_ref=reference)


def keep(served: Served, content: bytes) -> str:
    key = reference_to(content, tenant=builders.TENANT, run_id=builders.RUN).key
    served.objects.kept[key] = content
    return key


async def test_a_page_resolves_references_on_request(served: Served) -> None:
    """Verbatim, in their places; without the request the reference stands alone."""
    keep(served, LARGE.encode())
    served.store.stored_events = {builders.RUN: [shown(1, "1.00"), shown(2, referred=LARGE.encode()), shown(3, "[]")]}
    async with served.client.get(URL, headers=served.headers()) as answer:
        plain = await answer.json()
    assert plain["events"][1]["payload"] is None
    assert plain["events"][1]["payload_ref"]["size_bytes"] == len(LARGE.encode())
    async with served.client.get(f"{URL}?resolve=true", headers=served.headers()) as answer:
        text = await answer.text()
    assert f'"payload":{LARGE},"payload_ref":{{"key":' in text
    assert [event["seq"] for event in json.loads(text)["events"]] == [1, 2, 3]
    assert '"payload":1.00,' in text
    assert "payload_problem" not in text


@pytest.mark.parametrize(
    ("instead", "problem"),
    [(None, "missing"), (LARGE.encode()[:-1], "damaged"), (b"x" * len(LARGE.encode()), "damaged")],
)
async def test_a_payload_that_is_not_what_was_sent_is_never_shown(
    served: Served, instead: bytes | None, problem: str
) -> None:
    """The event says what is wrong with it, and its neighbours are shown."""
    key, neighbour = keep(served, LARGE.encode()), b'"neighbour"'
    keep(served, neighbour)
    if instead is None:
        del served.objects.kept[key]
    else:
        served.objects.kept[key] = instead
    served.store.stored_events = {builders.RUN: [shown(1, referred=LARGE.encode()), shown(2, referred=neighbour)]}
    async with served.client.get(f"{URL}?resolve=true", headers=served.headers()) as answer:
        assert answer.status == 200
        damaged, whole = (await answer.json())["events"]
    assert (damaged["payload"], damaged["payload_problem"], damaged["payload_ref"]["key"]) == (None, problem, key)
    assert (whole["payload"], "payload_problem" in whole) == ("neighbour", False)


async def test_a_page_is_503_while_its_payloads_cannot_be_read(served: Served) -> None:
    """Whoever does not ask for them is not concerned."""
    served.objects.failure = ObjectsUnavailable("away")
    served.store.stored_events = {builders.RUN: [shown(1, referred=LARGE.encode())]}
    async with served.client.get(f"{URL}?resolve=true", headers=served.headers()) as answer:
        assert (answer.status, (await answer.json())["code"]) == (503, "STORE_UNAVAILABLE")
    async with served.client.get(URL, headers=served.headers()) as answer:
        assert answer.status == 200


async def test_a_resolved_page_ends_with_the_payload_that_passes_its_bytes(served: Served) -> None:
    """The next one goes on after it, resolved as well."""
    contents = [b'"%d%s"' % (number, b"x" * (PAGE_BYTES_MAX // 2)) for number in range(5)]
    for content in contents:
        keep(served, content)
    served.store.stored_events = {builders.RUN: [shown(seq, referred=each) for seq, each in enumerate(contents, 1)]}
    seen, target = [], f"{URL}?resolve=true"
    while target:
        async with served.client.get(target, headers=served.headers()) as answer:
            page = await answer.json()
            assert (page["next_cursor"] is None) == ("next" not in answer.links)
            target = answer.links["next"]["url"].path_qs if "next" in answer.links else ""
        assert all(event["payload"] for event in page["events"])
        seen.append([event["seq"] for event in page["events"]])
    assert seen == [[1, 2], [3, 4], [5]]


@pytest.mark.parametrize("text", ["", "1", "yes", "TRUE"])
async def test_to_resolve_or_not_is_true_or_false(served: Served, text: str) -> None:
    async with served.client.get(f"{URL}?resolve={text}", headers=served.headers()) as answer:
        assert (answer.status, (await answer.json())["code"]) == (422, "VALIDATION_ERROR")
