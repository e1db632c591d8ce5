"""The compatibility of a changed schema. BACKWARD, as Schema Registry names it: new readers read old records."""

import json
from collections.abc import Mapping

from avro.compatibility import ReaderWriterCompatibilityChecker, SchemaCompatibilityType
from avro.schema import parse


def incompatibilities(new: Mapping[str, object], released: Mapping[str, object]) -> list[str]:
    """
    Return the reasons why a reader with the *new* schema cannot read records of the *released* one; empty if it can.
    """
    result = ReaderWriterCompatibilityChecker().get_compatibility(
        reader=parse(json.dumps(new)), writer=parse(json.dumps(released))
    )
    if result.compatibility is SchemaCompatibilityType.compatible:
        return []
    return [
        f"{location}: {message}" for location, message in zip(sorted(result.locations), result.messages, strict=False)
    ]
