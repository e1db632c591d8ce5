"""
Documents: end to end beside a bare loop, the pipeline's own limit, more processes, and what the lanes get.

`make bench BENCH_ONLY=document_loop` and so on; each has a stack of its own. Each figure says which embedder it is of.
"""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from itertools import count
from statistics import median, quantiles
from time import sleep
from typing import Any

import msgspec

from schemas.documents.states import LANE_WEIGHTS, Lane
from tests.bench.document_stack import (
    WITHIN_S,
    DocumentStack,
    Stored,
    Text,
    document_stack,
    marked_chapters,
    one_chunk_texts,
    puts_of,
)
from tests.bench.extra_process import extra_process
from tests.support.stack import wait_until

Alternate = Callable[..., dict[str, list[Any]]]

SMALL_DOCUMENTS = int(os.environ.get("BENCH_DOCUMENTS", "2000"))  # of one chunk each, in a round
COPIES = int(os.environ.get("BENCH_CHAPTER_COPIES", "5"))  # of each chapter, in a round without a model
LOW_DOCUMENTS = int(os.environ.get("BENCH_LOW_DOCUMENTS", "5000"))  # that wait while single ones come
WAITS = int(os.environ.get("BENCH_WAITS", "100"))  # single documents whose wait is measured
HIGH_COPIES = int(os.environ.get("BENCH_HIGH_COPIES", "4"))  # of each chapter, that saturate the lane `high`
WARM_UP_CHAPTERS = 2
WARM_UP_DOCUMENTS = 16
PAUSE_S = 0.3  # between two single documents, so that they meet the backlog at any moment of its turns
HIGH, LOW = 9, 2  # priorities
EMBEDDERS = {
    "minilm": "all-MiniLM-L6-v2, int8, one thread a process",
    "hash": "none: feature hashing, no model",
}

BARE_TABLE = "CREATE TABLE IF NOT EXISTS bare_{embedder} (LIKE {chunks} INCLUDING ALL)"
# Both lanes have work waiting from when the last document was handed out until the first lane has none left.
SHARES = """
    WITH bounds AS (
        SELECT max(queued_at) AS since,
            least(max(ended_at) FILTER (WHERE lane = 'high'), max(ended_at) FILTER (WHERE lane = 'low')) AS until
        FROM document_jobs WHERE job_id = ANY(%s::uuid[])
    )
    SELECT lane, sum(cost)::float8 AS cost, count(*) AS documents,
        extract(epoch FROM (SELECT until - since FROM bounds))::float8 AS seconds
    FROM document_jobs, bounds
    WHERE job_id = ANY(%s::uuid[]) AND ended_at > bounds.since AND ended_at <= bounds.until
    GROUP BY lane
"""
WAIT = """
    SELECT extract(epoch FROM ended_at - submitted_at)::float8 AS s FROM document_jobs
    WHERE job_id = %s::uuid AND phase = 'stored'
"""
WAITING = "SELECT count(*) AS count FROM document_jobs WHERE lane = 'low' AND ended_at IS NULL"
TAKEN_IN = "SELECT count(*) AS count FROM document_jobs WHERE collection = 'small'"


def beside_bare_loop(alternate: Alternate) -> dict[str, Any]:
    """Return chunks stored a second from the log to the tables with the model, and by a bare loop."""
    with document_stack("minilm") as stack:
        numbers = count(1)
        _warm_up(stack)
        bare(stack, marked_chapters("before", limit=WARM_UP_CHAPTERS))

        def texts() -> list[Text]:
            return marked_chapters(f"round-{next(numbers)}")

        rounds = alternate(
            baseline=lambda: bare(stack, texts()),
            tidegate=lambda: _without_cache(stack, texts()),
        )
    return _beside(rounds, "minilm") | {"chapters": rounds["tidegate"][0].documents}


