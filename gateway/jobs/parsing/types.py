"""
The task types of this installation, in whichever process a body is parsed.

They are classes and cannot be sent to the body parser: a task carries the setting that names them, and each process
loads them once.
"""

from functools import cache

from schemas.errors import Fault
from schemas.jobs.builtin import BUILTIN_TYPES
from schemas.jobs.types import TaskType, TaskTypes, TaskTypesSettings, load_types

NAMES_SHOWN_MAX = 50


@cache  # one entry: a process has one setting
def types_of(declared: str | None) -> TaskTypes:
    """Return the types that come with Tidegate and those that the setting *declared* names. Raises SettingsInvalid."""
    return load_types(TaskTypesSettings(declared=declared), builtin=BUILTIN_TYPES)


def find_type(types: TaskTypes, name: str) -> TaskType | Fault:
    """Return the type of that name, or the fault that names those there are."""
    found = types.get(name)
    if found is not None:
        return found
    names = sorted(types)
    more = ", ..." if len(names) > NAMES_SHOWN_MAX else ""
    return Fault(pointer="/type", detail=f"no such task type; there are {', '.join(names[:NAMES_SHOWN_MAX])}{more}")


def queue_fault(queue: str, queues: frozenset[str]) -> Fault | None:
    """Return the fault of a queue that does not exist; None if it is one of *queues*."""
    if queue in queues:
        return None
    names = sorted(queues)
    more = ", ..." if len(names) > NAMES_SHOWN_MAX else ""
    return Fault(pointer="/queue", detail=f"no queue {queue!r}; there are {', '.join(names[:NAMES_SHOWN_MAX])}{more}")
