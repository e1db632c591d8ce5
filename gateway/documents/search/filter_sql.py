"""Filters as conditions of SQL: each value and key is a parameter, and no text of a user is part of a statement."""

from collections.abc import Callable
from typing import Any, LiteralString

import msgspec
from psycopg import sql

from gateway.documents.parsing.filters import Filter, FilterType

_ORDER: dict[FilterType, LiteralString] = {
    FilterType.GT: ">",
    FilterType.GTE: ">=",
    FilterType.LT: "<",
    FilterType.LTE: "<=",
}
_MEMBER: LiteralString = "document.metadata #> {steps}::text[]"


def condition(admitted: Filter) -> tuple[sql.Composable, dict[str, Any]]:
    """Return the condition that metadata of `document` must meet, and its parameters by name."""
    parameters: dict[str, Any] = {}

    def parameter(value: Any) -> sql.Placeholder:
        name = f"filter_{len(parameters)}"
        parameters[name] = value
        return sql.Placeholder(name)

    return _condition(admitted, parameter), parameters


def _condition(admitted: Filter, parameter: Callable[[Any], sql.Placeholder]) -> sql.Composable:
    match admitted.type:
        case FilterType.AND | FilterType.OR:
            between = sql.SQL(" AND ") if admitted.type is FilterType.AND else sql.SQL(" OR ")
            return sql.SQL("({})").format(between.join(_condition(each, parameter) for each in admitted.filters))
        case FilterType.EQ:
            return _equal(admitted, parameter)
        case FilterType.NE:
            return sql.SQL("NOT coalesce({}, false)").format(_equal(admitted, parameter))
        case FilterType.IN:
            return _among(admitted, parameter)
        case FilterType.NIN:
            return sql.SQL("NOT coalesce({}, false)").format(_among(admitted, parameter))
        case _:
            return _ordered(admitted, parameter)


def _equal(admitted: Filter, parameter: Callable[[Any], sql.Placeholder]) -> sql.Composable:
    # Containment, which the index on metadata serves: of a scalar it is equality.
    contained: Any = admitted.value
    for step in reversed(admitted.steps):
        contained = {step: contained}
    return sql.SQL("document.metadata @> {}::jsonb").format(parameter(_json(contained)))


def _among(admitted: Filter, parameter: Callable[[Any], sql.Placeholder]) -> sql.Composable:
    values = parameter([_json(value) for value in admitted.value])
    return sql.SQL(f"({_MEMBER}) = ANY ({{values}}::text[]::jsonb[])").format(
        steps=parameter(list(admitted.steps)), values=values
    )


def _ordered(admitted: Filter, parameter: Callable[[Any], sql.Placeholder]) -> sql.Composable:
    # jsonb has an order over all types: only values of the same type are compared.
    kind = "string" if isinstance(admitted.value, str) else "number"
    steps = parameter(list(admitted.steps))
    return sql.SQL(
        f"(jsonb_typeof({_MEMBER}) = {{kind}} AND ({_MEMBER}) {_ORDER[admitted.type]} {{value}}::jsonb)"
    ).format(steps=steps, kind=sql.Literal(kind), value=parameter(_json(admitted.value)))


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()
