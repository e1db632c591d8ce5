"""What the release after this one might add to the contract: a field of RunEvent, with a default."""

from dataclasses import replace
from typing import Any

from schemas.kafka import registry
from schemas.kafka.registry import ReleasedSchema

COST = 0.25
_LAST: Any = registry.last_released()["tidegate.runs.RunEvent"]
_FIELD = {"name": "cost", "type": ["null", "double"], "default": None, "doc": "What the step cost."}

RUN_EVENT: ReleasedSchema = replace(
    _LAST,
    id=registry.released()[-1].id + 1,
    version=_LAST.version + 1,
    schema={**_LAST.schema, "fields": [*_LAST.schema["fields"], _FIELD]},
)
