"""The line by which DuckDB reads archived objects as a table."""

from collections.abc import Iterable

from schemas.archive.lines import COLUMNS
from schemas.archive.names import ObjectName
from schemas.kafka.topics import RECORD_BYTES_MAX

# Of a line: each byte of the value may take six characters (\u0000), and the record is there once more.
LINE_BYTES_MAX = 8 * RECORD_BYTES_MAX


def read_json(location: str, names: Iterable[ObjectName]) -> str:
    """Return a query over the objects *names* in object storage at *location*."""
    listed = ", ".join(_quoted(f"{location.rstrip('/')}/{name.key}") for name in names)
    columns = ", ".join(f"{_quoted(name)}: {_quoted(kind)}" for name, kind in COLUMNS.items())
    return (
        f"SELECT * FROM read_json([{listed}], format = 'newline_delimited', compression = 'zstd', "  # noqa: S608  a query that is printed
        f"maximum_object_size = {LINE_BYTES_MAX}, columns = {{{columns}}})"
    )


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
