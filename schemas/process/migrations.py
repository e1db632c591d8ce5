"""The tables' versions: `sql/NNNN_slug.sql`, applied in order by `tidegate migrate`, each in one transaction."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parents[1] / "sql"

# What each process reads at its start; it does not start on tables of another version.
APPLIED_VERSION = "SELECT max(version) FROM schema_migrations"


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """One step of the tables' history."""

    version: int
    slug: str
    sql: str

    @property
    def sha256(self) -> str:
        """Return the hex digest of the text: an applied step must never change."""
        return hashlib.sha256(self.sql.encode()).hexdigest()


def migrations() -> tuple[Migration, ...]:
    """Return every step, oldest first."""
    return tuple(
        Migration(version=int(path.name[:4]), slug=path.stem[5:], sql=path.read_text())
        for path in sorted(FOLDER.glob("[0-9][0-9][0-9][0-9]_*.sql"))
    )


def newest_version() -> int:
    """Return the version that this code reads and writes."""
    return migrations()[-1].version
