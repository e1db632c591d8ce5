"""The form of the ids that users choose: of runs, agents and whatever else a path names."""

import re

ID_PATTERN = "^[A-Za-z0-9._:-]{1,128}$"
"""As the API's description has it; `.` and `..` are refused as well."""

_ID = re.compile(r"(?!\.{1,2}\Z)" + ID_PATTERN[1:-1] + r"\Z")  # in Python, $ lets a line break pass


def is_id(value: str) -> bool:
    """Return True if *value* may be an id."""
    return _ID.match(value) is not None
