"""The page that shows the API's description: its script, run by Node on a document of a few lines."""

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.app import CHAPTERS, ROUTES
from gateway.http.openapi import openapi_document
from tests.support.tools import need

PAGE = Path(__file__).parents[3] / "gateway" / "docs.html"
RUNNER = Path(__file__).parent / "docs_page.mjs"
TIMEOUT_S = 60

Shown = Callable[..., dict[str, Any]]


@pytest.fixture
def shown(tmp_path: Path) -> Shown:
    """Return what the page shows of a description, the API's own unless a test has another, at an address."""
    node = need("node", package="nodejs")

    def run(description: Any = None, *, address: str = "http://tide.example/docs") -> dict[str, Any]:
        path = tmp_path / "openapi.json"
        own = openapi_document(CHAPTERS, version="1")
        path.write_bytes(own if description is None else json.dumps(description).encode())
        done = subprocess.run(
            [node, str(RUNNER), str(PAGE), str(path), address],
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return dict(json.loads(done.stdout))

    return run


def elements(node: Any, name: str) -> Iterator[dict[str, Any]]:
    """Yield every element of that name within *node*, in the order of the page."""
    if isinstance(node, dict):
        if node.get("localName") == name:
            yield node
        for child in node["children"]:
            yield from elements(child, name)


def text(node: Any) -> str:
    """Return all that is written within *node*."""
    return node if isinstance(node, str) else "".join(text(child) for child in node["children"])


def rows(page: dict[str, Any], operation: str) -> dict[str, list[str]]:
    """Return the rows of an operation's tables by their first cell."""
    (details,) = [each for each in elements(page["page"], "details") if each["id"] == operation]
    found = [[text(cell) for cell in row["children"]] for row in elements(details, "tr")]
    return {row[0]: row[1:] for row in found}


def test_nested_fields_are_shown_with_their_path(shown: Shown) -> None:
    event = rows(shown(), "accept_event")
    assert event["meta.signature?"] == ["string", "Lower-case hex HMAC-SHA256 of the RFC 8785 form without this field"]
    assert event["meta.idempotency_key?"][0] == "string"
    assert event["meta.agent_id"][0] == "string | integer"
    assert event["t"][0] == "string (date-time)"


def test_fields_within_lists_and_within_what_may_be_null_are_shown(shown: Shown) -> None:
    page = shown()
    assert rows(page, "accept_batch")["results[].wal_id?"][0].startswith("string")
    assert "[].meta.idempotency_key?" in rows(page, "accept_batch")
    assert rows(page, "show_integrity")["missing.ranges"][0] == "array of [integer, integer]"
    assert "removed.at" in rows(page, "show_integrity")
    assert rows(page, "show_trace")["tokens"][0] == "object of integer"


def test_backticks_are_code(shown: Shown) -> None:
    """None is left in any text; what stood between two is a code element."""
    page = shown()["page"]
    assert "`" not in text(page)
    codes = {text(each) for each in elements(page, "code")}
    assert {"read", "ingest", "VALIDATION_ERROR", "waited"} <= codes


def test_a_single_backtick_is_shown_as_it_is(shown: Shown) -> None:
    description = json.loads(openapi_document(CHAPTERS, version="1"))
    description["info"]["description"] = "one `two` and a ` alone <b>bold</b>"
    page = shown(description)["page"]
    paragraph = next(elements(page, "p"))
    assert text(paragraph) == "one two and a ` alone <b>bold</b>"
    assert [text(each) for each in elements(paragraph, "code")] == ["two"]


@pytest.mark.parametrize(
    ("address", "source"),
    [
        ("http://tide.example/docs", "/openapi.json"),
        ("http://tide.example/docs/", "/openapi.json"),
        ("http://tide.example/docs#LOG_UNAVAILABLE", "/openapi.json"),
        ("https://tide.example/gate/way/docs", "/gate/way/openapi.json"),
        ("https://tide.example/gate/way/docs/#show_run", "/gate/way/openapi.json"),
    ],
)
def test_the_description_is_looked_for_beside_the_page(shown: Shown, address: str, source: str) -> None:
    """Under a proxy's path prefix as well, with and without the trailing slash."""
    found = shown(address=address)
    assert found["fetched"] == [source]
    assert [link["href"] for link in elements(found["about"], "a")] == [source]


def test_what_the_address_names_is_opened(shown: Shown) -> None:
    """A problem's `type` is /docs#CODE."""
    page = shown(address="http://tide.example/docs#show_run")["page"]
    (details,) = [each for each in elements(page, "details") if each["id"] == "show_run"]
    assert (details["open"], details["scrolledTo"]) == (True, True)
    page = shown(address="http://tide.example/docs#LOG_UNAVAILABLE")["page"]
    (row,) = [each for each in elements(page, "tr") if each.get("id") == "LOG_UNAVAILABLE"]
    assert row["scrolledTo"]


def test_every_operation_is_shown_under_its_tag(shown: Shown) -> None:
    page = shown()["page"]
    assert len(list(elements(page, "details"))) == len(ROUTES)
    assert [text(each) for each in elements(page, "h2")] == [
        "runs",
        "events",
        "jobs",
        "documents",
        "log",
        "registry",
        "operations",
        "Problems",
    ]


def test_a_description_that_refers_to_itself_ends(shown: Shown) -> None:
    description = json.loads(openapi_document(CHAPTERS, version="1"))
    run = description["components"]["schemas"]["RunView"]
    run["properties"]["parent"] = {"$ref": "#/components/schemas/RunView"}
    assert "parent.parent.run_id" in rows(shown(description), "show_run")
