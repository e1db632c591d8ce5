"""Programs of the operating system that only tests use: absent, their tests are skipped with the reason."""

import os
import shutil
from typing import NoReturn

import pytest


def need(program: str, *, package: str | None = None) -> str:
    """Return the path of *program*, of a Debian package of that name or *package*. In CI its absence is a failure."""
    path = shutil.which(program)
    return path or _missing(program, package or program)


def _missing(program: str, package: str) -> NoReturn:
    reason = f"{program} is not installed (Debian: apt-get install {package})"
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)
