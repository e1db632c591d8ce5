"""The states of a document's job, the stages that it passes, and the reasons why one fails."""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType


class Lane(StrEnum):
    """The lane that a document's work waits in; each has its guaranteed share of the embedders."""

    HIGH = "high"
    NORMAL = "normal"
    LOW = "low"


LANE_WEIGHTS: Mapping[Lane, int] = MappingProxyType({Lane.HIGH: 8, Lane.NORMAL: 3, Lane.LOW: 1})
"""The shares of lanes in which work waits, in cost."""
HIGH_FROM, NORMAL_FROM = 8, 4  # priorities


def lane_of(priority: int) -> Lane:
    """Return the lane of a priority, 1 to 10."""
    if priority >= HIGH_FROM:
        return Lane.HIGH
    return Lane.NORMAL if priority >= NORMAL_FROM else Lane.LOW


class Phase(StrEnum):
    """The state of a document's job."""

    SUBMITTED = "submitted"
    CHUNKED = "chunked"
    EMBEDDING = "embedding"
    STORED = "stored"
    FAILED = "failed"
    SUPERSEDED = "superseded"  # a newer revision is live, or a newer command deleted it
    UNCHANGED = "unchanged"  # the live version has the same content
    DELETED = "deleted"
    CANCELLED = "cancelled"


IN_FLIGHT = (Phase.SUBMITTED, Phase.CHUNKED, Phase.EMBEDDING)
ENDS = tuple(phase for phase in Phase if phase not in IN_FLIGHT)


class Stage(StrEnum):
    """The stage at which a document failed."""

    INTAKE = "intake"
    PARSE = "parse"
    CHUNK = "chunk"
    EMBED = "embed"
    STORE = "store"


class JobKind(StrEnum):
    """The command that a job stands for."""

    PUT = "put"
    DELETE = "delete"
    REEMBED = "reembed"


class DocumentAction(StrEnum):
    """A change that a user asks of a document's job."""

    CANCEL = "cancel"
    RETRY = "retry"


class Failure(StrEnum):
    """The reason of a failure that no parser or embedder names."""

    CRASHED = "crashed"  # its worker died three times
    PRECONDITION = "precondition_failed"  # another revision came first
    TEXT_MISSING = "text_missing"  # object storage does not have it, or another content
    WORKER_FAILED = "worker_failed"  # a custom worker raised, was too slow, or answered what is not valid
    EMBEDDER_AWAY = "embedder_away"  # each attempt met an embedder that did not answer
    BAD_CHUNK = "bad_chunk"  # a chunk could not be embedded
    NOT_STORABLE = "not_storable"
