"""The registry's read half: what its clients ask, and mistakes in the form that they read."""

import json
from typing import Any

import pytest

from schemas.kafka import registry
from tests.unit.gateway.conftest import Served

SUBJECT = "run.events-tidegate.runs.RunEvent"
MEDIA_TYPE = "application/vnd.schemaregistry.v1+json"
RELEASED = {entry.id: entry for entry in registry.released()}


async def ask(served: Served, path: str) -> tuple[int, Any]:
    """Return the status and the document; every answer is of the registry's media type."""
    async with served.client.get(path) as answer:
        assert answer.content_type == MEDIA_TYPE
        return answer.status, await answer.json(content_type=MEDIA_TYPE)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/subjects", list(dict.fromkeys(entry.subject for entry in RELEASED.values()))),
        ("/subjects/", list(dict.fromkeys(entry.subject for entry in RELEASED.values()))),
        (f"/subjects/{SUBJECT}/versions", [1]),
        (f"/subjects/{SUBJECT}/versions/1/schema", RELEASED[1].schema),
        (f"/subjects/{SUBJECT}/versions/latest/schema", RELEASED[1].schema),
        ("/schemas/ids/3/versions", [{"subject": RELEASED[3].subject, "version": 1}]),
        ("/schemas/ids/3/subjects?subject=x", [RELEASED[3].subject]),
        ("/schemas/types", ["AVRO"]),
        ("/config", {"compatibilityLevel": "BACKWARD"}),
        (f"/config/{SUBJECT}", {"compatibilityLevel": "BACKWARD"}),
        ("/mode", {"mode": "READONLY"}),
    ],
)
async def test_a_look_up_is_answered_without_a_key(served: Served, path: str, expected: object) -> None:
    assert await ask(served, path) == (200, expected)


async def test_every_released_schema_is_found_by_its_id_and_by_its_version(served: Served) -> None:
    """Clients send the subject that they expect along with an id; it is ignored."""
    for entry in RELEASED.values():
        status, by_id = await ask(served, f"/schemas/ids/{entry.id}?subject=another&format=")
        assert (status, json.loads(by_id["schema"])) == (200, entry.schema)
        status, version = await ask(served, f"/subjects/{entry.subject}/versions/{entry.version}")
        assert (status, version) == (200, by_id | {"subject": entry.subject, "version": entry.version, "id": entry.id})


@pytest.mark.parametrize("latest", ["latest", "-1"])
async def test_the_latest_version_has_names(served: Served, latest: str) -> None:
    _, version = await ask(served, f"/subjects/{SUBJECT}/versions/{latest}")
    assert version["version"] == max(entry.version for entry in RELEASED.values() if entry.subject == SUBJECT)


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/subjects/none/versions", 404, 40401),
        ("/subjects/none/versions/latest", 404, 40401),
        ("/subjects/none/versions/x", 404, 40401),
        ("/subjects/{}/versions/1", 404, 40401),
        ("/config/none", 404, 40401),
        (f"/subjects/{SUBJECT}/versions/999", 404, 40402),
        (f"/subjects/{SUBJECT}/versions/999/schema", 404, 40402),
        (f"/subjects/{SUBJECT}/versions/0", 422, 42202),
        (f"/subjects/{SUBJECT}/versions/%C2%B2", 422, 42202),
        (f"/subjects/{SUBJECT}/versions/newest/schema", 422, 42202),
        ("/schemas/ids/999", 404, 40403),
        ("/schemas/ids/%C2%B2", 404, 40403),
        ("/schemas/ids/999/versions", 404, 40403),
        ("/schemas/ids/999/subjects", 404, 40403),
    ],
)
async def test_a_mistake_has_the_code_that_clients_know(served: Served, path: str, status: int, code: int) -> None:
    told, mistake = await ask(served, path)
    assert (told, mistake["error_code"]) == (status, code)
    assert mistake["message"]


async def look_up(served: Served, subject: str, body: bytes) -> tuple[int, Any]:
    headers = {"Content-Type": MEDIA_TYPE}
    async with served.client.post(f"/subjects/{subject}?deleted=True", data=body, headers=headers) as answer:
        return answer.status, await answer.json(content_type=None)


async def test_a_packed_schema_is_refused(served: Served) -> None:
    """It would be read as it stands otherwise, under a header that says it is something else."""
    headers = {"Content-Encoding": "gzip"}
    async with served.client.post(f"/subjects/{SUBJECT}", data=b"{}", headers=headers) as answer:
        assert (answer.status, (await answer.json())["code"]) == (415, "UNSUPPORTED_MEDIA_TYPE")
        assert answer.headers["Accept-Encoding"] == "identity"


async def test_a_schema_is_looked_up_whatever_its_blanks(served: Served) -> None:
    for entry in RELEASED.values():
        body = {"schema": json.dumps(entry.schema, indent=2), "schemaType": "AVRO", "references": []}
        status, found = await look_up(served, entry.subject, json.dumps(body).encode())
        assert (status, found["id"], found["version"]) == (200, entry.id, entry.version)


@pytest.mark.parametrize(
    ("subject", "body", "status", "code"),
    [
        ("none", b'{"schema": "\\"string\\""}', 404, 40401),
        (SUBJECT, b'{"schema": "\\"string\\""}', 404, 40403),
        (SUBJECT, b'{"schema": "string"}', 422, 42201),
        (SUBJECT, b'{"schema": 1}', 422, 42201),
        (SUBJECT, b"", 422, 42201),
        (SUBJECT, json.dumps({"schema": "[" * 60_000}).encode(), 422, 42201),
    ],
)
async def test_a_schema_that_is_not_released_is_not_found(
    served: Served, subject: str, body: bytes, status: int, code: int
) -> None:
    told, mistake = await look_up(served, subject, body)
    assert (told, mistake["error_code"]) == (status, code)


async def test_a_look_up_is_bounded(served: Served) -> None:
    status, problem = await look_up(served, SUBJECT, b" " * (256 * 1024 + 1))
    assert (status, problem["code"]) == (413, "PAYLOAD_TOO_LARGE")


async def test_what_clients_register_is_refused(served: Served) -> None:
    async with served.client.post(f"/subjects/{SUBJECT}/versions") as answer:
        assert (answer.status, answer.headers["Allow"]) == (405, "GET, HEAD")
