"""
Documents beside LlamaIndex's ingestion pipeline: chunks a second, runs over what is there already, and kill -9.

`make bench BENCH_ONLY=document_peer`. It installs the peer in build/document-peers. Both embed by the same session,
cut chunks of the same length and store in one Postgres server. Each is killed at half of a run, of a first one and of
one in which every chapter is edited, and started once more; what is in its table is compared with what should be.
"""

import json
import os
import signal
import subprocess
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from itertools import count
from pathlib import Path
from statistics import median
from time import perf_counter, time
from typing import Any, Protocol

import msgspec
import psycopg

from processors.documents.chunking import chunks_of
from processors.documents.versions import RULES
from schemas.documents.embedding.minilm import MiniLmEmbedder
from tests.bench.celery_peer import installed
from tests.bench.document_stack import (
    PROCESSES,
    WITHIN_S,
    DocumentStack,
    Stored,
    Text,
    document_stack,
    marked_chapters,
    puts_of,
)
from tests.support.stack import wait_until

Alternate = Callable[..., dict[str, list[Any]]]
Chunks = Mapping[str, Counter[str]]
"""The texts of the chunks of each document, and how often each is there."""

FOLDER = Path("build/document-peers")
REQUIREMENTS = Path(__file__).parent / "peers/documents.txt"
PROGRAM = Path(__file__).parent / "peers/llama_documents.py"
KILLS = int(os.environ.get("BENCH_KILLS", "1"))  # of each system and kind of run
DATABASE = "peer"
PEER_CHUNKS = "SELECT metadata_->>'ref_doc_id' AS document, text FROM data_chunks"
CHANGED = "Nothing of the kind had ever been seen before."


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """The documents in a table, compared with the versions that each may have."""

    new: int  # whole, of the version that was being stored
    old: int  # whole, of the version before
    missing: int  # no chunk of any
    half: int  # some chunks, or chunks of two versions
    doubled: int  # some chunk more often than any version has it


def compare(found: Chunks, *, new: Chunks, old: Chunks) -> Outcome:
    """Return what *found* is, document by document."""
    outcomes: Counter[str] = Counter()
    for document, wanted in new.items():
        had, before = found.get(document, Counter()), old.get(document, Counter())
        if not had:
            outcomes["missing"] += 1
        elif had == wanted:
            outcomes["new"] += 1
        elif had == before:
            outcomes["old"] += 1
        elif had - (wanted | before):
            outcomes["doubled"] += 1
        else:
            outcomes["half"] += 1
    return Outcome(**{name: outcomes[name] for name in Outcome.__struct_fields__})


class System(Protocol):
    """One of the two, as this comparison uses it."""

    def take(self, texts: Sequence[Text]) -> Stored:
        """Store *texts*, and wait until that is done."""

    def expected(self, texts: Sequence[Text]) -> Chunks:
        """Return the chunks that *texts* come to."""

    def found(self, texts: Sequence[Text]) -> Chunks:
        """Return the chunks that are in the table for the documents of *texts*."""

    def kill(self, texts: Sequence[Text]) -> Callable[[], None]:
        """Begin to store *texts*, kill it half-way, and return how to start it once more and wait for the end."""


class Tidegate:
    """Tidegate on the stack; its supervisor starts again what was killed."""

    def __init__(self, stack: DocumentStack) -> None:
        self._stack = stack
        self._embedder = MiniLmEmbedder(Path(stack.jar), threads=1)

    def take(self, texts: Sequence[Text]) -> Stored:
        """See `System`."""
        return self._stack.take(texts)

    def expected(self, texts: Sequence[Text]) -> Chunks:
        """See `System`."""
        return {
            _name(each): Counter(
                each.text[chunk.start : chunk.end]
                for chunk in chunks_of(each.text, tokens=self._embedder.tokens, rules=RULES, is_markdown=False)
            )
            for each in texts
        }

    def found(self, texts: Sequence[Text]) -> Chunks:
        """See `System`."""
        rows = self._stack.rows(
            f"SELECT collection || '/' || document AS document, text FROM {self._stack.chunk_table} "
            "WHERE collection = ANY(%s)",
            list({each.collection for each in texts}),
        )
        return _counted(rows)

    def kill(self, texts: Sequence[Text]) -> Callable[[], None]:
        """See `System`: all three processes at once, when half of the documents are stored."""
        puts = puts_of(texts)
        ended, began_s = self._stack.ended(), time()
        self._stack.submit(puts)
        half = ended + len(puts) // 2
        wait_until(lambda: self._stack.ended() >= half, timeout_s=WITHIN_S, what="half of the documents to be stored")
        for name in PROCESSES:
            self._stack.stack.kill(name, signal.SIGKILL)

        def go_on() -> None:
            self._stack.wait_ended(ended + len(puts))
            self._stack.outcome(puts, began_s)

        return go_on


