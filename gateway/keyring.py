"""The credentials in force, with an alarm when the file on disk is not."""

import time
from collections.abc import Callable

import structlog

from schemas.credentials import Credentials, CredentialsFile

log = structlog.get_logger()


class KeyRing:
    """Follows the credentials file; tells once of each state of it that cannot be used."""

    def __init__(self, file: CredentialsFile, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        """Follow *file*."""
        self._monotonic = monotonic
        self._file = file
        self._told: str | None = None

    def current(self) -> Credentials:
        """The credentials in force."""
        credentials = self._file.current(now_s=self._monotonic())
        if self._file.problem != self._told:
            self._told = self._file.problem
            if self._told is None:
                log.info("the credentials file is in force again")
            else:
                log.error("the credentials file cannot be used; the last good one stays in force", why=self._told)
        return credentials
