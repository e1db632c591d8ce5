"""Programs of the operating system that only tests use: absent, their tests are skipped with the reason."""

import os
import shutil
from typing import NoReturn

import pytest


def need(program: str) -> str:
    """The path of *program*. Where CI installs everything, its absence is a failure."""
    path = shutil.which(program)
    return path or _missing(program)


def _missing(program: str) -> NoReturn:
    reason = f"{program} is not installed (Debian: apt-get install {program})"
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)
