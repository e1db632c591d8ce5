"""The parts of a process that a replay needs: its command-line option, its end offsets, and its counts."""

import argparse
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from schemas.kafka import replays
from schemas.kafka.places import Partition
from schemas.kafka.replays import Replay
from schemas.kafka.topics import Topic
from schemas.process import telemetry
from schemas.process.settings import SettingsInvalid


def add_replay_option(parser: argparse.ArgumentParser) -> None:
    """Let a process repeat part of the log instead of running its group."""
    parser.add_argument("--replay", type=Path, metavar="FILE", help="the plan of `tidegate replay`")


def replay_of(options: argparse.Namespace) -> Replay | None:
    """
    Return the plan that `--replay` names; None without one.

    Raises:
        SettingsInvalid: it cannot be read.
    """
    if options.replay is None:
        return None
    try:
        return replays.read(options.replay)
    except (OSError, ValueError) as error:
        raise SettingsInvalid(f"--replay {options.replay}: {error}") from error


def ends_of(replay: Replay | None, source: Topic) -> Mapping[Partition, int]:
    """Return the offsets up to which a replay reads, by partition of *source*; empty where none is asked for."""
    return {} if replay is None else {Partition(source.name, each): end for each, end in replay.ends.items()}


def outcomes_of(instruments: telemetry.Telemetry) -> Mapping[str, int]:
    """Return how many records of this process came to each outcome."""
    counted: Counter[str] = Counter()
    for metric in instruments.registry.collect():
        for sample in metric.samples:
            if sample.name == telemetry.RECORDS.name and sample.value:
                counted[sample.labels["outcome"]] += int(sample.value)
    return counted
