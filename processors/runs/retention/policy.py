"""
The retention file: how long what is kept, by tenant.

    [retention]                    # of every tenant; what is not said here is kept for ever
    events_days = 365              # a run loses its events so long after its last update
    rejected_days = 90             # a record that broke a rule goes so long after it was stored
    orphans = true                 # objects that nothing refers to go, after 24 hours

    [retention.tenants.demo]       # what differs
    events_days = 30
    rejected_days = "never"

Why a file of its own beside the other limits: what deletes data is not to change because something else was edited.
"""

import tomllib
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from time import monotonic
from typing import Annotated, Literal

import msgspec

from processors.runtime.errors import Transient
from schemas.access.credentials import Name
from schemas.process.file_writing import read_failure
from schemas.process.settings import SettingsInvalid
from schemas.process.watched import WatchedFile

Days = Annotated[float, msgspec.Meta(gt=0, le=36_500)]
Age = Days | Literal["never"]


class TenantPolicy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The settings of one tenant that differ from the general ones; None: no difference."""

    events_days: Age | None = None
    rejected_days: Age | None = None
    orphans: bool | None = None


class Retention(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The section `retention`; without it nothing is removed."""

    events_days: Age = "never"
    rejected_days: Age = "never"
    orphans: bool = False
    tenants: Mapping[Name, TenantPolicy] = {}

    def events_cutoff(self, tenant: str, *, now: datetime) -> datetime | None:
        """Return the moment up to which runs of *tenant*, last updated then, lose their events; None: none does."""
        own = self._own(tenant).events_days
        return _cutoff(self.events_days if own is None else own, now)

    def rejected_cutoff(self, tenant: str, *, now: datetime) -> datetime | None:
        """Return the cutoff: rejected records of *tenant* that were stored before it are deleted; None: none are."""
        own = self._own(tenant).rejected_days
        return _cutoff(self.rejected_days if own is None else own, now)

    def collects_objects(self, tenant: str) -> bool:
        """Return True if unreferenced objects of *tenant* are deleted: orphans, and those of removed events."""
        own = self._own(tenant)
        orphans = self.orphans if own.orphans is None else own.orphans
        return orphans or (self.events_days if own.events_days is None else own.events_days) != "never"

    @property
    def is_off(self) -> bool:
        """Return True if nothing is removed for any tenant."""
        named = ("", *self.tenants)
        return not any(
            self.collects_objects(each)
            or (self.rejected_days if (own := self._own(each).rejected_days) is None else own) != "never"
            for each in named
        )

    def _own(self, tenant: str) -> TenantPolicy:
        return self.tenants.get(tenant, _AS_FOR_ALL)


class _File(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    retention: Retention = Retention()


_AS_FOR_ALL = TenantPolicy()


def parse_retention(text: str) -> Retention:
    """
    Read the file's text.

    Raises:
        ValueError: no TOML, an unknown field, or a value of the wrong kind; says which.
    """
    return msgspec.convert(tomllib.loads(text), _File).retention


def _cutoff(age: Age, now: datetime) -> datetime | None:
    return None if isinstance(age, str) else now - timedelta(days=age)


def watched_retention(path: Path | None) -> Callable[[], Retention]:
    """
    Return what the file at *path* says, each time it is asked for; without a file nothing is removed.

    Asking raises Transient while the newest file cannot be used: what deletes does not go by one that was replaced.

    Raises:
        SettingsInvalid: it is missing or cannot be used.
    """
    if path is None:
        return Retention
    try:
        watched = WatchedFile(path, parse_retention)
    except (OSError, ValueError) as error:
        raise SettingsInvalid(f"TIDEGATE_RETENTION: {read_failure(path, error)}") from error

    def current() -> Retention:
        retention = watched.current(now_s=monotonic())
        if watched.problem is not None:
            raise Transient(f"{path} cannot be used: {watched.problem}")
        return retention

    return current
