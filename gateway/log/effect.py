"""What a consumer group did with a record."""

from datetime import datetime
from typing import Annotated, Literal

import msgspec
from msgspec import Meta


class Effect(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a record came to."""

    outcome: Annotated[
        Literal[
            "stored",
            "duplicate",
            "replaced",
            "rejected",
            "delivered",
            "filtered",
            "deferred",
            "dead_lettered",
            "unknown",
        ],
        Meta(
            description="replaced: stored, until a later capture took its place; filtered: the endpoint does not ask "
            "for it, or began behind it; deferred: it failed, and is tried again at `due_at`; "
            "unknown: `detail` says why"
        ),
    ]
    reason: str | None = None
    detail: str | None = None
    in_place_of: Annotated[
        str | None, Meta(description="The wal_id that counts instead: the first of duplicates, a later capture")
    ] = None
    dead_letter: Annotated[str | None, Meta(description="The place of its dead letter")] = None
    at: datetime | None = None
    due_at: Annotated[datetime | None, Meta(description="When what is deferred is tried again")] = None