def pipeline_limit(alternate: Alternate) -> dict[str, Any]:
    """Return documents and chunks a second where embedding costs next to nothing, and by a bare loop."""
    with document_stack("hash") as stack:
        numbers = count(1)
        _warm_up(stack)

        def small() -> list[Text]:
            return one_chunk_texts(SMALL_DOCUMENTS, first=next(numbers) * SMALL_DOCUMENTS)

        def large() -> list[Text]:
            return marked_chapters(f"round-{next(numbers)}", copies=COPIES)

        rounds = alternate(
            small_baseline=lambda: bare(stack, small()),
            small=lambda: _without_cache(stack, small()),
            chapters_baseline=lambda: bare(stack, large()),
            chapters=lambda: _without_cache(stack, large()),
        )
    return {
        "embedder": EMBEDDERS["hash"],
        "one_chunk_documents": _beside(
            {"baseline": rounds["small_baseline"], "tidegate": rounds["small"]}, embedder="hash"
        ),
        "chapters": _beside({"baseline": rounds["chapters_baseline"], "tidegate": rounds["chapters"]}, embedder="hash"),
    }


def workers(alternate: Alternate) -> dict[str, Any]:
    """Return chunks a second through one, two and three processes that embed, with the model and without."""
    result: dict[str, Any] = {
        "baseline": "one documents-embed process; intake and store are one process each throughout",
        "cores": os.cpu_count(),
    }
    for embedder in ("minilm", "hash"):
        with document_stack(embedder) as stack:
            numbers = count(1)
            copies = 1 if embedder == "minilm" else COPIES
            measures = {
                f"processes_{processes}": partial(_through, stack, processes, numbers, copies)
                for processes in (1, 2, 3)
            }
            rounds = alternate(**measures)
        per_s = {name: median(each.chunks_per_s for each in taken) for name, taken in rounds.items()}
        result[embedder] = {
            "embedder": EMBEDDERS[embedder],
            "chunks_per_s": per_s,
            "rounds": {name: [each.chunks_per_s for each in taken] for name, taken in rounds.items()},
            "ratio_two": per_s["processes_2"] / per_s["processes_1"],
            "ratio_three": per_s["processes_3"] / per_s["processes_1"],
        }
    return result


def lanes() -> dict[str, Any]:
    """Return the shares of two lanes that both have work waiting, and the wait in one while another is full."""
    with document_stack("minilm") as stack:
        _warm_up(stack)
        shares = _shares(stack)
        stack.clear_cache()
        idle_s = [_wait_s(stack, number) for number in range(WAITS)]
        ended = stack.ended()
        stack.submit(puts_of(one_chunk_texts(LOW_DOCUMENTS, first=1_000_000), priority=LOW))
        wait_until(lambda: _taken_in(stack) >= LOW_DOCUMENTS, timeout_s=WITHIN_S, what="the lane to be full")
        low_at_start = _waiting(stack)
        full_s = []
        for number in range(WAITS, 2 * WAITS):
            full_s.append(_wait_s(stack, number))
            sleep(PAUSE_S)
            if len(full_s) > 1 and _waiting(stack) < LOW_DOCUMENTS // 10:
                break
        low_at_end = _waiting(stack)
        stack.wait_ended(ended + LOW_DOCUMENTS + len(full_s))
    return {
        "embedder": EMBEDDERS["minilm"],
        "shares": shares,
        "waits": {
            "conditions": f"one chunk, priority 9, from the log to its commit; {LOW_DOCUMENTS} like it of priority 2",
            "baseline": "the same with every lane empty",
            "low_waiting_at_start": low_at_start,
            "low_waiting_at_end": low_at_end,
            "documents": len(full_s),
            "idle_s": _percentiles(idle_s),
            "low_full_s": _percentiles(full_s),
        },
    }


def bare(stack: DocumentStack, texts: Sequence[Text]) -> Stored:
    """Store *texts* by the bare loop."""
    stack.rows(BARE_TABLE.format(embedder=stack.embedder, chunks=stack.chunk_table))
    file = stack.stack.folder / "texts.json"
    file.write_bytes(msgspec.json.encode(texts))
    command = [sys.executable, "-m", "tests.bench.bare_documents", stack.dsn, stack.embedder, str(file), stack.jar]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=WITHIN_S)
    seconds, chunks, cpu_s = done.stdout.split()
    return Stored(
        seconds=float(seconds),
        documents=len(texts),
        chunks=int(chunks),
        computed=int(chunks),
        phases={},
        cpu_s=float(cpu_s),
    )


def _warm_up(stack: DocumentStack) -> None:
    stack.take(marked_chapters("before", limit=WARM_UP_CHAPTERS))


