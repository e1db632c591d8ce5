"""
Files as texts: read in a limited child process, or into parts that become documents of their own.

The first part has the file's own name, the others the name and their number. Parts of an earlier file of that name
that the new one does not have are deleted.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from processors.documents.moves import JobError
from processors.documents.parsing.processes import Parsers
from processors.documents.parsing.results import PARTS_MAX, Parsed, ParseFailed, Part
from processors.documents.versions import FILE_PARSER
from processors.documents.work.embedding import Failed
from processors.documents.work.journal import Begun, Journal
from processors.postgres.writes import PostgresWrites
from processors.runtime.dead_letters import LogWriter, OutgoingRecord
from processors.runtime.errors import Transient
from processors.runtime.failpoints import Failpoint, reach
from processors.runtime.sealing import sealed_record
from schemas.access.credentials import CurrentCredentials
from schemas.documents.codec import COMMAND_CODEC
from schemas.documents.records import (
    DeleteDocument,
    DocumentWork,
    PutDocument,
    content_sha256,
    key_of,
    part_job_id,
    record_id,
)
from schemas.documents.rules import DOCUMENT_CHARACTERS_MAX, METADATA_BYTES_MAX
from schemas.documents.states import Stage
from schemas.documents.topics import DOCUMENT_COMMANDS
from schemas.texts import exceeds

# Documents that an earlier file of this name became: others may be called the same.
PARTS_BEFORE = """
    SELECT number FROM documents
    JOIN unnest(%(names)s::text[], %(numbers)s::integer[]) AS part (document, number) USING (document)
    WHERE tenant_id = %(tenant)s AND collection = %(collection)s
        AND deleted_revision IS DISTINCT FROM latest_revision
        AND EXISTS (
            SELECT FROM document_jobs AS newest
            WHERE (newest.tenant_id, newest.collection, newest.document, newest.revision)
                = (documents.tenant_id, documents.collection, documents.document, documents.latest_revision)
                AND parent_job IS NOT NULL
        )
    ORDER BY number
