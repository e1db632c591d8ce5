"""The setting that says which topics are archived."""

from dataclasses import dataclass

from schemas.archive.topics import ARCHIVABLE, ARCHIVE
from schemas.kafka.topics import Group
from schemas.process.settings import SettingsInvalid, entries_of, setting


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchivedTopicsSettings:
    """The topics of a deployment that are archived."""

    topics: str = setting("TIDEGATE_ARCHIVE_TOPICS", "", help="Topics that are archived, comma separated")


def archive_groups(settings: ArchivedTopicsSettings) -> tuple[Group, ...]:
    """
    Return the group of each topic that is archived.

    Raises:
        SettingsInvalid: one of them cannot be archived.
    """
    names = dict.fromkeys(entries_of(settings.topics))
    known = {topic.name for topic in ARCHIVABLE}
    if wrong := [name for name in names if name not in known]:
        raise SettingsInvalid(
            f"TIDEGATE_ARCHIVE_TOPICS: {', '.join(wrong)} cannot be archived; use some of {', '.join(sorted(known))}"
        )
    return tuple(ARCHIVE.group(name) for name in names)
