"""Documents under faults: a book whose commands are kept account of, and what must be there of it in the end."""

import asyncio
import random
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from secrets import token_hex
from time import monotonic
from typing import Any

import psycopg
from psycopg.rows import dict_row

from processors.runtime.dead_letters import LogWriter
from processors.runtime.errors import Transient
from processors.runtime.sealing import sealed_record
from schemas.access.credentials import CredentialsFile, FileCredentials
from schemas.documents.codec import CHANGE_CODEC, COMMAND_CODEC
from schemas.documents.embedding.hashing import HashingEmbedder
from schemas.documents.records import Command, DeleteDocument, PutDocument, key_of, record_id
from schemas.documents.states import ENDS, Phase
from schemas.documents.topics import DOCUMENT_COMMANDS, DOCUMENT_EVENTS
from tests.support.log import read_topic
from tests.support.pipeline import deletion, put
from tests.support.stack import RunningStack, wait_until

DOCUMENTS, EDITS, DELETES = 200, 20, 10
WAVE = 5  # commands that are sent together
WAVE_PAUSE_S = 0.1
SENT_WITHIN_S = 120.0
ENDED_WITHIN_S = 180.0
HASH = HashingEmbedder.id
KEPT = (Phase.FAILED, Phase.CANCELLED)  # whose texts stay, so that they can be tried again

Rows = Callable[..., list[dict[str, Any]]]


class Book:
    """A collection, the commands that were given for it, and the texts that must be live in the end."""

    def __init__(self) -> None:
        """Begin with a name that no other test uses."""
        self.collection = f"book-{token_hex(6)}"
        self.commands: list[PutDocument | DeleteDocument] = []
        self.live: dict[str, str] = {}
        self.failures: dict[str, str] = {}  # reasons, by job

    def put(
        self, document: str, text: str | None, *, becomes: str | None = None, fails: str | None = None, **fields: Any
    ) -> PutDocument:
        """Return a Put of *text*, or of a source that *becomes* a text, or that *fails* for a reason."""
        command = put(document, text, collection=self.collection, **fields)
        self.commands.append(command)
        if fails is None:
            self.live[document] = becomes or text or ""
        else:
            self.failures[command.job_id] = fails
        return command

    def delete(self, document: str) -> DeleteDocument:
        """Return a Delete."""
        command = deletion(document, collection=self.collection)
        self.commands.append(command)
        self.live.pop(document, None)
        return command

    def history(self, seed: int = 0) -> Iterator[PutDocument | DeleteDocument]:
        """Yield the commands of 200 documents, of which 20 are edited and 10 deleted soon after they came."""
        chance = random.Random(seed)
        changed = chance.sample(range(DOCUMENTS), EDITS + DELETES)
        due: defaultdict[int, list[int]] = defaultdict(list)
        for number in changed:
            due[min(DOCUMENTS - 1, number + chance.randint(0, 40))].append(number)
        for number in range(DOCUMENTS):
            yield self.put(str(number), text_of(number, 1), priority=chance.randint(1, 10))
            for other in due[number]:
                if other in changed[:EDITS]:
                    yield self.put(str(other), text_of(other, 2), priority=chance.randint(1, 10))
                else:
                    yield self.delete(str(other))


def text_of(number: int, version: int) -> str:
    """Return a text of one to four chunks: one that is its version's own, and equal ones."""
    words = (f"chapter{number}version{version}", "same", "same", f"chapter{number}")
    return paragraphs(*words[: 1 + number % 4])


def paragraphs(*words: str) -> str:
    """Return a text with about a chunk for each of *words*."""
    return "\n\n".join(f"{word} " * 140 for word in words).rstrip()


# Sending


class Sender:
    """A writer of commands to the log as a gateway does, which writes them again while the log takes none."""

    def __init__(self, stack: RunningStack) -> None:
        """Connect in the background."""
        self._credentials = FileCredentials(CredentialsFile(stack.folder / "credentials.toml"))
        self._writer = LogWriter(stack.kafka, client_id="test")

    async def send(self, commands: Sequence[Command]) -> None:
        """Write *commands*; on return the log has each, some perhaps twice."""
        records = [
            sealed_record(
                DOCUMENT_COMMANDS,
                record_id=record_id(each),
                key=key_of(each),
                tenant=each.tenant,
                value=COMMAND_CODEC.encode(each),
                by=self._credentials,
            )
            for each in commands
        ]
        until_s = monotonic() + SENT_WITHIN_S
        while True:
            try:
                await self._writer.write(DOCUMENT_COMMANDS, records)
            except Transient:
                assert monotonic() < until_s, "the log takes no commands"
            else:
                return


