"""Web pages of other origins: which may call what, and what their browsers are told."""

import json
from collections.abc import Sequence

import pytest

from tests.unit.gateway.conftest import Served

PAGE, OTHER = "https://shop.example.com", "https://elsewhere.example.com"
EVENT = json.dumps({"id": "e-1", "type": "page_view"})
ASKED = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}


@pytest.fixture
def origins() -> Sequence[str]:
    return (PAGE,)


async def ask(served: Served, method: str, path: str, origin: str | None, **headers: str) -> tuple[int, dict[str, str]]:
    sent = headers | ({} if origin is None else {"Origin": origin})
    body = EVENT if method == "POST" else None
    async with served.client.request(method, path, data=body, headers=sent) as answer:
        return answer.status, {name.lower(): value for name, value in answer.headers.items()}


@pytest.mark.parametrize("path", ["/api/v1/events", "/api/v1/events/batch", "/events"])
async def test_a_page_of_a_known_origin_is_told_what_it_may_send(served: Served, path: str) -> None:
    status, headers = await ask(served, "OPTIONS", path, PAGE, **ASKED)
    assert (status, headers["access-control-allow-origin"]) == (204, PAGE)
    assert headers["access-control-allow-methods"] == "POST"
    assert "Authorization" in headers["access-control-allow-headers"]
    assert headers["vary"] == "Origin"


@pytest.mark.parametrize(("path", "origin"), [("/api/v1/events", OTHER), ("/api/runs/r/events", PAGE)])
async def test_nothing_else_is_open_to_pages(served: Served, path: str, origin: str) -> None:
    status, headers = await ask(served, "OPTIONS", path, origin, **ASKED)
    assert status == 204
    assert not [name for name in headers if name.startswith("access-control")]


async def test_a_preflight_for_what_is_not_there_is_refused(served: Served) -> None:
    assert (await ask(served, "OPTIONS", "/nowhere", PAGE, **ASKED))[0] == 404
    assert (await ask(served, "OPTIONS", "/api/v1/events", PAGE))[0] == 405
    asked = {"Access-Control-Request-Method": "DELETE"}
    assert (await ask(served, "OPTIONS", "/api/v1/events", PAGE, **asked))[0] == 405


@pytest.mark.parametrize("key", ["all", "nobody"])
async def test_a_page_may_read_each_answer_refusals_included(served: Served, key: str) -> None:
    sent = served.headers(key) if key == "all" else {}
    for origin, shown in ((PAGE, PAGE), (OTHER, None), (None, None)):
        status, headers = await ask(served, "POST", "/api/v1/events", origin, **sent, **{"Content-Type": "text/plain"})
        assert status == (202 if key == "all" else 401)
        assert headers.get("access-control-allow-origin") == shown
        assert headers["vary"] == "Origin"
    _, headers = await ask(served, "GET", "/api/runs", PAGE, **served.headers("all"))
    assert "access-control-allow-origin" not in headers


async def test_a_page_may_send_json_as_text_as_its_beacons_do(served: Served) -> None:
    sent = served.headers("all", **{"Content-Type": "text/plain;charset=UTF-8"})
    for path in ("/api/v1/events", "/events"):
        assert (await ask(served, "POST", path, PAGE, **sent))[0] == 202


class TestWithoutOrigins:
    @pytest.fixture
    def origins(self) -> Sequence[str]:
        return ()

    async def test_pages_are_told_nothing_and_text_is_refused(self, served: Served) -> None:
        status, headers = await ask(served, "OPTIONS", "/api/v1/events", PAGE, **ASKED)
        assert (status, "vary" in headers) == (405, False)
        sent = served.headers("all", **{"Content-Type": "text/plain"})
        status, headers = await ask(served, "POST", "/api/v1/events", PAGE, **sent)
        assert (status, "access-control-allow-origin" in headers) == (415, False)
