"""
The read half of Confluent's Schema Registry API, so that its clients decode our topics. No key is needed.

Schemas are released with the code and never over HTTP: the mode is READONLY. A mistake is told in the registry's own
form, since its clients read that. Source: Confluent's Schema Registry API reference.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence

import msgspec
from aiohttp import web

from gateway.errors import UnsupportedCoding
from gateway.http.body import receive
from gateway.http.call import Call
from schemas.kafka import registry
from schemas.kafka.registry import ReleasedSchema

MEDIA_TYPE = "application/vnd.schemaregistry.v1+json"
SCHEMA_BYTES_MAX = 64 * 1024

NO_SUBJECT = 40401
NO_VERSION = 40402
NO_SCHEMA = 40403
NOT_A_SCHEMA = 42201
NOT_A_VERSION = 42202

# What a route may answer beside what it is asked for, by status.
NO_SUCH_SUBJECT = {404: "No such subject"}
NO_SUCH_VERSION = {404: "No such subject or version", 422: "Not a version"}
NO_SUCH_SCHEMA = {404: "No such schema"}
NO_SUCH_SCHEMA_OF_SUBJECT = {404: "No such subject, or none of its versions has this schema", 422: "Not a schema"}

_RELEASED = registry.released()
_BY_ID = {str(entry.id): entry for entry in _RELEASED}
_BY_SUBJECT: Mapping[str, Sequence[ReleasedSchema]] = {
    name: [entry for entry in _RELEASED if entry.subject == name]
    for name in dict.fromkeys(entry.subject for entry in _RELEASED)
}
_LATEST = ("latest", "-1")
_NUMBER = re.compile(r"[1-9][0-9]{0,9}\Z")


class SchemaOfId(msgspec.Struct, frozen=True, kw_only=True):
    """The schema that an id stands for, as JSON text."""

    schema: str


class SubjectVersion(msgspec.Struct, frozen=True, kw_only=True):
    """The subject and version under which a schema is listed."""

    subject: str
    version: int


class RegisteredSchema(msgspec.Struct, frozen=True, kw_only=True):
    """One version of a subject; its schema as JSON text."""

    subject: str
    version: int
    id: int
    schema: str


class Compatibility(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The compatibility that a new version needs with the last one: BACKWARD, a new reader reads old records."""

    compatibility_level: str = "BACKWARD"


class Mode(msgspec.Struct, frozen=True, kw_only=True):
    """Mode of the registry: schemas cannot be registered here."""

    mode: str = "READONLY"


class Mistake(msgspec.Struct, frozen=True, kw_only=True):
    """An error, in the registry's own form."""

    error_code: int
    message: str


async def list_subjects(_parts: None, _call: Call) -> web.Response:
    """List every subject, named `<topic>-<full record name>` (TopicRecordNameStrategy)."""
    return _answer(list(_BY_SUBJECT))


async def list_versions(_parts: None, call: Call) -> web.Response:
    """List the versions of a subject."""
    return _of_subject(call.path["subject"], lambda entries: [entry.version for entry in entries])


async def find_version(_parts: None, call: Call) -> web.Response:
    """Find the version of a subject that has this schema. Nothing is registered, though it is a POST."""
    if call.request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise UnsupportedCoding(["identity"])
    body = await receive(call)
    entries = _BY_SUBJECT.get(call.path["subject"])
    if not entries:
        return _no_subject(call.path["subject"])
    try:
        # Not msgspec: numbers with an exponent take it so long that 64 KiB would hold up everyone.
        schema = json.loads(msgspec.json.decode(body, type=SchemaOfId).schema)
    except (ValueError, RecursionError) as error:
        return _mistake(422, NOT_A_SCHEMA, f"Invalid schema: {error}")
    entry = next((entry for entry in entries if entry.schema == schema), None)
    return _answer(_registered(entry)) if entry else _mistake(404, NO_SCHEMA, "Schema not found")


async def show_version(_parts: None, call: Call) -> web.Response:
    """Return one version of a subject, by its number or `latest`."""
    return _of_version(call, _registered)


async def show_version_schema(_parts: None, call: Call) -> web.Response:
    """Return the schema alone of one version of a subject."""
    return _of_version(call, lambda entry: entry.schema)


async def show_schema(_parts: None, call: Call) -> web.Response:
    """Return the schema that an id in a record's frame stands for; a `subject` parameter is ignored."""
    return _of_id(call.path["id"], lambda entry: SchemaOfId(schema=_text(entry.schema)))


async def list_schema_versions(_parts: None, call: Call) -> web.Response:
    """List where the schema of an id is found."""
    return _of_id(call.path["id"], lambda entry: [SubjectVersion(subject=entry.subject, version=entry.version)])


async def list_schema_subjects(_parts: None, call: Call) -> web.Response:
    """List the subjects that have the schema of an id."""
    return _of_id(call.path["id"], lambda entry: [entry.subject])


async def list_schema_types(_parts: None, _call: Call) -> web.Response:
    """List the kinds of schemas: Avro alone."""
    return _answer(["AVRO"])


async def show_compatibility(_parts: None, _call: Call) -> web.Response:
    """Return the compatibility that every new version needs with the last one."""
    return _answer(Compatibility())


async def show_subject_compatibility(_parts: None, call: Call) -> web.Response:
    """Return the compatibility that every new version of a subject needs with the last one."""
    return _of_subject(call.path["subject"], lambda _entries: Compatibility())


async def show_mode(_parts: None, _call: Call) -> web.Response:
    """Report that schemas cannot be registered here."""
    return _answer(Mode())


def _of_subject(subject: str, shown: Callable[[Sequence[ReleasedSchema]], object]) -> web.Response:
    entries = _BY_SUBJECT.get(subject)
    return _answer(shown(entries)) if entries else _no_subject(subject)


def _of_version(call: Call, shown: Callable[[ReleasedSchema], object]) -> web.Response:
    subject, version = call.path["subject"], call.path["version"]
    entries = _BY_SUBJECT.get(subject)
    if not entries:
        return _no_subject(subject)
    if version in _LATEST:
        return _answer(shown(entries[-1]))
    if not _NUMBER.match(version):
        return _mistake(422, NOT_A_VERSION, f"'{version}' is no version: a number from 1, or 'latest'.")
    entry = next((entry for entry in entries if entry.version == int(version)), None)
    return _answer(shown(entry)) if entry else _mistake(404, NO_VERSION, f"Version {version} not found.")


def _of_id(schema_id: str, shown: Callable[[ReleasedSchema], object]) -> web.Response:
    entry = _BY_ID.get(schema_id)
    return _answer(shown(entry)) if entry else _mistake(404, NO_SCHEMA, f"Schema {schema_id} not found")


def _registered(entry: ReleasedSchema) -> RegisteredSchema:
    return RegisteredSchema(subject=entry.subject, version=entry.version, id=entry.id, schema=_text(entry.schema))


def _text(schema: Mapping[str, object]) -> str:
    return msgspec.json.encode(schema).decode()


def _answer(document: object, *, status: int = 200) -> web.Response:
    return web.Response(body=msgspec.json.encode(document), status=status, headers={"Content-Type": MEDIA_TYPE})


def _no_subject(subject: str) -> web.Response:
    return _mistake(404, NO_SUBJECT, f"Subject '{subject}' not found.")


def _mistake(status: int, code: int, message: str) -> web.Response:
    return _answer(Mistake(error_code=code, message=message), status=status)