def send(stack: RunningStack, commands: Sequence[Command]) -> None:
    """Write *commands* to the log."""
    asyncio.run(Sender(stack).send(commands))


class Submission:
    """The commands of a book on their way, wave by wave."""

    def __init__(self) -> None:
        self.sent = 0
        self.failure: BaseException | None = None

    def wait_for(self, commands: int) -> None:
        """Wait until so many commands were sent."""
        wait_until(
            lambda: self.sent >= commands or self.failure is not None,
            timeout_s=SENT_WITHIN_S,
            what=f"{commands} commands to be sent",
        )
        assert self.failure is None, self.failure


@contextmanager
def submitting(stack: RunningStack, commands: Iterator[Command]) -> Iterator[Submission]:
    """Send *commands* in waves meanwhile; all are sent in the end."""
    submission = Submission()

    async def send_all() -> None:
        sender = Sender(stack)
        while wave := list(islice(commands, WAVE)):
            await sender.send(wave)
            submission.sent += len(wave)
            await asyncio.sleep(WAVE_PAUSE_S)

    def run() -> None:
        try:
            asyncio.run(send_all())
        except BaseException as error:  # noqa: BLE001  # raised again where the test waits
            submission.failure = error

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield submission
    finally:
        thread.join()
    assert submission.failure is None, submission.failure


# Checking


def rows_of(stack: RunningStack) -> Rows:
    """Return a function that reads the rows of a statement."""

    def rows(statement: str, *values: object) -> list[dict[str, Any]]:
        with psycopg.connect(stack.addresses.postgres, autocommit=True, row_factory=dict_row) as session:
            done = session.execute(statement.encode(), values or None)
            return done.fetchall() if done.description else []

    return rows


def jobs_of(rows: Rows, book: Book) -> dict[str, dict[str, Any]]:
    """Return the rows of a book's jobs, by id."""
    found = rows("SELECT * FROM document_jobs WHERE collection = %s", book.collection)
    return {str(row["job_id"]): row for row in found}


def wait_ended(rows: Rows, book: Book) -> None:
    """Wait until every job of a book has ended."""

    def has_ended() -> bool:
        jobs = jobs_of(rows, book)
        return all(each.job_id in jobs for each in book.commands) and all(row["ended_at"] for row in jobs.values())

    try:
        wait_until(has_ended, timeout_s=ENDED_WITHIN_S, what="every job to end")
    except AssertionError as error:
        jobs = jobs_of(rows, book)
        absent = [each.job_id for each in book.commands if each.job_id not in jobs]
        left = [row for row in jobs.values() if not row["ended_at"]]
        raise AssertionError(f"{error}; absent: {len(absent)}; not ended: {len(left)}, such as {left[:2]}") from None


def check(stack: RunningStack, book: Book, *, embedder: str = HASH) -> None:
    """Wait until every job of a book has ended, and check that all is there, nothing else, and reported once."""
    rows = rows_of(stack)
    wait_ended(rows, book)
    found = faults(rows, book, embedder=embedder)
    assert not found, found
    wait_until(
        lambda: not rows("SELECT FROM document_changes LIMIT 1"), timeout_s=60, what="every change to be published"
    )
    check_events(stack, jobs_of(rows, book))


def faults(rows: Rows, book: Book, *, embedder: str = HASH) -> list[str]:
    """Return what is not as it must be, once nothing of a book is on its way."""
    jobs = jobs_of(rows, book)
    return [
        *_faults_of_chunks(rows, book, embedder),
        *_faults_of_jobs(jobs, book),
        *_faults_of_texts(rows, book, jobs),
        *_faults_of_totals(rows),
    ]


def _faults_of_chunks(rows: Rows, book: Book, embedder: str) -> Iterator[str]:
    for known in rows("SELECT embedder, chunks FROM document_embedders"):
        found: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
        statement = (
            f"SELECT document, ordinal, start_at, end_at, text FROM {known['chunks']} "
            "WHERE collection = %s ORDER BY document, ordinal"
        )
        for row in rows(statement, book.collection):
            found[row["document"]].append(row)
        live = book.live if known["embedder"] == embedder else {}
        yield from (f"{each} is not live" for each in live.keys() - found.keys())
        yield from (f"{each} has chunks and is not live" for each in found.keys() - live.keys())
        for document in live.keys() & found.keys():
            if (fault := _fault_of_chunks(found[document], live[document])) is not None:
                yield f"{document}: {fault}"


