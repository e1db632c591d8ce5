"""Limits: charged whole or not at all, told with every answer, given back for what the log refuses."""

import asyncio
from time import monotonic
from typing import Any

import msgspec
import pytest

from gateway.errors import EventTooLarge, LogUnavailable
from gateway.limits.throttle import LimitSettings
from tests.support import builders
from tests.support.fakes import RecordingDelivery
from tests.unit.gateway.conftest import Served

EVENTS = f"/api/runs/{builders.RUN}/events/"


class Limited:
    """A gateway with small limits, and a clock that the test turns."""

    def __init__(self, served: Served) -> None:
        self.served = served
        self.now_s = 1000.0

    async def post(self, path: str, body: Any) -> tuple[int, Any, dict[str, str]]:
        async with self.served.client.post(path, json=body, headers=self.served.headers()) as answer:
            return answer.status, await answer.json(), dict(answer.headers)


@pytest.fixture
def limited(served: Served, monkeypatch: pytest.MonkeyPatch) -> Limited:
    """Return limits of three events of a run a minute."""
    made = Limited(served)
    monkeypatch.setattr(served.throttle, "_settings", LimitSettings(run_per_min=3, agent_per_min=100))
    monkeypatch.setattr(served.throttle, "_clock_s", lambda: made.now_s)
    return made


async def test_what_is_left_is_told_and_the_rest_refused(limited: Limited) -> None:
    for seq in (1, 2, 3):
        status, _, headers = await limited.post(EVENTS, builders.event(seq))
        assert status == 202
        assert headers["RateLimit"].startswith(f'"run";r={3 - seq};t=')
        assert headers["RateLimit-Policy"] == '"run";q=3;w=60, "agent";q=100;w=60'
    status, problem, headers = await limited.post(EVENTS, builders.event(4))
    assert (status, problem["code"]) == (429, "RATE_LIMIT_EXCEEDED")
    limited.now_s += int(headers["Retry-After"])
    assert (await limited.post(EVENTS, builders.event(4)))[0] == 202


async def test_a_batch_is_charged_whole_or_not_at_all(limited: Limited) -> None:
    assert (await limited.post(EVENTS, builders.event(1)))[0] == 202
    batch = [builders.event(seq) for seq in (2, 3, 4)]
    status, problem, _ = await limited.post(f"{EVENTS}batch", batch)
    assert (status, problem["code"]) == (429, "RATE_LIMIT_EXCEEDED")
    assert (await limited.post(f"{EVENTS}batch", batch[:2]))[0] == 202


async def test_a_batch_of_several_agents_is_told_whether_it_ever_fits_into_what_they_share(limited: Limited) -> None:
    events = [
        builders.event(1),
        builders.signed(builders.event(2)),
        builders.event(3),
        builders.signed(builders.event(4)),
    ]
    status, _, headers = await limited.post(f"{EVENTS}batch", events)
    assert (status, "Retry-After" in headers) == (429, False)
    assert (await limited.post(f"{EVENTS}batch", events[:3]))[0] == 202


async def test_what_is_invalid_is_not_charged_and_what_the_log_refuses_is_given_back(limited: Limited) -> None:
    publisher = limited.served.publisher
    for _ in range(5):
        assert (await limited.post(EVENTS, builders.event(1, actor="NO")))[0] == 422
    publisher.failure = LogUnavailable("away")
    for _ in range(5):
        assert (await limited.post(EVENTS, builders.event(1)))[0] == 503
        assert (await limited.post(f"{EVENTS}batch", [builders.event(1), builders.event(2)]))[0] == 503
    publisher.failure = None
    assert [(await limited.post(EVENTS, builders.event(seq)))[0] for seq in (1, 2, 3)] == [202] * 3


@pytest.mark.parametrize("batch", [False, True])
async def test_what_the_log_refuses_by_its_report_is_given_back(limited: Limited, *, batch: bool) -> None:
    for _ in range(5):
        held: list[RecordingDelivery] = []
        limited.served.publisher.held = held
        event = builders.event(1)
        posted = asyncio.create_task(limited.post(f"{EVENTS}batch", [event]) if batch else limited.post(EVENTS, event))
        while not held and not posted.done():  # noqa: ASYNC110  # the publisher tells nobody
            await asyncio.sleep(0.001)
        assert held, await posted
        held[0].settle(EventTooLarge("over the topic's limit"))
        assert (await posted)[0] == (207 if batch else 413)
    limited.served.publisher.held = None
    assert [(await limited.post(EVENTS, builders.event(seq)))[0] for seq in (1, 2, 3)] == [202] * 3


async def test_a_rejected_batch_gives_back_what_it_skipped(limited: Limited) -> None:
    """The one that was refused stays charged."""
    status, _, _ = await limited.post(f"{EVENTS}batch", [builders.event(9), builders.event(1), builders.event(2)])
    assert status == 207
    assert [(await limited.post(EVENTS, builders.event(seq)))[0] for seq in (1, 2, 3)] == [202, 202, 429]


async def test_a_tenant_has_its_own_limit(limited: Limited) -> None:
    before = limited.served.credentials.current
    tenant = msgspec.structs.replace(before.tenants[builders.TENANT], events_per_min=2)
    after = msgspec.structs.replace(before, tenants={**before.tenants, builders.TENANT: tenant})
    limited.served.credentials.current = after
    for number, expected in enumerate((202, 202, 429)):
        event = builders.event(1, run_id=f"run-{number}")
        assert (await limited.post(f"/api/runs/run-{number}/events", event))[0] == expected


async def test_requests_of_a_key_and_of_an_address_are_limited_before_they_are_read(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(served.throttle, "_settings", LimitSettings(key_per_min=2, address_per_min=4))
    for key, status in (("all", 422), ("all", 422), ("all", 429), ("writer", 422), ("writer", 429)):
        async with served.client.post(EVENTS, json={}, headers=served.headers(key)) as answer:
            assert answer.status == status
    async with served.client.post(EVENTS, json={}) as answer:
        assert answer.status == 429, "the address is charged whoever asks"


async def test_while_persistence_lags_events_are_held_down(served: Served) -> None:
    admission = served.throttle.admission
    admission.step(900_000, 0.0, monotonic())
    async with served.client.post(EVENTS, json=builders.event(1), headers=served.headers()) as answer:
        problem = await answer.json()
        assert (answer.status, problem["code"]) == (429, "BACKPRESSURE")
        assert int(answer.headers["Retry-After"]) >= 1


@pytest.mark.parametrize("url", [EVENTS, f"{EVENTS}batch"])
async def test_who_is_held_down_costs_no_work(served: Served, url: str) -> None:
    """What would be refused by itself is told to wait like everyone, since nobody has read it."""
    served.throttle.admission.step(900_000, 0.0, monotonic())
    async with served.client.post(url, data=b"{", headers=served.headers()) as answer:
        assert (answer.status, (await answer.json())["code"]) == (429, "BACKPRESSURE")
