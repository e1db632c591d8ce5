"""
The environment of a run: interpreter, platform, packages, git commit, model and selected variables.

Secrets are removed: see `redaction`. The snapshot stays within the gateway's limits, and names what was left out.
Nothing here raises: unknown values are None or missing, since a run is worth more than its description.
"""

import importlib.metadata
import json
import platform
import shutil
import subprocess
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TypeVar

from schemas.process.redaction import redacted, without_secrets
from schemas.runs.rules import ENVIRONMENT_BYTES_MAX

GIT_TIMEOUT_S = 2.0
PACKAGES_MAX = 2_000
NAME_CHARACTERS_MAX = 256

Value = TypeVar("Value")


def capture(
    *,
    variables: Iterable[str],
    model: str | None,
    environ: Mapping[str, str],
    folder: Path | None,
    distributions: Callable[[], Iterable[importlib.metadata.Distribution]] = importlib.metadata.distributions,
) -> dict[str, object]:
    """
    Describe this process; of *environ* only the named *variables*. Starts git: call it in a thread.

    *folder* is the working folder, None if there is none.
    """
    remote = _git(folder, "config", "--get", "remote.origin.url")
    changes = _git(folder, "status", "--porcelain", "--untracked-files=no", "--ignore-submodules")
    return bounded(
        {
            "interpreter": _texts(implementation=platform.python_implementation, version=platform.python_version),
            "platform": _texts(system=platform.system, release=platform.release, machine=platform.machine),
            "packages": _packages(distributions),
            "git_commit": _git(folder, "rev-parse", "--verify", "HEAD") or None,
            "git_remote": without_secrets(remote) if remote else None,
            "git_changes": None if changes is None else bool(changes),  # whether tracked files differ from the commit
            "model": None if model is None else _try(lambda: without_secrets(str(model))),
            "variables": _variables(variables, environ),
        },
        bytes_max=ENVIRONMENT_BYTES_MAX,
    )


def bounded(environment: dict[str, object], *, bytes_max: int) -> dict[str, object]:
    """Return *environment* within *bytes_max* of JSON: variables are left out from the last on, then packages."""
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


def _try(find: Callable[[], Value]) -> Value | None:
    """Return what *find* finds out; None if it fails, however it does."""
    try:
        return find()
    except Exception:  # noqa: BLE001  # metadata, paths and platforms break in more ways than can be listed
        return None


def _texts(**found: Callable[[], str]) -> dict[str, str | None]:
    return {name: _try(lambda find=find: _clean(find())) for name, find in found.items()}  # type: ignore[misc]


def _packages(distributions: Callable[[], Iterable[importlib.metadata.Distribution]]) -> dict[str, str]:
    packages: dict[str, str] = {}
    found = _try(lambda: iter(distributions()))
    while found is not None:
        try:
            package = next(found)
        except StopIteration:
            break
        except Exception:  # noqa: BLE001  # a folder of the path that cannot be read; an iterator goes on nowhere
            break
        name, version = _try(lambda package=package: package.name), _try(lambda package=package: package.version)  # type: ignore[misc]
        if isinstance(name, str):  # metadata may lack either
            # The first on the path is the one that is imported.
            packages.setdefault(_clean(name), without_secrets(str(version or "")))
    return dict(sorted(packages.items())[:PACKAGES_MAX])


def _variables(names: Iterable[str], environ: Mapping[str, str]) -> dict[str, str]:
    found = {}
    for name in _try(lambda: list(names)) or []:
        value = _try(lambda name=name: redacted(name, environ[name]) if name in environ else None)  # type: ignore[misc]
        if value is not None:
            found[_clean(name)] = value
    return found


def _clean(text: str) -> str:
    """Return *text* as UTF-8 can carry it; names of files and systems may hold any bytes."""
    return text[:NAME_CHARACTERS_MAX].encode("utf-8", "replace").decode().replace("\0", "?")


def _size_bytes(environment: Mapping[str, object]) -> int:
    return len(json.dumps(environment).encode())


def _git(folder: Path | None, *words: str) -> str | None:
    """Return what git says of *folder*; None outside a repository, without git, or where it takes long."""
    if folder is None:
        return None
    return _try(lambda: _ask_git(folder, words))


def _ask_git(folder: Path, words: Iterable[str]) -> str | None:
    git = shutil.which("git")
    if git is None:
        return None
    answer = subprocess.run(  # noqa: S603  # fixed commands
        # The repository may name a program as its file system monitor: it is not started.
        [git, "--no-optional-locks", "-c", "core.fsmonitor=false", *words],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        encoding="utf-8",
        errors="replace",
        timeout=GIT_TIMEOUT_S,
        check=False,
    )
    return answer.stdout.strip() if answer.returncode == 0 else None
