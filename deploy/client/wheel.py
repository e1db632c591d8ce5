"""
The build of the wheel `tidegate-client` from `gateway/client` and the modules of `schemas` that it imports.

    python -m deploy.client.wheel --out build/client

The wheel contains copies: a program that installs the client may have a `schemas` of its own, so the wheel has no
top-level package but `tidegate_client`; our modules become `tidegate_client._schemas`, and only their import lines are
changed. Version and requirements are those of the repository's pyproject.toml. The same sources give the same bytes.
"""

import argparse
import ast
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import tomlkit

from deploy.errors import CommandFailed

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
CLIENT = ROOT / "gateway" / "client"
SCHEMAS = ROOT / "schemas"
PACKAGE = "tidegate_client"
EPOCH = "315532800"  # 1980, the first year that a zip file can hold

_IMPORT = re.compile(r"^(\s*)(from|import) (gateway\.client|schemas)\b(?=[. ])", re.MULTILINE)
_NEW_NAMES = {"gateway.client": PACKAGE, "schemas": f"{PACKAGE}._schemas"}


def build(out: Path) -> Path:
    """
    Write the wheel into *out* and return its path.

    Raises:
        CommandFailed: a module imports what the wheel cannot have, or setuptools failed.
    """
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        sources = Path(temporary)
        write_sources(sources)
        command = [
            sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check", "--no-deps", "--no-index",
            "--no-build-isolation", "--wheel-dir", str(sources / "dist"), str(sources),
        ]  # fmt: skip
        done = subprocess.run(
            command, env={**os.environ, "SOURCE_DATE_EPOCH": EPOCH}, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise CommandFailed(f"pip could not build the wheel:\n{done.stdout}{done.stderr}")
        [wheel] = (sources / "dist").glob("*.whl")
        return Path(shutil.copy(wheel, out))


def write_sources(folder: Path) -> None:
    """Write the wheel's project into *folder*: the modules with new import lines, and its pyproject.toml."""
    package = folder / PACKAGE
    own = {path.name: path.read_text() for path in sorted(CLIENT.glob("*.py"))}
    vendored = _needed(own.values())
    for name, text in own.items():
        _write(package / name, renamed(text))
    for name, text in vendored.items():
        _write(package / "_schemas" / name, renamed(text))
    _write(package / "_schemas" / "__init__.py", '"""Parts of Tidegate\'s contract that the client needs."""\n')
    _write(package / "py.typed", "")
    _write(folder / "README.md", (HERE / "README.md").read_text())
    _write(folder / "LICENSE", (ROOT / "LICENSE").read_text())
    packages = sorted({".".join((PACKAGE, "_schemas", *Path(name).parts[:-1])) for name in vendored} | {PACKAGE})
    _write(folder / "pyproject.toml", tomlkit.dumps(_project([*own.values(), *vendored.values()], packages)))


def renamed(text: str) -> str:
    """Return a module's source with our packages under the wheel's names, in imports and in the client's own name."""
    imports = _IMPORT.sub(lambda found: f"{found[1]}{found[2]} {_NEW_NAMES[found[3]]}", text)
    return imports.replace("gateway.client", PACKAGE)  # in what the documentation shows


def _needed(sources: Iterable[str]) -> dict[str, str]:
    """Return the modules of `schemas` that *sources* import, directly or through each other."""
    needed: dict[str, str] = {}
    waiting = list(sources)
    while waiting:
        for name in _imported(waiting.pop()):
            package, _, rest = name.partition(".")
            if name.startswith("gateway.client"):
                continue
            if package in ("gateway", "processors", "deploy"):
                raise CommandFailed(f"the client imports {name}, which its wheel cannot have")
            if package != "schemas":
                continue
            for file in _files(rest):
                if file not in needed:
                    needed[file] = (SCHEMAS / file).read_text()
                    waiting.append(needed[file])
    return dict(sorted(needed.items()))


def _files(module: str) -> Iterator[str]:
    """Yield the files of a module of `schemas` and of the packages that contain it."""
    *packages, name = module.split(".")
    for count in range(1, len(packages) + 1):
        yield f"{'/'.join(packages[:count])}/__init__.py"
    yield f"{'/'.join((*packages, name))}.py"


def _imported(source: str) -> set[str]:
    """Return the full names of the modules that a source imports; `from package import module` names the module."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            is_package = (ROOT / node.module.replace(".", "/")).is_dir()
            found |= {f"{node.module}.{alias.name}" if is_package else node.module for alias in node.names}
    return found


def _project(sources: Iterable[str], packages: Sequence[str]) -> dict[str, Any]:
    whole = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    imported = {name.partition(".")[0] for source in sources for name in _imported(source)}
    foreign = imported - sys.stdlib_module_names - {"gateway", "schemas"}
    requirements = {re.split(r"[^\w-]", each)[0]: each for each in whole["dependencies"]}
    if missing := foreign - requirements.keys():
        raise CommandFailed(
            f"the client imports {', '.join(sorted(missing))}: not among the dependencies in pyproject.toml"
        )
    return {
        "build-system": {"requires": ["setuptools>=80"], "build-backend": "setuptools.build_meta"},
        "project": {
            "name": "tidegate-client",
            "version": whole["version"],
            "description": "Reports the events of AI agents' runs to a Tidegate gateway",
            "readme": "README.md",
            "requires-python": whole["requires-python"],
            "license": whole["license"],
            "license-files": ["LICENSE"],
            "dependencies": [requirements[name] for name in sorted(foreign)],
        },
        "tool": {"setuptools": {"packages": packages, "package-data": {PACKAGE: ["py.typed"]}}},
    }


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o644)  # whatever the umask is: the mode is part of the wheel


def main() -> None:
    """Build the wheel and print its path."""
    parser = argparse.ArgumentParser(description="Build the wheel of the Python client, tidegate-client.")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "client", help="folder of the wheel")
    try:
        print(build(parser.parse_args().out))
    except CommandFailed as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
