"""
What a run ran in: interpreter, platform, packages, git commit, model and chosen variables.

Secrets are replaced by `***`: by a variable's name, and by what a value looks like.
"""

import importlib.metadata
import platform
import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path

HIDDEN = "***"
GIT_TIMEOUT_S = 2.0

_SECRET_NAME = re.compile(
    r"secret|token|passw|passphrase|pwd|credential|auth|cookie|session|private|dsn|signature|salt|(?:^|_|api|access)key",
    re.IGNORECASE,
)
_SECRET_VALUE = re.compile(
    r"(?<=://)[^/\s@]+(?=@)"  # user:password@ of an address
    r"|\btg_[0-9a-z]+_\w+"
    r"|\b(?:sk|pk|rk)[-_][\w-]{8,}"
    r"|\bgh[opsru]_\w{16,}|\bgithub_pat_\w+|\bglpat-[\w-]+|\bxox[a-z]-[\w-]+"
    r"|\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"
    r"|\beyJ[\w-]+\.[\w-]+\.[\w-]*"  # a JSON web token
    r"|(?i:\b(?:bearer|basic)\s+\S+)"
    r"|(?s:-----BEGIN [A-Z ]*PRIVATE KEY-----.*)"
)


def capture(
    *, variables: Iterable[str], model: str | None, environ: Mapping[str, str], folder: Path
) -> dict[str, object]:
    """Describe this process; of *environ* only the named *variables*. Starts git: call it in a thread."""
    return {
        "interpreter": {"implementation": platform.python_implementation(), "version": platform.python_version()},
        "platform": {"system": platform.system(), "release": platform.release(), "machine": platform.machine()},
        "packages": {
            package.name: package.version
            for package in sorted(importlib.metadata.distributions(), key=lambda package: package.name)
        },
        "git_commit": _git_commit(folder),
        "model": model,
        "variables": {name: redacted(name, environ[name]) for name in variables if name in environ},
    }


def redacted(name: str, value: str) -> str:
    """*value* without what its name or its looks give away as secret."""
    text = value.encode("utf-8", "replace").decode()  # the environment may hold bytes that are no text
    return HIDDEN if _SECRET_NAME.search(name) else _SECRET_VALUE.sub(HIDDEN, text)


def _git_commit(folder: Path) -> str | None:
    """The commit that *folder* is at; None outside a repository or without git."""
    git = shutil.which("git")
    if git is None:
        return None
    try:
        answer = subprocess.run(  # noqa: S603  # a fixed command
            [git, "rev-parse", "HEAD"], cwd=folder, capture_output=True, text=True, timeout=GIT_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() or None
