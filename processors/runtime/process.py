"""A processor as `python -m processors` runs it."""

import argparse
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass


def no_options(_parser: argparse.ArgumentParser) -> None:
    """Add none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """A process: its command-line options and its life."""

    run: Callable[[Mapping[str, str], argparse.Namespace], Coroutine[None, None, int]]
    """Runs by the environment and the options until it is stopped or done; returns the exit code."""

    add_options: Callable[[argparse.ArgumentParser], None] = no_options
