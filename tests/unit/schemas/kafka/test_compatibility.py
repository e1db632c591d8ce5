"""A changed schema may be released only if it still reads what was written before."""

import copy
from typing import Any

from schemas.kafka import registry
from schemas.kafka.compatibility import incompatibilities

RELEASED: Any = registry.last_released()["tidegate.runs.RunEvent"].schema


def test_the_same_schema_is_compatible() -> None:
    assert incompatibilities(RELEASED, RELEASED) == []


def test_a_new_field_with_a_default_is_compatible() -> None:
    changed = copy.deepcopy(RELEASED)
    changed["fields"].append({"name": "cost", "type": ["null", "double"], "default": None})
    assert incompatibilities(changed, RELEASED) == []


def test_a_new_field_without_a_default_is_named() -> None:
    changed = copy.deepcopy(RELEASED)
    changed["fields"].append({"name": "cost", "type": "double"})
    assert any("cost" in problem for problem in incompatibilities(changed, RELEASED))


def test_a_field_of_another_type_is_refused() -> None:
    changed = copy.deepcopy(RELEASED)
    changed["fields"][2]["type"] = "string"
    assert incompatibilities(changed, RELEASED)
