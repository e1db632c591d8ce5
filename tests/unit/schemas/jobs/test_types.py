"""Declarations of task types, and parameters that are read by them."""

from typing import Annotated, Any

import msgspec
import pytest
from msgspec import Meta

from schemas.errors import Invalid
from schemas.jobs.builtin import BUILTIN_TYPES, ECHO
from schemas.jobs.types import MIB, TaskType, TaskTypesSettings, load_types
from schemas.process.settings import SettingsInvalid


class Resize(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The parameters of a type of a user's own."""

    width: Annotated[int, Meta(ge=1, le=10_000)]
    names: list[str] = []

    def __post_init__(self) -> None:
        """Refuse what a schema cannot say."""
        if len(set(self.names)) < len(self.names):
            raise ValueError("names must differ")


RESIZE = TaskType(name="resize", function="shop.tasks:resize", parameters=Resize)


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"name": "Resize"}, "the name must be"),
        ({"name": "a/b/c"}, "the name must be"),
        ({"queue": "My Queue"}, "queue must be"),
        ({"function": "shop.tasks.resize"}, "must be package.module:function"),
        ({"function": "shop/tasks.py:resize"}, "must be package.module:function"),
        ({"function": "shop:tasks:resize"}, "must be package.module:function"),
        ({"soft_limit_s": 30.0, "hard_limit_s": 30.0}, "soft_limit_s must be above 0 and below hard_limit_s"),
        ({"soft_limit_s": 0.0}, "soft_limit_s must be above 0"),
        ({"soft_limit_s": float("nan")}, "soft_limit_s must be above 0"),
        ({"max_attempts": 0}, "max_attempts must be from 1 to 100"),
        ({"max_attempts": 101}, "max_attempts must be from 1 to 100"),
        ({"retry_base_s": 0.0}, "retry_base_s must be above 0"),
        ({"retry_base_s": 60.0, "retry_cap_s": 30.0}, "at most retry_cap_s"),
        ({"memory_bytes_max": MIB}, "memory_bytes_max must be at least"),
    ],
)
def test_a_declaration_that_cannot_work_is_refused_by_name(changes: dict[str, Any], fault: str) -> None:
    declared = {"name": "resize", "function": "shop.tasks:resize"} | changes
    with pytest.raises(ValueError, match=f"task type '{declared['name']}'.*{fault}"):
        TaskType(**declared)


def test_parameters_are_read() -> None:
    assert RESIZE.read({"width": 3}) == Resize(width=3)


@pytest.mark.parametrize(
    ("parameters", "pointers"),
    [
        ({}, [""]),
        ({"width": 0}, ["/width"]),
        ({"width": "3"}, ["/width"]),
        ({"width": 0, "names": [1]}, ["/names/0", "/width"]),
        ({"width": 3, "a/b": 1}, [""]),
        ({"width": 3, "names": ["a", "a"]}, [""]),
        ([], [""]),
    ],
)
def test_each_fault_of_parameters_has_its_pointer(parameters: object, pointers: list[str]) -> None:
    with pytest.raises(Invalid) as refused:
        RESIZE.read(parameters)
    assert sorted(fault.pointer for fault in refused.value.faults) == pointers


def test_a_fault_says_little_of_a_large_value() -> None:
    with pytest.raises(Invalid) as refused:
        RESIZE.read({"width": "x" * 100_000})
    assert all(len(fault.detail) <= 300 for fault in refused.value.faults)


@pytest.mark.parametrize("declared", BUILTIN_TYPES, ids=lambda declared: declared.name)
def test_the_examples_of_a_type_are_parameters_of_it(declared: TaskType) -> None:
    assert declared.examples
    for example in declared.examples:
        declared.read(example)
    assert declared.schema["type"] == "object"


def test_types_of_settings_join_those_that_are_built_in() -> None:
    found = load_types(TaskTypesSettings(declared="tests.support.tasks:TYPES"), builtin=[ECHO])
    assert {"echo", "tally"} <= set(found)


@pytest.mark.parametrize(
    ("declared", "fault"),
    [
        ("no.such.module:TYPES", "cannot be imported"),
        ("tests.support.tasks:NONE", "cannot be imported"),
        ("tests.support.tasks:noop", "must be a TaskType or a list of them"),
        ("tests.support.tasks:TYPES, tests.support.tasks:TYPES", "two task types are called"),
    ],
)
def test_what_is_no_type_stops_the_start(declared: str, fault: str) -> None:
    with pytest.raises(SettingsInvalid, match=fault):
        load_types(TaskTypesSettings(declared=declared), builtin=[])
