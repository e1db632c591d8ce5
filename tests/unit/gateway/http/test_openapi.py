"""The description that the gateway gives of itself."""

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urljoin

import msgspec
import pytest

from gateway.app import CHAPTERS, ROUTES
from gateway.errors import STATUS
from gateway.http.openapi import openapi_document
from gateway.runs.parsing.bodies import EventBody
from gateway.runs.traces import TraceView
from processors.runs.persistence.trace import StoredEvent, Trace
from schemas.errors import ErrorCode
from schemas.runs.rules import SEQ_MAX, event_faults
from tests.support import builders
from tests.unit.gateway.conftest import Served


@pytest.fixture
def document() -> dict[str, Any]:
    return json.loads(openapi_document(CHAPTERS, version="1"))


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
            assert list(operation["requestBody"]["content"]) == [*route.body.media_types, *route.body.plain_types]
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


def test_every_operation_has_a_described_tag_and_a_name_of_its_own(document: dict[str, Any]) -> None:
    """Generators make a module of a tag and a function of a name."""
    operations = [operation for methods in document["paths"].values() for operation in methods.values()]
    described = {tag["name"] for tag in document["tags"] if tag["description"]}
    assert {tag for operation in operations for tag in operation["tags"]} == described
    assert all(len(operation["tags"]) == 1 for operation in operations)
    names = [operation["operationId"] for operation in operations]
    assert len(set(names)) == len(names)
    assert document["paths"]["/api/runs/{run_id}/trace"]["get"]["tags"] == ["runs"]
    assert document["paths"]["/api/wal/status"]["get"]["tags"] == ["log"]


@pytest.mark.parametrize(
    ("loaded_from", "expected"),
    [
        ("https://tide.example/openapi.json", "https://tide.example/api/runs"),
        ("https://tide.example/gate/openapi.json", "https://tide.example/gate/api/runs"),
    ],
)
def test_the_server_is_where_the_document_is(document: dict[str, Any], loaded_from: str, expected: str) -> None:
    (server,) = document["servers"]
    assert urljoin(loaded_from, server["url"]).rstrip("/") + "/api/runs" == expected


def test_every_answer_has_a_type(document: dict[str, Any]) -> None:
    for path, methods in document["paths"].items():
        for operation in methods.values():
            for status, response in operation["responses"].items():
                if status.startswith("2"):
                    ((_, content),) = response["content"].items()
                    assert content["schema"], path


def test_no_schema_is_a_mere_truth_value(document: dict[str, Any]) -> None:
    """JSON Schema allows `false`; generators of clients fail at it."""

    def schemas(node: Any) -> Iterator[Any]:
        if isinstance(node, dict):
            yield from (node[name] for name in ("items", "schema") if name in node)
            for part in node.values():
                yield from schemas(part)
        elif isinstance(node, list):
            for part in node:
                yield from schemas(part)

    found = list(schemas(document))
    assert found
    assert all(isinstance(schema, dict) for schema in found)
    ranges = document["components"]["schemas"]["MissingView"]["properties"]["ranges"]["items"]
    assert (ranges["minItems"], ranges["maxItems"], len(ranges["prefixItems"])) == (2, 2, 2)


def test_the_trace_record_is_the_one_that_persistence_writes(document: dict[str, Any]) -> None:
    """Each of its fields is described, and all of it is of the described types."""
    trace, moment = Trace(), datetime(2026, 1, 1, tzinfo=UTC)
    for seq, kind, payload in (
        (2, "tool_call", {"id": "c1", "usage": {"input": 3}}),
        (4, "tool_result", {"id": "c1"}),
    ):
        trace.add(
            StoredEvent(
                seq=seq,
                type=kind,
                actor="agent",
                happened_at=moment + timedelta(seconds=seq),
                payload=json.dumps(payload),
                event_sha256=bytes(32),
            )
        )
    for written in (trace, Trace()):
        text = written.document(status="succeeded", declared_event_count=None, duplicates=0, rejected=0)
        msgspec.json.decode(text, type=TraceView)
        described = document["components"]["schemas"][TraceView.__name__]["properties"]
        assert set(json.loads(text)) <= set(described)
    answer = document["paths"]["/api/runs/{run_id}/trace"]["get"]["responses"]["200"]["content"]["application/json"]
    assert answer["schema"] == {"$ref": "#/components/schemas/TraceView"}


def test_what_may_be_left_out_is_optional_and_the_rest_is_not(document: dict[str, Any]) -> None:
    """Generators take a default for a promise that the field is there."""
    schemas = document["components"]["schemas"]
    for name, optional in (
        ("FinalizationBody", {"event_count"}),
        ("ProblemDocument", {"errors", "expected_seq", "error", "message"}),
        ("Accepted", {"sequence", "waited"}),
        ("RunView", set()),
        ("Alive", set()),
        ("Fault", {"parameter"}),
    ):
        assert set(schemas[name]["properties"]) - set(schemas[name].get("required", ())) == optional, name
    assert '"default"' not in json.dumps(document)


async def test_the_page_loads_nothing_from_elsewhere(served: Served) -> None:
    async with served.client.get("/docs") as page, served.client.get("/openapi.json") as document:
        text = await page.text()
        assert (page.status, page.content_type, document.status) == (200, "text/html", 200)
    assert "http://" not in text
    assert "https://" not in text
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]
