"""
Schema ids, fixed in the repository: `registry.json` lists every released version in the order of its ids.

An id is written into each record and never changes its meaning. To change a record: edit its .avsc,
run `tidegate schemas check`, append the new version to `registry.json` under the next id.
Subjects follow TopicRecordNameStrategy: `<topic>-<full record name>`.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).parents[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleasedSchema:
    """One released version of one record's schema."""

    id: int
    subject: str
    version: int
    schema: Mapping[str, object]

    @property
    def record_name(self) -> str:
        """Return the record's full Avro name."""
        return f"{self.schema['namespace']}.{self.schema['name']}"


@cache
def released() -> tuple[ReleasedSchema, ...]:
    """Return every version ever released, by id; the file is read once."""
    return tuple(ReleasedSchema(**entry) for entry in json.loads((FOLDER / "registry.json").read_text()))


def working() -> dict[str, Mapping[str, object]]:
    """Return the schemas as the .avsc files have them now, by full record name."""
    schemas = [json.loads(path.read_text()) for path in sorted((FOLDER / "avsc").glob("*.avsc"))]
    return {f"{schema['namespace']}.{schema['name']}": schema for schema in schemas}


def last_released() -> dict[str, ReleasedSchema]:
    """Return the newest version of each record, by full record name."""
    return {entry.record_name: entry for entry in released()}
