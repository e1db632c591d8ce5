"""Documents and their jobs as rows of tables, for `tidegate documents`."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

import msgspec

JOB_COLUMNS = ("submitted", "job", "document", "kind", "phase", "embedded", "attempts", "error")
DOCUMENT_COLUMNS = ("book", "chapter", "revision", "chunks", "characters", "stored")
HIT_COLUMNS = ("hit", "document", "score", "vector", "words", "passage")
COLLECTION_COLUMNS = ("book", "embedder", "building", "documents", "chunks", "language")
PASSAGE_CHARACTERS_MAX = 300
VALUE_CHARACTERS_MAX = 300
# In the order of a person's questions; what is empty is left out.
JOB_FIELDS = (
    *("kind", "phase", "embedded", "error", "revision", "lane", "priority", "cost", "queue", "attempts", "max_retries"),
    *("generation", "filename", "content_type", "parts", "parent_job", "submitted_by", "metadata"),
)
DOCUMENT_FIELDS = (
    *("live_revision", "latest_revision", "live_job", "stored_at", "chunks", "characters", "parser", "missing"),
    *("fingerprint", "text_sha256", "metadata"),
)


def name_of(document: Mapping[str, Any] | None) -> str | None:
    """Return the name of a document as one text."""
    return None if document is None else f"{document['book_slug']}/{document['chapter_index']}"


def job_row(job: Mapping[str, Any]) -> tuple[object, ...]:
    """Return a job as a row under `JOB_COLUMNS`."""
    return (
        datetime.fromisoformat(job["times"]["submitted_at"]),
        job["job_id"],
        name_of(job["document"]),
        job["kind"],
        job["phase"],
        _embedded(job["embedded"]),
        job["attempts"],
        error_text(job["error"]),
    )


def job_rows(job: Mapping[str, Any]) -> Iterator[tuple[str, object]]:
    """Yield what is known of a job."""
    if job.get("visible") is False:
        yield "phase", "submitted: it is in the log, and intake has not come to it"
        return
    yield "document", name_of(job["document"])
    for name in JOB_FIELDS:
        if (value := job.get(name)) is not None:
            yield name, _cell(name, value)
    for name, value in job["times"].items():
        if value is not None:
            is_moment = name.endswith("_at")
            words = name.replace("_at", " at").removesuffix("_s")
            yield words, datetime.fromisoformat(value) if is_moment else f"{value:.3f} s"


def document_row(document: Mapping[str, Any]) -> tuple[object, ...]:
    """Return a document as a row under `DOCUMENT_COLUMNS`."""
    named, stored_at = document["document"], document["stored_at"]
    return (
        named["book_slug"],
        named["chapter_index"],
        document["live_revision"],
        document["chunks"],
        document["characters"],
        None if stored_at is None else datetime.fromisoformat(stored_at),
    )


def document_rows(document: Mapping[str, Any]) -> Iterator[tuple[str, object]]:
    """Yield what is known of a document."""
    for name in DOCUMENT_FIELDS:
        if (value := document.get(name)) is not None:
            yield name, _cell(name, value)


def hit_row(place: int, hit: Mapping[str, Any]) -> tuple[object, ...]:
    """Return a hit as a row under `HIT_COLUMNS`."""
    return (
        place,
        name_of(hit["document"]),
        f"{hit['score']:.4f}",
        None if hit["vector"] is None else hit["vector"]["rank"],
        None if hit["words"] is None else hit["words"]["rank"],
        passage_text(hit["text"]),
    )


def collection_row(collection: Mapping[str, Any]) -> tuple[object, ...]:
    """Return a collection as a row under `COLLECTION_COLUMNS`."""
    more = " or more" if collection["is_estimate"] else ""
    return (
        collection["book_slug"],
        collection["embedder_name"],
        _building(collection),
        f"{collection['documents']}{more}",
        f"{collection['chunks']}{more}",
        collection["language"],
    )


def _building(collection: Mapping[str, Any]) -> str | None:
    """Return the next embedder of a collection, and how many documents it failed at; None where there is none."""
    failed = f", {collection['building_failed']} failed" if collection["building_failed"] else ""
    blocked = " (blocked)" if collection["is_blocked"] else ""
    return None if collection["building_name"] is None else f"{collection['building_name']}{failed}{blocked}"


def passage_text(text: str) -> str:
    """Return a passage on one line, cut where it is long."""
    line = " ".join(text.split())
    return line if len(line) <= PASSAGE_CHARACTERS_MAX else f"{line[:PASSAGE_CHARACTERS_MAX]}…"


def error_text(error: Mapping[str, Any] | None) -> str | None:
    """Return a failure in words; None where there is none."""
    if error is None:
        return None
    chunk = "" if error.get("chunk") is None else f", chunk {error['chunk']}"
    detail = f": {error['detail']}" if error.get("detail") else ""
    return f"{error.get('stage') or '?'}{chunk}: {error.get('reason') or '?'}{detail}"


def _embedded(progress: Mapping[str, Any] | None) -> str | None:
    return None if progress is None else f"{progress['done']} of {progress['of']}"


def _cell(name: str, value: Any) -> object:
    if name == "embedded":
        return _embedded(value)
    if name == "error":
        return error_text(value)
    if name == "queue":
        ahead = f"{value['ahead_count']} documents of lane {value['lane']} come before it"
        return f"{ahead}, {value['ahead_s']:.0f} s of work" if "ahead_s" in value else ahead
    if name.endswith("_at"):
        return datetime.fromisoformat(value)
    if isinstance(value, dict | list):
        text = msgspec.json.encode(value).decode()
        return text if len(text) <= VALUE_CHARACTERS_MAX else f"{text[:VALUE_CHARACTERS_MAX]}... (--json has all of it)"
    return value
