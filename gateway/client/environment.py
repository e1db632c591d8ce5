"""
What a run ran in: interpreter, platform, packages, git commit, model and chosen variables.

No secret leaves: see `redaction`. Nothing in it is larger than the gateway takes; what had to be left out is said.
"""

import importlib.metadata
import json
import platform
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path

from gateway.client.redaction import redacted, without_secrets
from schemas.validity import ENVIRONMENT_BYTES_MAX

GIT_TIMEOUT_S = 2.0
PACKAGES_MAX = 2_000
NAME_CHARACTERS_MAX = 256


def capture(
    *, variables: Iterable[str], model: str | None, environ: Mapping[str, str], folder: Path
) -> dict[str, object]:
    """Describe this process; of *environ* only the named *variables*. Starts git: call it in a thread."""
    found = sorted(importlib.metadata.distributions(), key=lambda package: str(package.name))
    packages = {str(package.name): without_secrets(str(package.version)) for package in found[:PACKAGES_MAX]}
    remote = _git(folder, "config", "--get", "remote.origin.url")
    changes = _git(folder, "status", "--porcelain", "--untracked-files=no", "--ignore-submodules")
    return bounded(
        {
            "interpreter": {"implementation": platform.python_implementation(), "version": platform.python_version()},
            "platform": {"system": platform.system(), "release": platform.release(), "machine": platform.machine()},
            "packages": packages,
            "git_commit": _git(folder, "rev-parse", "--verify", "HEAD") or None,
            "git_remote": without_secrets(remote) if remote else None,
            "git_changes": None if changes is None else bool(changes),  # whether tracked files differ from the commit
            "model": None if model is None else without_secrets(model),
            "variables": {
                name[:NAME_CHARACTERS_MAX]: redacted(name, environ[name]) for name in variables if name in environ
            },
        },
        bytes_max=ENVIRONMENT_BYTES_MAX,
    )


def bounded(environment: dict[str, object], *, bytes_max: int) -> dict[str, object]:
    """*environment* within *bytes_max* of JSON: variables are left out from the last on, then packages."""
    left_out = dict.fromkeys(("variables", "packages"), 0)
    for part in left_out:
        members = environment[part]
        assert isinstance(members, dict), "capture makes it one"
        while _size_bytes(environment) > bytes_max and members:
            # By halves, so that a thousand long values cost ten looks.
            for name in list(members)[len(members) // 2 :]:
                del members[name]
                left_out[part] += 1
            environment["left_out"] = {name: count for name, count in left_out.items() if count}
    return environment


def _size_bytes(environment: Mapping[str, object]) -> int:
    return len(json.dumps(environment).encode())


def _git(folder: Path, *words: str) -> str | None:
    """What git says of *folder*; None outside a repository, without git, or where it takes long."""
    git = shutil.which("git")
    if git is None:
        return None
    try:
        answer = subprocess.run(  # noqa: S603  # fixed commands
            [git, "--no-optional-locks", *words],
            cwd=folder,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=GIT_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() if answer.returncode == 0 else None