def _without_cache(stack: DocumentStack, texts: Sequence[Text]) -> Stored:
    stack.clear_cache()
    return stack.take(texts)


def _beside(rounds: dict[str, list[Stored]], embedder: str) -> dict[str, Any]:
    chunks = {name: [each.chunks_per_s for each in taken] for name, taken in rounds.items()}
    documents = {name: [each.documents_per_s for each in taken] for name, taken in rounds.items()}
    per_s = {name: median(values) for name, values in chunks.items()}
    return {
        "baseline": "one process, the same chunker and embedder in one thread, COPY into a table of the same indexes",
        "conditions": "other texts each round; an empty cache; Tidegate's processes idle beside the loop",
        "embedder": EMBEDDERS[embedder],
        "chunks_per_s": per_s,
        "documents_per_s": {name: median(values) for name, values in documents.items()},
        "cpu_s_per_1000_chunks": {
            name: median(each.cpu_s_per_1000_chunks for each in taken) for name, taken in rounds.items()
        },
        "rss_mib": rounds["tidegate"][-1].rss_mib,
        "rounds": chunks,
        "chunks": {name: [each.chunks for each in taken] for name, taken in rounds.items()},
        "computed": [each.computed for each in rounds["tidegate"]],
        "ratio": per_s["tidegate"] / per_s["baseline"],
    }


def _through(stack: DocumentStack, processes: int, numbers: Iterator[int], copies: int) -> Stored:
    with ExitStack() as extra:
        for _ in range(processes - 1):
            extra.enter_context(extra_process(stack.stack, "documents-embed"))
        number = next(numbers)
        # Partitions find their processes before anything is measured.
        stack.take(one_chunk_texts(WARM_UP_DOCUMENTS, first=number * WARM_UP_DOCUMENTS))
        return _without_cache(stack, marked_chapters(f"round-{number}", copies=copies))


def _shares(stack: DocumentStack) -> dict[str, Any]:
    """Return each lane's share of the cost that was stored while both had work waiting."""
    stack.clear_cache()
    high = puts_of(marked_chapters("high", copies=HIGH_COPIES), priority=HIGH)
    low = puts_of(marked_chapters("low"), priority=LOW)
    # Lane beside lane, as they would come: neither has a start.
    puts = sorted(high + low, key=lambda each: (each.document, each.priority))
    ended = stack.ended()
    stack.submit(puts)
    stack.wait_ended(ended + len(puts))
    jobs = [each.job_id for each in puts]
    rows = {str(row["lane"]): row for row in stack.rows(SHARES, jobs, jobs)}
    cost = {lane: float(rows[lane]["cost"]) if lane in rows else 0.0 for lane in (Lane.HIGH, Lane.LOW)}
    total = sum(cost.values())
    return {
        "conditions": "chapters, from the last one handed out until one of the two lanes is empty; cost in characters",
        "seconds": max((float(row["seconds"]) for row in rows.values()), default=0.0),
        "documents": {lane: int(row["documents"]) for lane, row in rows.items()},
        "share": {str(lane): each / total for lane, each in cost.items()},
        "share_by_weight": {
            str(lane): LANE_WEIGHTS[lane] / (LANE_WEIGHTS[Lane.HIGH] + LANE_WEIGHTS[Lane.LOW])
            for lane in (Lane.HIGH, Lane.LOW)
        },
    }


def _wait_s(stack: DocumentStack, number: int) -> float:
    """Return how long one document of the lane `high` took, from its record's time to the commit that stored it."""
    [put] = puts_of(one_chunk_texts(1, first=2_000_000 + number, collection="single"), priority=HIGH)
    stack.submit([put])
    wait_until(lambda: bool(stack.rows(WAIT, put.job_id)), timeout_s=WITHIN_S, what="a single document to be stored")
    return float(stack.rows(WAIT, put.job_id)[0]["s"])


def _waiting(stack: DocumentStack) -> int:
    return int(stack.rows(WAITING)[0]["count"])


def _taken_in(stack: DocumentStack) -> int:
    return int(stack.rows(TAKEN_IN)[0]["count"])


def _percentiles(values: Sequence[float]) -> dict[str, float]:
    return {"p50": median(values), "p95": quantiles(values, n=20, method="inclusive")[-1], "max": max(values)}
