"""The OpenAPI 3.1 document, generated from the route table and the types; nothing of it is written by hand."""

import inspect
from collections.abc import Sequence
from typing import Any

import msgspec
import msgspec.inspect as inspection

from gateway.errors import STATUS
from gateway.http.codings import Coding
from gateway.http.problems import ProblemDocument
from gateway.http.routes import Chapter, Parameter, Route
from schemas.errors import ErrorCode
from schemas.ids import ID_PATTERN

_DESCRIPTION = """\
A trailing slash is always allowed, and HEAD is answered wherever GET is. Unknown query parameters are
refused with `VALIDATION_ERROR`; probes, metrics and the registry ignore them. Errors are problem documents (RFC 9457):
act on `code`, which is stable."""
# Relative to the document's own address (OpenAPI 3.1, 4.8.5), so that it holds behind a proxy's path prefix.
_SERVER = {"url": ".", "description": "Where this document was loaded from"}

_REF = "#/components/schemas/{name}"
_EXAMPLE_TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
_CONTENT_ENCODING = {
    "name": "Content-Encoding",
    "in": "header",
    "description": "How the body is compressed: one of these, in one stream",
    "schema": {"type": "string", "enum": [*Coding, "identity"]},
}


def openapi_document(chapters: Sequence[Chapter[Any]], *, version: str) -> bytes:
    """Return the document as JSON."""
    routes = [route for chapter in chapters for route in chapter.routes]
    mistakes = {route.mistake for route in routes if route.mistake is not None}
    answers = [*(each for route in routes for each in route.answers), ProblemDocument, *mistakes]
    bodies = [route.body.type for route in routes if route.body]
    types = [*answers, *bodies]
    shown, components = msgspec.json.schema_components(types, ref_template=_REF)
    always_sent = {name for name, cls in _structs(answers).items() if not cls.__struct_config__.omit_defaults}
    schemas = dict(zip([repr(type_) for type_ in types], shown, strict=False))
    paths: dict[str, dict[str, Any]] = {}
    for chapter in chapters:
        for route in chapter.routes:
            paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, chapter.tag, schemas)
    document = {
        "openapi": "3.1.0",
        "info": {
            "title": "Tidegate",
            "version": version,
            "summary": "Accepts events over HTTP and keeps every one it has accepted.",
            "description": _DESCRIPTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [_SERVER],
        "tags": [{"name": chapter.tag, "description": chapter.description} for chapter in chapters],
        "paths": paths,
        "components": {
            "schemas": {
                name: _without_defaults(_with_bounded_tuples(schema), is_always_sent=name in always_sent)
                for name, schema in components.items()
            },
            "responses": {code.value: _problem(code) for code in STATUS},
            "securitySchemes": {
                "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
                "bearer": {"type": "http", "scheme": "bearer"},
                "basic": {"type": "http", "scheme": "basic", "description": "The API key as user name, no password"},
            },
        },
    }
    return msgspec.json.encode(document)


def _operation(route: Route[Any], tag: str, schemas: dict[str, Any]) -> dict[str, Any]:
    summary = inspect.getdoc(route.handler) or ""
    operation: dict[str, Any] = {
        "operationId": getattr(route.handler, "__name__", route.path),
        "summary": summary,
        "tags": [tag],
        "parameters": [_path_parameter(name, route.patterns.get(name, ID_PATTERN)) for name in route.names]
        + [_query_parameter(parameter) for parameter in route.query],
        "responses": {**_answers(route, schemas), **_problems(route.refusals), **_mistakes(route)},
    }
    if route.right is not None:
        operation["security"] = [
            {"apiKey": []},
            {"bearer": []},
            *([{"basic": []}] if route.takes_basic else []),
            *([{}] if route.takes_anyone else []),
        ]
        who = "a key or a user's token" if route.takes_tokens else "a key"
        unless = ", unless the deployment names a tenant for requests without one" if route.takes_anyone else ""
        operation["description"] = f"Needs {who} with the right `{route.right.value}`{unless}."
    if route.body is not None:
        if route.body.packed:
            operation["parameters"].append(_CONTENT_ENCODING)
        operation["requestBody"] = {
            "required": True,
            "description": f"At most {route.body.bytes_max} bytes, as it is sent and once it is inflated and as JSON.",
            "content": {
                **{str(name): {"schema": schemas[repr(route.body.type)]} for name in route.body.media_types},
                **{str(name): {"schema": {"type": "string"}} for name in route.body.plain_types},
            },
        }
    return operation


def _with_bounded_tuples(schema: Any) -> Any:
    """Return *schema* without `"items": false`, at which generators of clients fail; `maxItems` says the same."""
    if isinstance(schema, list):
        return [_with_bounded_tuples(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    is_bounded = schema.get("items") is False and schema.get("maxItems") == len(schema.get("prefixItems", ()))
    return {name: _with_bounded_tuples(part) for name, part in schema.items() if not (is_bounded and name == "items")}


def _structs(types: Sequence[Any]) -> dict[str, type[msgspec.Struct]]:
    """Return the structs that *types* consist of, by the names that they have in the document."""
    found: dict[str, type[msgspec.Struct]] = {}

    def walk(node: object) -> None:
        if isinstance(node, inspection.StructType):
            if node.cls.__name__ in found:
                return
            found[node.cls.__name__] = node.cls
        if isinstance(node, inspection.Type | inspection.Field):
            walk(msgspec.structs.astuple(node))
        elif isinstance(node, tuple):
            for part in node:
                walk(part)

    walk(inspection.multi_type_info(types))
    return found


def _without_defaults(schema: dict[str, Any], *, is_always_sent: bool) -> dict[str, Any]:
    """
    Return *schema* without its fields' defaults; those of an answer that has them always are required instead.

    Generators take a field with a default for one that is there: they would demand it in bodies, and expect it in
    answers that leave it out.
    """
    properties = schema.get("properties", {})
    defaulted = [name for name, part in properties.items() if "default" in part]
    if not defaulted:
        return schema
    bare = {name: {key: each for key, each in part.items() if key != "default"} for name, part in properties.items()}
    required = [*schema.get("required", ()), *(defaulted if is_always_sent else ())]
    return schema | {"properties": bare} | ({"required": required} if required else {})


def _answers(route: Route[Any], schemas: dict[str, Any]) -> dict[str, Any]:
    when = {route.status: "Accepted" if route.status == 202 else "OK", **route.also}  # noqa: PLR2004
    return {str(status): _answer(route, schemas, description) for status, description in when.items()}


def _answer(route: Route[Any], schemas: dict[str, Any], description: str) -> dict[str, Any]:
    shown = [schemas[repr(each)] for each in route.answers]
    schema = shown[0] if len(shown) == 1 else {"anyOf": shown}
    return {"description": description, "content": {route.media_type: {"schema": schema}}}


def _mistakes(route: Route[Any]) -> dict[str, Any]:
    if route.mistake is None:
        return {}
    content = {route.media_type: {"schema": {"$ref": _REF.format(name=route.mistake.__name__)}}}
    return {str(status): {"description": when, "content": content} for status, when in route.mistakes.items()}


def _problems(codes: Sequence[ErrorCode]) -> dict[str, Any]:
    by_status: dict[str, list[ErrorCode]] = {}
    for code in codes:
        by_status.setdefault(str(STATUS[code][0]), []).append(code)
    return {
        status: {"$ref": f"#/components/responses/{shared[0].value}"} if len(shared) == 1 else _either(shared)
        for status, shared in sorted(by_status.items())
    }


def _either(codes: Sequence[ErrorCode]) -> dict[str, Any]:
    examples = {code.value: {"value": _example(code)} for code in codes}
    content = {"schema": {"$ref": _REF.format(name="ProblemDocument")}, "examples": examples}
    return {
        "description": "; ".join(STATUS[code][1] for code in codes),
        "content": {"application/problem+json": content},
    }


def _problem(code: ErrorCode) -> dict[str, Any]:
    content = {"schema": {"$ref": _REF.format(name="ProblemDocument")}, "example": _example(code)}
    return {"description": STATUS[code][1], "content": {"application/problem+json": content}}


def _example(code: ErrorCode) -> dict[str, Any]:
    status, title = STATUS[code]
    example: dict[str, Any] = {
        "type": f"/docs#{code.value}",
        "title": title,
        "status": status,
        "code": code.value,
        "detail": title,
        "instance": "/api/runs/run-1/events",
        "trace_id": _EXAMPLE_TRACE_ID,
    }
    if code in (ErrorCode.VALIDATION_ERROR, ErrorCode.TOON_VALIDATION_ERROR):
        example["detail"] = "1 fault"
        example["errors"] = [{"pointer": "/seq", "detail": "an integer from 1"}]
    if code is ErrorCode.VALIDATION_ERROR:
        fault = "unknown query parameter 'agent_id'; this path has agent, status, from, to, limit, cursor"
        example |= {
            "detail": fault,
            "instance": "/api/runs",
            "errors": [{"pointer": "", "detail": fault, "parameter": "agent_id"}],
        }
    return example


def _path_parameter(name: str, pattern: str) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string", "pattern": pattern}
    if name in ("partition", "offset", "id"):
        schema = {"type": "integer", "minimum": 0}
    return {"name": name, "in": "path", "required": True, "schema": schema}


def _query_parameter(parameter: Parameter) -> dict[str, Any]:
    return {
        "name": parameter.name,
        "in": "query",
        "description": parameter.description,
        "schema": msgspec.json.schema(parameter.type),
    }
