"""What the command line asks of a processor, beside its settings; and what a replay needs of it."""

from collections import Counter
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass

from schemas.kafka.places import Partition
from schemas.kafka.replays import Replay
from schemas.kafka.topics import Topic
from schemas.process import telemetry


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """One call of `python -m processors`."""

    replay: Replay | None = None
    endpoint: str | None = None  # of the evaluation group
    once: bool = False  # of maintenance: one pass, its report on stdout
    dry_run: bool = False  # with `once`: remove nothing, only count


Processor = Callable[[Mapping[str, str], Order], Coroutine[None, None, int]]
"""Runs until it is told to stop, or is done; returns the exit code."""


def ends_of(replay: Replay | None, source: Topic) -> Mapping[Partition, int]:
    """Return the offsets up to which a replay reads, by partition of *source*; empty where none is asked for."""
    return {} if replay is None else {Partition(source.name, each): end for each, end in replay.ends.items()}


def outcomes_of(instruments: telemetry.Telemetry) -> Mapping[str, int]:
    """How many records of this process came to each end."""
    counted: Counter[str] = Counter()
    for metric in instruments.registry.collect():
        for sample in metric.samples:
            if sample.name == telemetry.RECORDS.name and sample.value:
                counted[sample.labels["outcome"]] += int(sample.value)
    return counted
