"""The figures of documents, made of facts. Pure."""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from math import ceil
from typing import Literal

from gateway.documents.store import EndedJob, Figures, OutcomeTotal
from gateway.documents.views import DocumentMetrics, LaneMetrics, StageMetrics
from schemas.documents.states import ENDS, Phase, Stage

RECENT_S = 60.0
SUBMITTED = "submitted"

_NONE = OutcomeTotal(count=0, cost=0)
StageName = Literal["chunk", "embed", "store"]


def metrics_of(figures: Figures, *, multiplier: float, tokens: float | None) -> DocumentMetrics:
    """Return the figures that are shown; *multiplier* and *tokens* are those of the gateway's admission."""
    totals = {phase: figures.totals.get(phase, _NONE) for phase in ENDS}
    submitted = figures.totals.get(SUBMITTED, _NONE)
    in_flight = submitted.count - sum(total.count for total in totals.values())
    queue_cost = submitted.cost - sum(total.cost for total in totals.values())
    completed = [job for job in figures.ended if job.phase is Phase.STORED]
    failed_count = sum(job.phase is Phase.FAILED for job in figures.ended)
    recent, span_s = _recent(figures)
    stored = [job for job in recent if job.phase is Phase.STORED]
    drained_per_s = sum(job.cost for job in recent) / span_s
    latencies_ms = sorted(_ms(job.submitted_at, job.ended_at) for job in completed)
    return DocumentMetrics(
        balance=_balance(submitted.count, {phase: total.count for phase, total in totals.items()}, in_flight),
        total_submitted=submitted.count,
        total_completed=totals[Phase.STORED].count,
        total_unchanged=totals[Phase.UNCHANGED].count,
        total_superseded=totals[Phase.SUPERSEDED].count,
        total_deleted=totals[Phase.DELETED].count,
        total_cancelled=totals[Phase.CANCELLED].count,
        total_failed=totals[Phase.FAILED].count,
        in_flight=in_flight,
        throughput_items_per_sec=len(stored) / span_s,
        throughput_chunks_per_sec=sum(job.chunks or 0 for job in stored) / span_s,
        throughput_chars_per_sec=sum(job.cost for job in stored) / span_s,
        success_rate_percent=(
            100 * len(completed) / (len(completed) + failed_count) if completed or failed_count else None
        ),
        p95_latency_ms=_quantile(latencies_ms, 0.95),
        p99_latency_ms=_quantile(latencies_ms, 0.99),
        current_rate_multiplier=multiplier,
        tokens_available=tokens,
        queue_depth=in_flight,
        queue_cost=queue_cost,
        queue_seconds=queue_cost / drained_per_s if drained_per_s else None,
        lanes={
            lane: LaneMetrics(
                queue_depth=depth.count,
                queue_cost=depth.cost,
                oldest_s=max(0.0, (figures.now - depth.oldest_at).total_seconds()),
            )
            for lane, depth in figures.lanes.items()
        },
        avg_processing_time_ms=_mean([_between(job.begun_at, job.embedded_at) for job in figures.ended]),
        stages={
            "chunk": _stage(
                figures.ended, (Stage.PARSE, Stage.CHUNK), lambda job: _between(job.begun_at, job.chunked_at)
            ),
            "embed": _stage(figures.ended, (Stage.EMBED,), lambda job: _between(job.chunked_at, job.embedded_at)),
            "store": _stage(figures.ended, (Stage.STORE,), _store_ms),
        },
    )


def _recent(figures: Figures) -> tuple[Sequence[EndedJob], float]:
    """Return the jobs that ended in the last 60 s, and the seconds that they stand for: fewer if not all were read."""
    begin = figures.now - timedelta(seconds=RECENT_S)
    recent = [job for job in figures.ended if job.ended_at > begin]
    if recent and len(recent) == len(figures.ended) >= figures.ended_max:
        return recent, max(1.0, (figures.now - recent[-1].ended_at).total_seconds())
    return recent, RECENT_S


def _balance(submitted: int, ends: dict[Phase, int], in_flight: int) -> str:
    names = {Phase.STORED: "completed"}
    order = (Phase.STORED, Phase.UNCHANGED, Phase.SUPERSEDED, Phase.DELETED, Phase.CANCELLED, Phase.FAILED)
    parts = [f"{ends[phase]} {names.get(phase, phase.value)}" for phase in order]
    return f"{submitted} submitted = {' + '.join(parts)} + {in_flight} in flight"


def _stage(
    jobs: Sequence[EndedJob], stages: Sequence[Stage], time_ms: Callable[[EndedJob], float | None]
) -> StageMetrics:
    times_ms = [each for each in (time_ms(job) for job in jobs) if each is not None]  # the newest first
    return StageMetrics(
        items_processed=len(times_ms),
        items_failed=sum(job.failed_stage in stages for job in jobs),
        avg_time_per_item_ms=_mean(times_ms),
        last_item_time_ms=times_ms[0] if times_ms else None,
    )


def _store_ms(job: EndedJob) -> float | None:
    return _between(job.embedded_at, job.ended_at) if job.phase is Phase.STORED else None


def _between(start: datetime | None, end: datetime | None) -> float | None:
    return None if start is None or end is None else _ms(start, end)


def _ms(start: datetime, end: datetime) -> float:
    return max(0.0, (end - start) / timedelta(milliseconds=1))


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _quantile(ordered: Sequence[float], part: float) -> float | None:
    """Return the value below which *part* of them lie, by nearest rank."""
    return ordered[ceil(part * len(ordered)) - 1] if ordered else None
