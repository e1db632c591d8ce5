"""The messages between `Parsers` and a child, and the bounds of what a child may do."""

import msgspec

from processors.documents.parsing.results import CONTENT_BYTES_MAX, TEXT_BYTES_MAX, Parsed, ParseFailed
from schemas.documents.kinds import UploadKind

_BESIDE_BYTES = 4 * 1024 * 1024  # titles, offsets of pages, notes
QUESTION_BYTES_MAX = CONTENT_BYTES_MAX + 64 * 1024
ANSWER_BYTES_MAX = TEXT_BYTES_MAX + _BESIDE_BYTES


class ChildLimits(msgspec.Struct, frozen=True, kw_only=True):
    """The bounds of one child."""

    memory_bytes: int = 1024 * 1024 * 1024  # of its address space, with what its zygote has loaded
    cpu_s: int = 20
    wall_s: float = 60.0
    files_count: int = 16


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """An upload for a child to read."""

    kind: UploadKind
    content: bytes
    charset: str | None


class Ready(msgspec.Struct, frozen=True, kw_only=True, tag="ready", tag_field="outcome"):
    """The child is within its bounds, and takes the upload."""

    is_without_network: bool


QUESTION: msgspec.msgpack.Decoder[Question] = msgspec.msgpack.Decoder(Question)
ANSWER: msgspec.msgpack.Decoder[Ready | Parsed | ParseFailed] = msgspec.msgpack.Decoder(Ready | Parsed | ParseFailed)
