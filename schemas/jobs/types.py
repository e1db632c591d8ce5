"""
Types of tasks: what a job of each may be given, and how it is run.

A type is declared where neither the gateway nor an executor has to import what runs it: `function` names that by
"package.module:function", and a child process of an executor imports it. Types come from here, from installed packages
(entry points of the group `tidegate.task_types`) and from the setting TIDEGATE_JOB_TYPES.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

import msgspec

from schemas.access.credentials import Right
from schemas.jobs.rules import ATTEMPTS_MAX, queue_fault, type_fault
from schemas.process.settings import SettingsInvalid, entries_of, setting
from schemas.structs import read_struct

ENTRY_POINTS = "tidegate.task_types"
MIB = 1024 * 1024
MEMORY_BYTES_MIN = 64 * MIB  # an interpreter with its libraries takes half of that

DEFAULT_QUEUE = "default"
QUEUES = ("default", "ari_analysis", "ffe_planning", "edm_analysis", "model_training", "maintenance")
"""The queues of every deployment; `tidegate jobs queues` adds others."""

FUNCTION_PATTERN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*:[A-Za-z_][A-Za-z0-9_]*\Z")


class NoParameters(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The parameters of a task that takes none."""


@dataclass(frozen=True, kw_only=True, eq=False)
class TaskType:
    """
    One type of task.

    Its soft limit interrupts a task, its hard limit kills the process that runs it. A failed attempt is repeated after
    a random part of `retry_base_s`, doubled for each failure, up to `retry_cap_s`.
    """

    name: str
    function: str
    parameters: type[msgspec.Struct] = NoParameters
    description: str = ""
    queue: str = DEFAULT_QUEUE
    right: Right = Right.INGEST  # of the key that submits it
    is_numeric: bool = False  # runs in processes that have the numeric libraries loaded
    soft_limit_s: float = 25 * 60.0
    hard_limit_s: float = 30 * 60.0
    memory_bytes_max: int = 1024 * MIB  # of its process and all that it starts, resident
    max_attempts: int = 3
    retry_base_s: float = 60.0
    retry_cap_s: float = 3600.0
    is_interruptible: bool = False  # may be stopped at a checkpoint and run again from the start
    gives_partial_results: bool = False  # what it returns after its soft limit completes the job
    examples: tuple[Mapping[str, Any], ...] = field(default=())

    def __post_init__(self) -> None:
        """Raise ValueError, which names the fault, where the declaration is not usable."""
        if fault := _fault(self):
            raise ValueError(f"task type {self.name!r}: {fault}")

    @cached_property
    def schema(self) -> Mapping[str, Any]:
        """Return the JSON Schema (draft 2020-12) of the parameters."""
        schema: dict[str, Any] = msgspec.json.schema(self.parameters)
        name = str(schema.pop("$ref", "")).rpartition("/")[2]
        definitions = schema.pop("$defs", {})
        found = {**definitions.pop(name, schema), **({"$defs": definitions} if definitions else {})}
        return found | ({"examples": list(self.examples)} if self.examples else {})

    def read(self, parameters: object) -> msgspec.Struct:
        """
        Return decoded JSON as the parameters of a task.

        Raises:
            Invalid: it breaks the schema; each fault has its pointer.
        """
        return read_struct(parameters, self.parameters)


def _fault(declared: TaskType) -> str | None:
    name, queue = type_fault(declared.name), queue_fault(declared.queue)
    checks = (
        (name is None, f"the name must be {name}"),
        (queue is None, f"queue must be {queue}"),
        (FUNCTION_PATTERN.match(declared.function), f"function {declared.function!r} must be package.module:function"),
        (0 < declared.soft_limit_s < declared.hard_limit_s, "soft_limit_s must be above 0 and below hard_limit_s"),
        (1 <= declared.max_attempts <= ATTEMPTS_MAX, f"max_attempts must be from 1 to {ATTEMPTS_MAX}"),
        (0 < declared.retry_base_s <= declared.retry_cap_s, "retry_base_s must be above 0 and at most retry_cap_s"),
        (declared.memory_bytes_max >= MEMORY_BYTES_MIN, f"memory_bytes_max must be at least {MEMORY_BYTES_MIN}"),
    )
    return next((fault for holds, fault in checks if not holds), None)


TaskTypes = Mapping[str, TaskType]
"""By name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskTypesSettings:
    """The settings for types of tasks."""

    declared: str | None = setting(
        "TIDEGATE_JOB_TYPES",
        None,
        help="Task types of your own, comma separated: package.module:NAME of a TaskType or of a list of them",
    )


def load_types(settings: TaskTypesSettings, *, builtin: Iterable[TaskType]) -> TaskTypes:
    """
    Return the types of this installation: *builtin*, those of installed packages, and those that *settings* name.

    Raises:
        SettingsInvalid: one cannot be imported, is no TaskType, or has the name of another.
    """
    found: dict[str, TaskType] = {}
    places = [(f"entry point {each.name}", each.value) for each in entry_points(group=ENTRY_POINTS)]
    places += [("TIDEGATE_JOB_TYPES", place) for place in entries_of(settings.declared)]
    for each in (*builtin, *(declared for origin, place in places for declared in _imported(origin, place))):
        if each.name in found:
            raise SettingsInvalid(f"two task types are called {each.name!r}: rename one of them")
        found[each.name] = each
    return found


def _imported(origin: str, place: str) -> Iterable[TaskType]:
    module_name, _, name = place.partition(":")
    try:
        declared: Any = getattr(import_module(module_name), name)
    except Exception as error:  # whatever a user's module does while it is imported
        raise SettingsInvalid(f"{origin}: {place!r} cannot be imported: {error!r}") from error
    types = [declared] if isinstance(declared, TaskType) else declared
    if not isinstance(types, (list, tuple)) or not all(isinstance(each, TaskType) for each in types):
        raise SettingsInvalid(f"{origin}: {place!r} must be a TaskType or a list of them")
    return types
