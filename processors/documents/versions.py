"""The ids of what a version is made by, beside its text and its embedder: equal ones make equal chunks."""

import hashlib

from processors.documents.chunking import ChunkRules

RULES = ChunkRules()
CHUNKER = RULES.id
TEXT_PARSER = "text-1"
"""The parser of a version whose text was sent as such."""
FILE_PARSER = "file-1"
"""The parsers of files together: raise it when one of them reads the same file as another text."""


def chunk_sha256(text: str) -> bytes:
    """Return the digest of a chunk's text: chunks of one digest have one vector."""
    return hashlib.sha256(text.encode()).digest()
