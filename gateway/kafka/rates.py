"""Growth rates of numbers between two measurements."""

from collections.abc import Mapping


def rates_per_s(before: tuple[float, Mapping[str, int]], after: tuple[float, Mapping[str, int]]) -> Mapping[str, float]:
    """Return how fast each number grew; 0 for one that has become smaller, as a recreated topic does."""
    (then_s, written_then), (now_s, written_now) = before, after
    return {
        name: max(0, written - written_then.get(name, 0)) / (now_s - then_s)
        for name, written in written_now.items()
        if now_s > then_s
    }