class LlamaIndex:
    """The peer, in a database of its own on the stack's Postgres; *at_once* documents in a call, 0: all."""

    def __init__(self, stack: DocumentStack, python: Path, *, at_once: int) -> None:
        self._stack = stack
        self._python = python
        self._at_once = at_once
        self._file = stack.stack.folder / "peer-texts.json"
        self._postgres = stack.dsn.rpartition("/")[0] + f"/{DATABASE}"
        self.versions: dict[str, str] = {}

    def take(self, texts: Sequence[Text]) -> Stored:
        """See `System`: the time does not count the start of its process."""
        answer = self._answer("run", texts, str(self._at_once))
        self.versions = answer["versions"]
        chunks = int(answer["chunks"])
        return Stored(
            seconds=answer["seconds"],
            documents=len(texts),
            chunks=chunks,
            computed=chunks,
            phases={},
            cpu_s=answer["cpu_s"],
            rss_mib=answer["rss_mib"],
        )

    def expected(self, texts: Sequence[Text]) -> Chunks:
        """See `System`."""
        return {name: Counter(chunks) for name, chunks in self._answer("expect", texts).items()}

    def found(self, texts: Sequence[Text]) -> Chunks:
        """See `System`."""
        wanted = {_name(each) for each in texts}
        with psycopg.connect(self._postgres) as session:
            rows = session.execute(PEER_CHUNKS.encode()).fetchall()
        return _counted({"document": name, "text": text} for name, text in rows if name in wanted)

    def kill(self, texts: Sequence[Text]) -> Callable[[], None]:
        """See `System`: when half of the chunks are embedded."""
        chunks = sum(each.total() for each in self.expected(texts).values())
        process = self._start("run", texts, str(self._at_once), str(chunks // 2))
        assert process.stdout is not None
        assert process.stdout.readline().strip() == "embedded"
        process.kill()
        process.communicate()

        def go_on() -> None:
            self.take(texts)

        return go_on

    def _answer(self, command: str, texts: Sequence[Text], *arguments: str) -> dict[str, Any]:
        out, _ = self._start(command, texts, *arguments).communicate(timeout=WITHIN_S)
        return dict(json.loads(out.splitlines()[-1]))

    def _start(self, command: str, texts: Sequence[Text], *arguments: str) -> "subprocess.Popen[str]":
        self._file.write_bytes(msgspec.json.encode(texts))
        environ = {
            **os.environ,
            "PEER_POSTGRES": self._postgres,
            "PEER_JAR": self._stack.jar,
            "PYTHONPATH": str(Path.cwd()),
        }
        arguments = (str(self._python), str(PROGRAM), command, str(self._file), *arguments)
        return subprocess.Popen(arguments, env=environ, stdout=subprocess.PIPE, text=True)


def measure(alternate: Alternate) -> dict[str, Any]:
    """Return what both store a second, what later runs take, and what kill -9 leaves behind."""
    python = installed(FOLDER, REQUIREMENTS)
    with document_stack("minilm") as stack:
        stack.rows(f"CREATE DATABASE {DATABASE}")
        peer = LlamaIndex(stack, python, at_once=0)
        one_by_one = LlamaIndex(stack, python, at_once=1)
        tidegate = Tidegate(stack)
        systems: dict[str, System] = {"peer": peer, "peer_one_by_one": one_by_one, "tidegate": tidegate}
        tidegate.take(marked_chapters("before", limit=2))
        letters = dict(zip(systems, "abc", strict=True))  # marks of one length: all have as much to embed
        numbers = {name: count(1) for name in systems}

        def first(name: str) -> Stored:
            return systems[name].take(marked_chapters(f"{letters[name]}-{next(numbers[name])}"))

        rounds = alternate(**{name: partial(first, name) for name in systems})
        again = alternate(**{name: partial(_again, system, letters[name]) for name, system in systems.items()})
        edits = count(1)
        changed = alternate(
            **{name: partial(_changed, system, letters[name], edits) for name, system in systems.items()}
        )
        killed = {
            f"{name}_{kind}": [
                _killed(system, f"{letters[name]}-{kind}-{number}", is_edit=kind == "edit") for number in range(KILLS)
            ]
            for name, system in systems.items()
            for kind in ("first", "edit")
        }
    per_s = {name: median(each.chunks_per_s for each in taken) for name, taken in rounds.items()}
    documents_per_s = {name: median(each.documents_per_s for each in taken) for name, taken in rounds.items()}
    return {
        "baseline": "LlamaIndex's IngestionPipeline, pgvector store and document store in Postgres, strategy upserts",
        "versions": peer.versions,
        "conditions": "other texts each round; one thread embeds; Tidegate's processes idle beside the peer",
        "systems": {
            "peer": "one call of the pipeline for all documents; its start does not count",
            "peer_one_by_one": "a call for each document",
            "tidegate": "commands in the log, three processes",
        },
        "chunks_per_s": per_s,
        "rounds": {name: [asdict(each) for each in taken] for name, taken in rounds.items()},
        "documents_per_s": documents_per_s,
        "ratio": per_s["tidegate"] / per_s["peer"],
        "ratio_documents": documents_per_s["tidegate"] / documents_per_s["peer"],
        "cpu_s_per_1000_chunks": {
            name: median(each.cpu_s_per_1000_chunks for each in taken) for name, taken in rounds.items()
        },
        "rss_mib": {name: max(each.rss_mib for each in taken) for name, taken in rounds.items()},
        "again_s": {name: median(each.seconds for each in taken) for name, taken in again.items()},
        "changed_paragraph_s": {name: median(each.seconds for each in taken) for name, taken in changed.items()},
        "killed": killed,
    }


def _again(system: System, letter: str) -> Stored:
    """Store once more what the first round stored: nothing is new."""
    return system.take(marked_chapters(f"{letter}-1"))


def _changed(system: System, letter: str, edits: Iterator[int]) -> Stored:
    """Store what the first round stored, all of it, but for a new sentence in a paragraph of the first chapter."""
    first, *others = marked_chapters(f"{letter}-1")
    paragraphs = first.text.split("\n\n")
    paragraphs[len(paragraphs) // 2] += f" {CHANGED} {next(edits)}"
    return system.take([Text(first.collection, first.document, "\n\n".join(paragraphs)), *others])


def _killed(system: System, collection: str, *, is_edit: bool) -> dict[str, Any]:
    """Return what kill -9 leaves behind, and what is there after one more start."""
    before = marked_chapters(f"old-{collection}", collection=collection) if is_edit else []
    if before:
        system.take(before)
    texts = marked_chapters(f"new-{collection}", collection=collection)
    new, old = system.expected(texts), system.expected(before) if before else {}
    go_on = system.kill(texts)
    began_s = perf_counter()
    killed = compare(system.found(texts), new=new, old=old)
    go_on()
    return {
        "when_killed": msgspec.structs.asdict(killed),
        "from_then_to_the_end_s": perf_counter() - began_s,
        "in_the_end": msgspec.structs.asdict(compare(system.found(texts), new=new, old=old)),
    }


def _name(text: Text) -> str:
    return f"{text.collection}/{text.document}"


def _counted(rows: Iterable[Mapping[str, Any]]) -> Chunks:
    found: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for row in rows:
        found[row["document"]][row["text"]] += 1
    return found
