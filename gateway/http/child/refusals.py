"""The reason why a body is refused, as a value that can be stored beside accepted ones and sent between processes."""

from collections.abc import Mapping, Sequence

import msgspec

from gateway.errors import BadBody, BadParameters, EventTooLarge, Forbidden, NotToon, QueueFull, SignatureInvalid
from schemas.errors import Fault, Invalid
from schemas.strictjson import NotJson

_TOLD_BY_TEXT: Mapping[str, type[Exception]] = {
    each.__name__: each for each in (NotJson, NotToon, BadBody, EventTooLarge, Forbidden, SignatureInvalid, QueueFull)
}
_WITH_FAULTS: Mapping[str, type[Invalid]] = {each.__name__: each for each in (Invalid, BadParameters)}


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """An error of the intake: its name, and what it tells."""

    name: str
    detail: str
    faults: Sequence[Fault] = ()

    @classmethod
    def of(cls, error: Exception) -> "Refusal":
        """Return the value that stands for *error*."""
        faults = error.faults if isinstance(error, Invalid) else ()
        return cls(name=type(error).__name__, detail=str(error), faults=faults)

    @property
    def is_known(self) -> bool:
        """Return True if it is an error of the intake: one that tells the client what is wrong."""
        return self.name in _WITH_FAULTS or self.name in _TOLD_BY_TEXT

    @property
    def is_by_credentials(self) -> bool:
        """Return True if other credentials might not refuse: an agent or its signature is not accepted."""
        return self.name in (Forbidden.__name__, SignatureInvalid.__name__)

    def error(self) -> Exception:
        """Return the error that it stands for; one that no client causes is an internal error without its text."""
        if (with_faults := _WITH_FAULTS.get(self.name)) is not None:
            return with_faults(list(self.faults))
        known = _TOLD_BY_TEXT.get(self.name)
        return known(self.detail) if known is not None else RuntimeError(f"{self.name}: {self.detail}")
