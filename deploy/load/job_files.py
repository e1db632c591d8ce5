"""
Submissions of jobs in a file: JSON lines, each a submission, or CSV, each row the parameters of one type.

Each record has an idempotency key made of the file's digest and its number, so that a file that is imported again
doubles nothing.
"""

import csv
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DIGEST_CHARACTERS = 32
FIELD_CHARACTERS_MAX = 1024 * 1024
CHUNK_BYTES = 1024 * 1024
TEXT = "string"


@dataclass(frozen=True, slots=True, kw_only=True)
class FileRecord:
    """One record of a file: a submission, or its fault."""

    number: int  # from 1, without a CSV's head and empty lines
    line: int
    key: str
    submission: Mapping[str, Any] | None = None
    fault: str | None = None


class NotAFile(Exception):
    """The whole file cannot be read as what it should be; says why."""


def read_records(path: Path, *, task_type: str | None, schema: Mapping[str, Any] | None) -> Iterator[FileRecord]:
    """
    Yield the records of a file, CSV by its ending or JSON lines.

    *task_type* and the *schema* of its parameters are those of CSV rows, and the type of lines that name none.

    Raises:
        NotAFile: it is no UTF-8, or a CSV without a head.
    """
    digest = f"{_digest(path)}-{task_type or ''}"
    try:
        if path.suffix.lower() == ".csv":
            yield from _csv_records(path, digest, task_type, schema or {})
        else:
            yield from _json_records(path, digest, task_type)
    except UnicodeDecodeError as error:
        raise NotAFile(f"{path} is no UTF-8: {error.reason} at byte {error.start}") from error


def _digest(path: Path) -> str:
    whole = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            whole.update(chunk)
    return whole.hexdigest()[:DIGEST_CHARACTERS]


def _key(digest: str, number: int) -> str:
    return f"import-{digest}-{number}"


def _json_records(path: Path, digest: str, task_type: str | None) -> Iterator[FileRecord]:
    number = 0
    with path.open(encoding="utf-8-sig") as file:
        for line, text in enumerate(file, 1):
            if not text.strip():
                continue
            number += 1
            key = _key(digest, number)
            try:
                found = json.loads(text)
            except (ValueError, RecursionError) as error:
                yield FileRecord(number=number, line=line, key=key, fault=f"no JSON: {error}")
                continue
            if not isinstance(found, dict):
                yield FileRecord(number=number, line=line, key=key, fault="no JSON object")
                continue
            named = found if task_type is None or {"type", "task_type"} & found.keys() else {"type": task_type, **found}
            yield FileRecord(number=number, line=line, key=key, submission=named)


def _csv_records(path: Path, digest: str, task_type: str | None, schema: Mapping[str, Any]) -> Iterator[FileRecord]:
    csv.field_size_limit(FIELD_CHARACTERS_MAX)
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = csv.reader(file, strict=True)
        try:
            head = next(rows, None)
        except csv.Error as error:
            raise NotAFile(f"{path} is no CSV: {error}") from error
        if not head:
            raise NotAFile(f"{path} is empty: its first line must name the parameters")
        if len(set(head)) != len(head):
            raise NotAFile(f"{path} names a parameter twice in its first line")
        number = 0
        while True:
            try:
                row = next(rows, None)
            except csv.Error as error:  # where the next row would begin is not known
                yield FileRecord(number=number + 1, line=rows.line_num, key="", fault=f"no CSV: {error}")
                return
            if row is None:
                return
            if not row:
                continue
            number += 1
            key = _key(digest, number)
            if len(row) != len(head):
                fault = f"{len(row)} fields, and the first line names {len(head)}"
                yield FileRecord(number=number, line=rows.line_num, key=key, fault=fault)
                continue
            parameters = {name: _value(cell, schema, name) for name, cell in zip(head, row, strict=True) if cell != ""}
            submission = {"type": task_type, "parameters": parameters}
            yield FileRecord(number=number, line=rows.line_num, key=key, submission=submission)


def _value(cell: str, schema: Mapping[str, Any], name: str) -> object:
    """Return a cell as the schema of its parameter has it: a text, unless that admits none."""
    if _takes_text(schema, schema.get("properties", {}).get(name, {})):
        return cell
    try:
        return json.loads(cell)
    except (ValueError, RecursionError):
        return cell  # which the gateway refuses, with what it expects


def _takes_text(schema: Mapping[str, Any], declared: Mapping[str, Any]) -> bool:
    if reference := declared.get("$ref"):
        declared = schema.get("$defs", {}).get(str(reference).rpartition("/")[2], {})
    for each in (*declared.get("anyOf", ()), *declared.get("oneOf", ())):
        if _takes_text(schema, each):
            return True
    if "anyOf" in declared or "oneOf" in declared:
        return False
    if "enum" in declared:
        return any(isinstance(each, str) for each in declared["enum"])
    kinds = declared.get("type", TEXT)
    return TEXT in (kinds if isinstance(kinds, list) else [kinds])
