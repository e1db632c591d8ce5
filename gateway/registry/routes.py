"""The routes of the schema registry. Its clients add parameters of their own (`?normalize=`), which are ignored."""

from collections.abc import Mapping
from typing import Any

from gateway.http.bodies import MediaType
from gateway.http.routes import BodySpec, Chapter, Handler, Route
from gateway.registry import handlers as registry
from schemas.errors import ErrorCode


def _look_up(path: str, handler: Handler[None], answer: Any, mistakes: Mapping[int, str] | None = None) -> Route[None]:
    return Route(
        method="GET",
        path=path,
        handler=handler,
        answer=answer,
        media_type=registry.MEDIA_TYPE,
        mistakes=mistakes or {},
        mistake=registry.Mistake,
        ignores_query=True,
    )


ROUTES: tuple[Route[None], ...] = (
    _look_up("/subjects", registry.list_subjects, list[str]),
    Route(
        method="POST",
        path="/subjects/{subject}",
        handler=registry.find_version,
        answer=registry.RegisteredSchema,
        body=BodySpec(
            type=registry.SchemaOfId,
            bytes_max=registry.SCHEMA_BYTES_MAX,
            media_types=(registry.MEDIA_TYPE, MediaType.JSON),
            packed=False,
        ),
        refusals=(
            ErrorCode.BAD_REQUEST,
            ErrorCode.REQUEST_TIMEOUT,
            ErrorCode.PAYLOAD_TOO_LARGE,
            ErrorCode.UNSUPPORTED_MEDIA_TYPE,
        ),
        media_type=registry.MEDIA_TYPE,
        mistakes=registry.NO_SUCH_SCHEMA_OF_SUBJECT,
        mistake=registry.Mistake,
        ignores_query=True,
    ),
    _look_up("/subjects/{subject}/versions", registry.list_versions, list[int], registry.NO_SUCH_SUBJECT),
    _look_up(
        "/subjects/{subject}/versions/{version}",
        registry.show_version,
        registry.RegisteredSchema,
        registry.NO_SUCH_VERSION,
    ),
    _look_up(
        "/subjects/{subject}/versions/{version}/schema",
        registry.show_version_schema,
        dict[str, Any],
        registry.NO_SUCH_VERSION,
    ),
    _look_up("/schemas/ids/{id}", registry.show_schema, registry.SchemaOfId, registry.NO_SUCH_SCHEMA),
    _look_up(
        "/schemas/ids/{id}/versions",
        registry.list_schema_versions,
        list[registry.SubjectVersion],
        registry.NO_SUCH_SCHEMA,
    ),
    _look_up("/schemas/ids/{id}/subjects", registry.list_schema_subjects, list[str], registry.NO_SUCH_SCHEMA),
    _look_up("/schemas/types", registry.list_schema_types, list[str]),
    _look_up("/config", registry.show_compatibility, registry.Compatibility),
    _look_up(
        "/config/{subject}", registry.show_subject_compatibility, registry.Compatibility, registry.NO_SUCH_SUBJECT
    ),
    _look_up("/mode", registry.show_mode, registry.Mode),
)

CHAPTER: Chapter[None] = Chapter(
    tag="registry",
    description="The read half of the Schema Registry API, so that Avro-aware clients decode our topics.",
    routes=ROUTES,
)
