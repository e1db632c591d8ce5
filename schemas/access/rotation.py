"""
Rotation of the gateways' own secrets: which one signs records, and which ones verify them. Pure; time is passed in.

Why a delay: processes read the credentials file at different moments, on several hosts up to seconds apart. A secret
that a process has just read may be unknown elsewhere, so it verifies at once and signs only later. A secret that was
removed may still be in use elsewhere, so it verifies for a while longer.
"""

from collections.abc import Sequence
from typing import NamedTuple

SIGN_AFTER_S = 5.0  # that a process must have known a secret before it signs with it
SIGN_REMOVED_S = 30.0  # that a removed secret may go on signing, while those in the file are too new
ACCEPT_REMOVED_S = 60.0  # that a removed secret still verifies; longer than any request and any retry of the producer
REMOVED_MAX = 32  # each is one more digest over a record that does not verify


class _Removed(NamedTuple):
    at_s: float
    listed_s: float  # how long it had been in the file


class MacSecrets:
    """The secrets of one process, in force by what the file lists and has listed."""

    def __init__(self, listed: Sequence[str]) -> None:
        """Sign with the first of *listed* at once: at its start a process knows no other."""
        self._listed_since_s = dict.fromkeys(listed, float("-inf"))  # in the order of the file
        self._removed: dict[str, _Removed] = {}  # the last removed is the last

    def update(self, listed: Sequence[str], *, now_s: float) -> None:
        """Take over what the file lists now."""
        before, self._listed_since_s = (
            self._listed_since_s,
            {secret: self._listed_since_s.get(secret, now_s) for secret in listed},
        )
        for secret, since_s in before.items():
            if secret not in self._listed_since_s:
                self._removed[secret] = _Removed(at_s=now_s, listed_s=now_s - since_s)
        for secret in self._listed_since_s:
            self._removed.pop(secret, None)

    def in_force(self, *, now_s: float) -> list[str]:
        """Return the secrets that verify at *now_s*; the first of them signs."""
        self._removed = {
            secret: removed
            for secret, removed in list(self._removed.items())[-REMOVED_MAX:]
            if now_s - removed.at_s < ACCEPT_REMOVED_S
        }
        return list(dict.fromkeys([self._choose(now_s), *self._listed_since_s, *self._removed]))

    def _choose(self, now_s: float) -> str:
        for secret, since_s in self._listed_since_s.items():
            if now_s - since_s >= SIGN_AFTER_S:
                return secret
        for secret, removed in reversed(self._removed.items()):
            if removed.listed_s >= SIGN_AFTER_S and now_s - removed.at_s < SIGN_REMOVED_S:
                return secret
        return next(iter(self._listed_since_s))
