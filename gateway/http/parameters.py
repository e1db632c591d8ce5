"""
The names of query parameters: a request may use those that its route has, each once.

Why unknown ones are refused: a client that sends `?agent_id=` for `?agent=` would otherwise get the runs of every
agent and take them for those of one.
"""

from collections import Counter
from collections.abc import Mapping, Sequence

from multidict import MultiMapping

from gateway.errors import BadQuery
from schemas.errors import Fault

FAULTS_MAX = 20  # listed in an answer
NAME_SHOWN_MAX = 100  # characters


def check_names(query: MultiMapping[str], known: Sequence[str]) -> None:
    """Raise BadQuery unless every parameter of *query* is one of *known* and is given once."""
    if faults := _faults(Counter(name for name, _ in query.items()), known):
        raise BadQuery(faults[:FAULTS_MAX])


def _faults(counts: Mapping[str, int], known: Sequence[str]) -> Sequence[Fault]:
    taken = f"this path has {', '.join(known)}" if known else "this path has no query parameters"
    faults: list[Fault] = []
    for name, count in counts.items():
        shown = name[:NAME_SHOWN_MAX]
        if name not in known:
            faults.append(_fault(shown, f"unknown query parameter {shown!r}; {taken}"))
        elif count > 1:
            faults.append(_fault(shown, f"query parameter {shown!r} is given {count} times; give it once"))
    return faults


def _fault(name: str, detail: str) -> Fault:
    return Fault(pointer="", detail=detail, parameter=name)