"""
_NUMBER_CHARACTERS_MAX = 7  # with its slash
_DIGEST_CHARACTERS = 16


class FileText(NamedTuple):
    """The text of a file that is one document."""

    text: str
    sha256: bytes
    is_markdown: bool


class Files:
    """The parse stage of a worker."""

    def __init__(
        self,
        parsers: Parsers,
        journal: Journal,
        writes: PostgresWrites,
        commands: LogWriter,
        credentials: CurrentCredentials,
    ) -> None:
        """Read files by *parsers*, and write commands for their parts by *commands*, sealed."""
        self._parsers = parsers
        self._journal = journal
        self._writes = writes
        self._commands = commands
        self._credentials = credentials

    async def read(self, work: DocumentWork, begun: Begun) -> FileText | None:
        """
        Return the text of a file, which is kept in place of the file; None if it became several documents.

        Raises:
            Failed: the file cannot be read.
            Transient: not now.
        """
        source = begun.source or {}
        found = await self._parsers.parse(
            begun.file or b"", content_type=source.get("content_type"), filename=source.get("filename")
        )
        if isinstance(found, ParseFailed):
            if found.is_transient:
                raise Transient(f"a file cannot be read now: {found.detail}")
            raise Failed(JobError(stage=Stage.PARSE, reason=found.reason, detail=found.detail))
        await self._write_parts(work, begun, found)
        reach(Failpoint.AFTER_PARTS)
        if len(found.parts) > 1:
            await self._journal.became_parts(work, _described(work, found.parts), parser=FILE_PARSER)
            return None
        text = found.parts[0].text
        digest = hashlib.sha256(text.encode()).digest()
        await self._journal.read_file(
            work,
            text,
            digest,
            parser=FILE_PARSER,
            is_markdown=found.is_markdown,
            metadata=_metadata(begun.metadata, found, found.parts[0]),
        )
        return FileText(text, digest, found.is_markdown)

    async def _write_parts(self, work: DocumentWork, begun: Begun, found: Parsed) -> None:
        commands: list[PutDocument | DeleteDocument] = []
        if len(found.parts) > 1:
            commands += [
                self._put(work, begun, found, number, part) for number, part in enumerate(found.parts, start=1)
            ]
        commands += await self._deletions(work, len(found.parts))
        if commands:
            await self._commands.write(DOCUMENT_COMMANDS, [self._record(each) for each in commands])

    def _put(self, work: DocumentWork, begun: Begun, found: Parsed, number: int, part: Part) -> PutDocument:
        metadata = _metadata(begun.metadata, found, part)
        content = {"parent_job": work.job_id, "part": number, "generation": work.generation}
        return PutDocument(
            tenant=work.tenant,
            collection=work.collection,
            document=part_name(work.document, number),
            job_id=part_job_id(work.job_id, number),
            text=part.text,
            is_markdown=found.is_markdown,
            priority=begun.priority,
            max_retries=begun.max_retries,
            skips_bad_chunks=begun.skips_bad,
            metadata=None if metadata is None else msgspec.json.encode(metadata).decode(),
            parent_job=work.job_id,
            content_sha256=content_sha256(content),
        )

    async def _deletions(self, work: DocumentWork, parts: int) -> Sequence[DeleteDocument]:
        numbers = list(range(parts + 1, PARTS_MAX + 1))
        wanted = {
            "tenant": work.tenant,
            "collection": work.collection,
            "names": [part_name(work.document, number) for number in numbers],
            "numbers": numbers,
        }
        async with self._writes.transaction() as (connection, _), connection.cursor() as cursor:
            await cursor.execute(PARTS_BEFORE, wanted)
            before = [int(row[0]) for row in await cursor.fetchall()]
        return [
            DeleteDocument(
                tenant=work.tenant,
                collection=work.collection,
                document=part_name(work.document, number),
                job_id=part_job_id(f"{work.job_id}/without", number),
            )
            for number in before
        ]

    def _record(self, command: PutDocument | DeleteDocument) -> OutgoingRecord:
        return sealed_record(
            DOCUMENT_COMMANDS,
            record_id=record_id(command),
            key=key_of(command),
            tenant=command.tenant,
            value=COMMAND_CODEC.encode(command),
            by=self._credentials,
        )


def part_name(document: str, number: int) -> str:
    """Return the name of a part of a file, from 1."""
    return document if number == 1 else f"{_stem(document)}/{number}"


def _stem(document: str) -> str:
    """Return what the names of a file's parts begin with: its own name, or as much of it as fits, and its digest."""
    if len(document) <= DOCUMENT_CHARACTERS_MAX - _NUMBER_CHARACTERS_MAX:
        return document
    digest = hashlib.sha256(document.encode()).hexdigest()[:_DIGEST_CHARACTERS]
    return document[: DOCUMENT_CHARACTERS_MAX - _NUMBER_CHARACTERS_MAX - _DIGEST_CHARACTERS] + digest


def _described(work: DocumentWork, parts: Sequence[Part]) -> list[dict[str, Any]]:
    return [
        {"document": part_name(work.document, number), "job_id": part_job_id(work.job_id, number), "title": part.title}
        for number, part in enumerate(parts, start=1)
    ]


def _metadata(given: Mapping[str, Any] | None, found: Parsed, part: Part) -> dict[str, Any] | None:
    """Return the metadata of a part: what the file says of itself, and what was sent with it, which counts more."""
    own: dict[str, Any] = dict(found.metadata)
    own |= {
        name: value
        for name, value in (("title", part.title), ("href", part.href), ("page", part.page))
        if value is not None
    }
    both = own | dict(given or {})
    if exceeds(msgspec.json.encode(both).decode(), METADATA_BYTES_MAX):
        both = dict(given or {})
    return both or None
