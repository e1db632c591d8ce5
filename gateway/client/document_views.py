"""The gateway's answers about documents, as the client returns them; fields that it does not know are left out."""

from collections.abc import Sequence
from datetime import datetime
from http import HTTPStatus
from typing import Any, TypeVar

import msgspec

from gateway.client.answers import Answer, refuse
from schemas.documents.states import ENDS, Phase

Document = TypeVar("Document")

GOOD = (HTTPStatus.OK, HTTPStatus.ACCEPTED)


class DocumentName(msgspec.Struct, frozen=True, kw_only=True):
    """The name of a document: a chapter of a book."""

    book_slug: str
    chapter_index: int | str


class Submitted(msgspec.Struct, frozen=True, kw_only=True):
    """A command that is in the log; `duplicate`: an earlier request with its idempotency key brought it there."""

    job_id: str
    revision: int
    wal_id: str = ""
    phase: Phase = Phase.SUBMITTED
    duplicate: bool = False


class JobFailure(msgspec.Struct, frozen=True, kw_only=True):
    """The failure of a job, or of its last attempt."""

    stage: str | None = None
    reason: str | None = None
    detail: str | None = None
    chunk: int | None = None


class EmbeddedChunks(msgspec.Struct, frozen=True, kw_only=True):
    """The progress of a job: *done* of so many chunks have their vectors."""

    done: int
    of: int


class JobTimes(msgspec.Struct, frozen=True, kw_only=True):
    """The moments at which a job passed its stages, and the seconds that each took."""

    submitted_at: datetime
    ended_at: datetime | None = None
    queue_s: float | None = None
    chunk_s: float | None = None
    embed_s: float | None = None
    store_s: float | None = None


class DocumentJob(msgspec.Struct, frozen=True, kw_only=True):
    """One job; `visible` is False while it is in the log and not stored as a row yet."""

    job_id: str
    phase: Phase
    document: DocumentName | None = None
    revision: int | None = None
    attempts: int = 0
    embedded: EmbeddedChunks | None = None
    error: JobFailure | None = None
    times: JobTimes | None = None
    visible: bool = True

    @property
    def has_ended(self) -> bool:
        """Return True if it does not change any more, unless somebody runs it again."""
        return self.phase in ENDS


class LegRank(msgspec.Struct, frozen=True, kw_only=True):
    """The place of a hit in one leg of a search."""

    rank: int
    score: float


class Hit(msgspec.Struct, frozen=True, kw_only=True):
    """One passage that was found; a leg is None where the passage is not among its first."""

    document: DocumentName
    revision: int
    chunk: int
    span: tuple[int, int]  # in the document's text, in code points
    text: str
    score: float
    heading: str | None = None
    vector: LegRank | None = None
    words: LegRank | None = None
    metadata: Any = None


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """The best hits of a search; `complete` is False if more may match, `degraded` names legs that failed."""

    hits: Sequence[Hit]
    complete: bool
    degraded: Sequence[str] = ()
    took_ms: float = 0.0


class CollectionDeleted(msgspec.Struct, frozen=True, kw_only=True):
    """The command that deletes a book is in the log."""

    command_id: str


def read_as(kind: type[Document], answer: Answer) -> Document:
    """
    Return the document of a good answer.

    Raises:
        Refused, SendAgainLater: see `refuse`.
    """
    if answer.status in GOOD:
        try:
            return msgspec.json.decode(answer.body, type=kind)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            pass  # no gateway of ours: a proxy, whose answer promises nothing
    raise refuse(answer)
