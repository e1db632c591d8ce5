"""The keys of issuers whose JWK Set, or public key in PEM, is in a file: read again when it changes."""

from collections.abc import Callable
from pathlib import Path
from time import monotonic

import structlog

from gateway.errors import KeysUnavailable
from schemas.access import jwt
from schemas.access.issuers import Issuer
from schemas.access.jwt import Keys
from schemas.process.file_writing import read_failure
from schemas.process.watched import WatchedFile

log = structlog.get_logger()


class FileKeys:
    """The keys of one issuer in a file; one that cannot be used leaves the last good keys in force."""

    def __init__(self, name: str, issuer: Issuer, *, changed: Callable[[], None]) -> None:
        """Read the file; *changed* is called when it has other keys than before."""
        self._name = name
        self._issuer = issuer
        self._path = Path(issuer.jwks_file or "")
        self._changed = changed
        self._file: WatchedFile[Keys] | None = None
        self._keys: Keys | None = None
        self._fault = ""
        self.refresh()

    @property
    def keys(self) -> Keys:
        """Return the last good keys. Raises KeysUnavailable: there were none yet."""
        if self._keys is None:
            raise KeysUnavailable(f"the keys of issuer {self._name} could not be read yet")
        return self._keys

    def refresh(self) -> None:
        """Read the file again if it has changed; it is looked at once a second."""
        if self._file is None:
            try:
                self._file = WatchedFile(self._path, lambda text: jwt.keys_in(text, self._issuer))
            except (OSError, ValueError) as error:
                fault = read_failure(self._path, error)
                self._note(fault)
                return
        found = self._file.current(now_s=monotonic())
        if found is not self._keys:
            self._keys = found
            self._changed()

    def _note(self, fault: str) -> None:
        if fault != self._fault:
            log.error("keys of issuer not read", issuer=self._name, error=fault)
        self._fault = fault
