"""An exception as an event's payload: its type, message and traceback, without secrets, and of bounded length."""

import os
import traceback
from collections.abc import Iterable, Mapping

from schemas.process.redaction import CUT, HIDDEN, is_secret_name, without_secrets

FRAMES_MAX = 50  # of each traceback in a chain; the innermost are kept
TRACEBACK_CHARACTERS_MAX = 7 * 1024  # the end is kept: it names what failed
MESSAGE_CHARACTERS_MAX = 2 * 1024
SECRET_CHARACTERS_MIN = 6  # shorter ones would hide parts of ordinary words


class Scrubber:
    """A filter that hides secrets in texts: what looks like one, and the given ones word for word."""

    def __init__(self, secrets: Iterable[str | None], environ: Mapping[str, str]) -> None:
        """Hide *secrets*, and the values of variables that are named like one."""
        named = (value for name, value in environ.items() if is_secret_name(name))
        known = {one for one in (*secrets, *named) if one is not None and len(one) >= SECRET_CHARACTERS_MIN}
        self._known = sorted(known, key=len, reverse=True)  # one may be part of another

    def start(self, text: str, characters_max: int) -> str:
        """Return *text* without secrets, cut behind *characters_max*."""
        clean = without_secrets(self._hide_known(text))
        return clean if len(clean) <= characters_max else f"{clean[:characters_max]}{CUT}"

    def end(self, text: str, characters_max: int) -> str:
        """Return the last whole lines of *text* that have *characters_max*, without secrets."""
        clean = self._hide_known(text)
        if len(clean) > characters_max:
            last = clean[-characters_max:]
            clean = f"{CUT}\n{last.partition(chr(10))[2] or last}"
        return without_secrets(clean)

    def _hide_known(self, text: str) -> str:
        for secret in self._known:
            text = text.replace(secret, HIDDEN)
        return text


def describe(error: BaseException, scrubber: Scrubber) -> dict[str, object]:
    """Return the payload of an `error` event. Never raises, whatever *error* does."""
    return {
        "error": scrubber.start(_name(error), MESSAGE_CHARACTERS_MAX),
        "message": scrubber.start(_message(error), MESSAGE_CHARACTERS_MAX),
        "traceback": scrubber.end(_traceback(error), TRACEBACK_CHARACTERS_MAX),
    }


def scrubber_of(secrets: Iterable[str | None]) -> Scrubber:
    """Return the scrubber of this process."""
    return Scrubber(secrets, dict(os.environ))


def _name(error: BaseException) -> str:
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _message(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as broken:  # noqa: BLE001  # an exception's own __str__ may raise anything
        return f"<its message cannot be shown: {type(broken).__name__}>"


def _traceback(error: BaseException) -> str:
    try:
        # Without the values of local variables.
        return "".join(traceback.TracebackException.from_exception(error, limit=-FRAMES_MAX).format())
    except Exception as broken:  # noqa: BLE001  # it reads sources and asks the exception for its text
        return f"<its traceback cannot be shown: {type(broken).__name__}>"
