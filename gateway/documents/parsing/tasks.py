"""Parsing tasks for documents, changes of collections, and searches."""

from collections.abc import Mapping
from typing import Any

import msgspec

from gateway.documents.parsing.prepared import (
    DocumentOrigin,
    PreparedDocument,
    PreparedDocuments,
    prepare,
    prepare_all,
    prepare_text,
)
from gateway.documents.parsing.searches import PreparedSearch, read_search
from gateway.http.bodies import LINES, TEXTS, Body, MediaType
from gateway.http.documents import read_object
from gateway.http.lists import split_lines, split_list
from schemas.access.credentials import Credentials
from schemas.documents.rules import BATCH_DOCUMENTS_MAX


class ParseDocument(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A task that parses one document. Raises as `prepare` and `prepare_text`."""

    body: Body
    origin: DocumentOrigin

    def result(self, text: bytes, _credentials: Credentials) -> PreparedDocument:
        """Return the document and its record."""
        if self.body.media_type in TEXTS:
            return prepare_text(text, self.origin, is_markdown=self.body.media_type is MediaType.MARKDOWN)
        return prepare(text, self.origin)


class ParseDocuments(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A task that parses a batch; each document is valid or refused by itself."""

    body: Body
    origin: DocumentOrigin

    def result(self, text: bytes, _credentials: Credentials) -> PreparedDocuments:
        """
        Return the documents of a list, or of a document a line.

        Raises:
            NotJson, Invalid: it is no such list, or one of too many or none.
        """
        split = split_lines if self.body.media_type in LINES else split_list
        return prepare_all(split(text, count_max=BATCH_DOCUMENTS_MAX), self.origin)


class PreparedReembedding(msgspec.Struct, frozen=True, kw_only=True):
    """The JSON object of a change of a collection, strictly decoded."""

    members: dict[str, Any]


class ParseReembedding(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A task that parses the change of a collection's embedder."""

    body: Body

    def result(self, text: bytes, _credentials: Credentials) -> PreparedReembedding:
        """Return the object. Raises NotJson or Invalid."""
        return PreparedReembedding(members=read_object(text, "a change").members)


class ParseSearch(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A task that parses a search. Raises as `read_search`."""

    body: Body

    def result(self, text: bytes, _credentials: Credentials) -> PreparedSearch:
        """Return the search."""
        return read_search(text)


BODY_TASKS: Mapping[type[Any], type[Any]] = {
    ParseDocument: PreparedDocument,
    ParseDocuments: PreparedDocuments,
    ParseReembedding: PreparedReembedding,
    ParseSearch: PreparedSearch,
}
"""The type of each task, and that of its result."""
