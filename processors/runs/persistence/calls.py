"""Tool calls and their results, paired by the id that both have. Pure; holds a bounded number of either."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

CALL_TYPE = "tool_call"
RESULT_TYPE = "tool_result"
ID_FIELDS = ("call_id", "tool_call_id", "id")
ID_CHARACTERS_MAX = 256
OPEN_CALLS_MAX = 10_000  # calls without a result that are remembered to find their latency
ANSWERED_LISTED_MAX = 100  # the counts and latencies are of all


@dataclass(frozen=True, slots=True)
class _Call:
    seq: int
    happened_at: datetime


@dataclass(slots=True)
class ToolCalls:
    """The tool calls of one run; its events are added in the order of their seq."""

    _count: int = 0
    _answered_count: int = 0
    _latency_max_s: float | None = None
    _latency_sum_s: float = 0.0
    _open: dict[str, _Call] = field(default_factory=dict)
    _answered: list[dict[str, object]] = field(default_factory=list)

    def add(self, kind: str, seq: int, happened_at: datetime, payload: dict[str, Any] | None) -> None:
        """Take an event; *payload* is None where it is no object, or not here."""
        if kind == CALL_TYPE:
            self._count += 1
        call_id = None if payload is None else _call_id(payload)
        if call_id is None:
            return
        if kind == CALL_TYPE and len(self._open) < OPEN_CALLS_MAX:
            self._open[call_id] = _Call(seq, happened_at)
        elif kind == RESULT_TYPE and (call := self._open.pop(call_id, None)) is not None:
            self._answer(call_id, call, seq, (happened_at - call.happened_at).total_seconds())

    def _answer(self, call_id: str, call: _Call, seq: int, latency_s: float) -> None:
        self._answered_count += 1
        self._latency_sum_s += latency_s
        self._latency_max_s = latency_s if self._latency_max_s is None else max(self._latency_max_s, latency_s)
        if len(self._answered) < ANSWERED_LISTED_MAX:
            listed = {"id": call_id, "seq": call.seq, "result_seq": seq, "latency_s": latency_s}
            self._answered.append(listed)

    def document(self) -> dict[str, object]:
        """Return what the trace record says of them."""
        return {
            "count": self._count,
            "answered": self._answered_count,
            "latency_max_s": self._latency_max_s,
            "latency_sum_s": self._latency_sum_s,
            "calls": self._answered,
        }


def _call_id(payload: dict[str, Any]) -> str | None:
    """Return the first id in *payload*; a number is kept as its digits."""
    for name in ID_FIELDS:
        value = payload.get(name)
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value)
        if isinstance(value, str) and 0 < len(value) <= ID_CHARACTERS_MAX:
            return value
    return None
