"""JSON objects as structs, every fault listed: msgspec alone names the first."""

from collections.abc import Iterable
from functools import cache
from typing import Any, TypeVar

import jsonschema_rs
import msgspec

from schemas.errors import Fault, Invalid
from schemas.strictjson import FAULTS_MAX, escape_pointer

DETAIL_CHARACTERS_MAX = 300

Form = TypeVar("Form", bound=msgspec.Struct)


def read_struct(document: object, form: type[Form]) -> Form:
    """
    Return decoded JSON as a struct.

    Raises:
        Invalid: it is no such object; each fault has its pointer.
    """
    faults = [
        Fault(pointer=_pointer(error.instance_path), detail=error.message[:DETAIL_CHARACTERS_MAX])
        for error, _ in zip(_validator(form).iter_errors(document), range(FAULTS_MAX), strict=False)
    ]
    if faults:
        raise Invalid(faults)
    try:
        return msgspec.convert(document, form)
    except (msgspec.ValidationError, ValueError) as error:  # of times, and of what a `__post_init__` checks
        detail, _, path = str(error).partition(" - at `$")
        pointer = path.rstrip("`").replace(".", "/")  # names of ours: none needs escaping
        raise Invalid([Fault(pointer=pointer, detail=detail[:DETAIL_CHARACTERS_MAX])]) from error


@cache  # of the forms of the API and of task types: a validator costs a millisecond to make
def _validator(form: type[msgspec.Struct]) -> jsonschema_rs.Draft202012Validator:
    schema: dict[str, Any] = msgspec.json.schema(form)
    return jsonschema_rs.Draft202012Validator(schema)


def _pointer(steps: Iterable[str | int]) -> str:
    return "".join(f"/{escape_pointer(step) if isinstance(step, str) else step}" for step in steps)
