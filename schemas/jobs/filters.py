"""A filter of jobs, as lists and operations have it, and the condition in SQL that it stands for."""

from datetime import datetime
from typing import Annotated, Any, LiteralString

import msgspec
from msgspec import Meta

from schemas.jobs.rules import QUEUE_PATTERN, TYPE_PATTERN
from schemas.jobs.states import EndReason, JobStatus
from schemas.texts import LABEL_PATTERN

Label = Annotated[str, Meta(pattern=LABEL_PATTERN)]
Moment = Annotated[datetime, Meta(tz=True)]


class JobFilter(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A filter of one tenant's jobs; what is not said admits all."""

    status: JobStatus | None = None
    reason: EndReason | None = None
    type: Annotated[str, Meta(pattern=TYPE_PATTERN)] | None = None
    queue: Annotated[str, Meta(pattern=QUEUE_PATTERN)] | None = None
    user_id: Label | None = None
    tag: Label | None = None
    dedupe_key: Label | None = None
    metadata: Annotated[dict[str, Any], Meta(description="Contained in the job's metadata")] = {}
    created_from: Annotated[Moment | None, Meta(description="Created then or later")] = None
    created_to: Annotated[Moment | None, Meta(description="Created before then")] = None


MATCHES: LiteralString = """
    tenant_id = %(tenant)s
    AND (%(status)s::text IS NULL OR status = %(status)s)
    AND (%(reason)s::text IS NULL OR reason = %(reason)s)
    AND (%(type)s::text IS NULL OR type = %(type)s)
    AND (%(queue)s::text IS NULL OR queue = %(queue)s)
    AND (%(user_id)s::text IS NULL OR user_id = %(user_id)s)
    AND (%(tag)s::text IS NULL OR tags @> ARRAY[%(tag)s::text])
    AND (%(dedupe_key)s::text IS NULL OR dedupe_key = %(dedupe_key)s)
    AND (%(metadata)s::jsonb IS NULL OR metadata @> %(metadata)s::jsonb)
    AND (%(created_from)s::timestamptz IS NULL OR created_at >= %(created_from)s)
    AND (%(created_to)s::timestamptz IS NULL OR created_at < %(created_to)s)
"""
"""The condition on a row of `jobs`, by the parameters that `matched` returns."""


def matched(asked: JobFilter, *, tenant: str) -> dict[str, Any]:
    """Return the parameters of `MATCHES`."""
    return {name: getattr(asked, name) for name in asked.__struct_fields__} | {
        "tenant": tenant,
        "metadata": msgspec.json.encode(asked.metadata).decode() if asked.metadata else None,
    }
