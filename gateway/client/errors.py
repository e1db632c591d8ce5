"""The errors of a request, named after what the sender does next."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

SHOWN_MAX = 10
DETAIL_CHARACTERS_MAX = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Dropped:
    """Something that was not delivered, and the reason; `type` is an event's type, `environment` or `finalize`."""

    type: str
    code: str
    detail: str


class Refused(Exception):
    """
    The gateway does not take this request and never will. Mend it; do not send it again as it is.

    If `in_doubt`, an earlier attempt had no answer and may have been taken all the same.
    """

    def __init__(self, *, status: int, code: str, detail: str) -> None:
        """Carry the problem document's `code` and `detail`."""
        super().__init__(f"{code}: {detail}")
        self.status = status
        self.code = code
        self.detail = detail
        self.in_doubt = False


class SendAgainLater(Exception):
    """A request that was not, or perhaps not, accepted. Send it again unchanged, with the same key, after a pause."""

    def __init__(self, *, code: str, detail: str, retry_after_s: float = 0.0, in_doubt: bool) -> None:
        """Carry `code` and `detail`; *in_doubt* is True if the gateway may have accepted the request after all."""
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail
        self.retry_after_s = retry_after_s
        self.in_doubt = in_doubt


class SpoolUnusable(Exception):
    """The spool file cannot be used. What was meant for it is dropped and reported; mend its path or rights."""


class Undelivered(Exception):
    """
    Part of a run did not arrive. What did is safe; send the rest as a new run, or tell a person.

    Raised at the end of a run by a client with `strict=True`; the others log the same text.
    """

    def __init__(self, run_id: str, dropped: Sequence[Dropped], count: int) -> None:
        """List what was dropped; *count* may exceed the list."""
        alike = Counter(f"{one.type}: {one.code}: {one.detail}" for one in dropped).most_common(SHOWN_MAX)
        shown = "; ".join(text if times == 1 else f"{text} ({times} times)" for text, times in alike)
        left_count = count - sum(times for _, times in alike)
        more = f"; and {left_count} more" if left_count else ""
        super().__init__(f"run {run_id}: {count} not delivered: {shown}{more}")
        self.run_id = run_id
        self.dropped = tuple(dropped)
        self.count = count


def dropped(type: str, code: str, detail: str) -> Dropped:  # noqa: A002
    """Return a report with texts of bounded length: a type or a detail can be anything that a program passed."""
    return Dropped(
        type=_printable(type)[:DETAIL_CHARACTERS_MAX], code=code, detail=_printable(detail)[:DETAIL_CHARACTERS_MAX]
    )


def _printable(text: str) -> str:
    return "".join(one if one.isprintable() else f"\\u{ord(one):04x}" for one in text[: 2 * DETAIL_CHARACTERS_MAX])