def _fault_of_chunks(chunks: Sequence[dict[str, Any]], text: str) -> str | None:
    """Return why *chunks* are not those of *text*, whole; None if they are."""
    if [row["ordinal"] for row in chunks] != list(range(len(chunks))):
        return f"its chunks are numbered {[row['ordinal'] for row in chunks]}"
    end = 0
    for row in chunks:
        if row["text"] != text[row["start_at"] : row["end_at"]]:
            return f"chunk {row['ordinal']} is of another version: {row['text'][:40]!r}"
        if text[end : row["start_at"]].strip():
            return f"nothing has {text[end : row['start_at']][:40]!r}"
        end = max(end, row["end_at"])
    return f"nothing has {text[end:][:40]!r}" if text[end:].strip() else None


def _faults_of_jobs(jobs: dict[str, dict[str, Any]], book: Book) -> Iterator[str]:
    for command in book.commands:
        if command.job_id not in jobs:
            yield f"{command.job_id} is lost"
    for job_id, row in jobs.items():
        reason = None if row["error"] is None else row["error"]["reason"]
        if row["phase"] not in ENDS or row["ended_at"] is None:
            yield f"job of {row['document']} is {row['phase']}"
        elif reason != book.failures.get(job_id) or (reason is not None) != (row["phase"] == Phase.FAILED):
            yield f"job of {row['document']} is {row['phase']}: {row['error']}"


def _faults_of_texts(rows: Rows, book: Book, jobs: dict[str, dict[str, Any]]) -> Iterator[str]:
    documents = rows("SELECT document, live_job, live_revision FROM documents WHERE collection = %s", book.collection)
    live = {str(row["live_job"]): row["document"] for row in documents if row["live_job"] is not None}
    if set(live.values()) != book.live.keys():
        yield f"documents are live that are not: {set(live.values()) ^ book.live.keys()}"
    texts = {
        str(row["job_id"]): row["text"]
        for row in rows("SELECT * FROM document_texts WHERE job_id = ANY(%s::uuid[])", list(jobs))
    }
    kept = {job_id for job_id, row in jobs.items() if row["phase"] in KEPT}
    if left := texts.keys() - live.keys() - kept:
        yield f"texts are kept of {[(jobs[each]['phase'], jobs[each]['document']) for each in left]}"
    yield from (
        f"{document} has not its own text"
        for job_id, document in live.items()
        if texts.get(job_id) != book.live.get(document)
    )


def _faults_of_totals(rows: Rows) -> Iterator[str]:
    counted = {
        row["outcome"]: int(row["count"])
        for row in rows("SELECT outcome, sum(count) AS count FROM document_totals GROUP BY outcome")
        if row["count"]
    }
    there = {
        row["phase"]: row["count"]
        for row in rows("SELECT phase, count(*) FROM document_jobs WHERE ended_at IS NOT NULL GROUP BY phase")
    }
    submitted = counted.pop("submitted", 0)
    [jobs] = rows("SELECT count(*) FROM document_jobs")
    if counted != there or submitted != jobs["count"]:
        yield f"totals are {counted} of {submitted}, and jobs {there} of {jobs['count']}"


def check_events(stack: RunningStack, jobs: dict[str, dict[str, Any]]) -> None:
    """Check that document.events has one end of each job, which is its newest change."""
    ended: Counter[str] = Counter()
    newest: dict[str, tuple[int, str]] = {}
    seen: set[tuple[str, int]] = set()
    for record in read_topic(stack, DOCUMENT_EVENTS):
        changed = CHANGE_CODEC.decode(record.value())
        if changed.job_id not in jobs or (changed.job_id, changed.version) in seen:
            continue
        seen.add((changed.job_id, changed.version))
        ended[changed.job_id] += changed.phase in ENDS
        newest[changed.job_id] = max(newest.get(changed.job_id, (0, "")), (changed.version, str(changed.phase)))
    several = {job_id: count for job_id, count in ended.items() if count != 1}
    assert not several, several
    states = {job_id: (row["version"], row["phase"]) for job_id, row in jobs.items()}
    assert newest == states, set(newest.items()) ^ set(states.items())
