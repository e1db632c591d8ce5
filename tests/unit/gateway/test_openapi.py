"""The description that the gateway gives of itself."""

import json
import re
from typing import Any

import pytest

from gateway.errors import STATUS
from gateway.intake.documents import EventBody
from gateway.openapi import openapi_document
from gateway.routes import ROUTES
from schemas.errors import ErrorCode
from schemas.validity import SEQ_MAX, event_faults
from tests import builders
from tests.unit.gateway.conftest import Served


@pytest.fixture
def document() -> dict[str, Any]:
    return json.loads(openapi_document(ROUTES, version="1"))


def test_every_route_is_described(document: dict[str, Any]) -> None:
    described = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}
    assert described == {(route.method, route.path) for route in ROUTES}


def test_every_code_has_a_status() -> None:
    assert set(STATUS) == set(ErrorCode)


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    def references(node: object) -> list[str]:
        if isinstance(node, dict):
            own = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
            return own + [found for value in node.values() for found in references(value)]
        return [found for item in node for found in references(item)] if isinstance(node, list) else []

    found = references(document)
    assert found
    for reference in found:
        node: Any = document
        for step in reference.removeprefix("#/").split("/"):
            node = node[step]


def test_the_described_event_is_the_one_that_is_taken(document: dict[str, Any]) -> None:
    schema = document["components"]["schemas"][EventBody.__name__]
    assert set(schema["required"]) == set(builders.event())
    assert not schema["additionalProperties"]


def test_every_body_says_in_what_forms_it_comes(document: dict[str, Any]) -> None:
    for route in ROUTES:
        if route.body is not None:
            operation = document["paths"][route.path][route.method.lower()]
            assert list(operation["requestBody"]["content"]) == list(route.body.media_types)
            codings = [each["schema"]["enum"] for each in operation["parameters"] if each["name"] == "Content-Encoding"]
            assert codings == ([["gzip", "deflate", "br", "zstd", "identity"]] if route.body.packed else [])


def test_what_is_told_of_input_is_what_is_judged(document: dict[str, Any]) -> None:
    """Patterns and bounds stand in the description, so that a client can hold itself to them."""
    event = document["components"]["schemas"][EventBody.__name__]["properties"]
    for name, good, bad in (("actor", "agent", "Agent"), ("type", "tool.call", "tool..call")):
        for value, expected in ((good, True), (bad, False)):
            assert bool(re.search(event[name]["pattern"], value)) is expected
            assert (event_faults(builders.event(**{name: value}), run_id=builders.RUN) == []) is expected
    assert event["seq"]["maximum"] == SEQ_MAX
    batch = document["paths"]["/api/runs/{run_id}/events/batch"]["post"]["responses"]
    assert batch["207"]["content"] == batch["202"]["content"]


async def test_the_page_loads_nothing_from_elsewhere(served: Served) -> None:
    async with served.client.get("/docs") as page, served.client.get("/openapi.json") as document:
        text = await page.text()
        assert (page.status, page.content_type, document.status) == (200, "text/html", 200)
    assert "http://" not in text
    assert "https://" not in text
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]
