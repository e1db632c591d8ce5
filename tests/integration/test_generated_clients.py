"""Clients that others' tools generate from openapi.json: they compile, and each is used once on the running stack."""

import json
import os
import re
import secrets
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from gateway.app import ROUTES
from gateway.http.bodies import BATCHES, MediaType
from tests.support.stack import RunningStack
from tests.support.tools import need

SOURCES = Path(__file__).parent.parent / "generated_clients"
COMMAND_TIMEOUT_S = 200  # of each; installing takes most of it


@pytest.fixture
def description(stack: RunningStack, tmp_path: Path) -> Path:
    """Return the document that the gateway serves."""
    path = tmp_path / "openapi.json"
    with urllib.request.urlopen(f"{stack.addresses.gateway}/openapi.json", timeout=30) as answer:
        path.write_bytes(answer.read())
    return path


def run(command: Sequence[str | Path], folder: Path, environ: Mapping[str, str]) -> str:
    """Run *command* in *folder*; return what it wrote, after a failure to where a person looks."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=folder,
        env=os.environ | environ,
        capture_output=True,
        text=True,
        timeout=COMMAND_TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, f"{command[0]}: exit {done.returncode}\n{done.stdout[-8000:]}\n{done.stderr[-8000:]}"
    return done.stdout + done.stderr


def settings(stack: RunningStack, run_id: str) -> dict[str, str]:
    """Return what a program that uses a client reads."""
    return {"GATEWAY": stack.addresses.gateway, "API_KEY": stack.addresses.api_key, "RUN_ID": run_id}


def check(told: dict[str, Any]) -> None:
    """Demand that what a client got is what the gateway answers."""
    assert told["status"] == "accepted"
    assert told["payload_wal_id"] == told["wal_id"]
    assert told["payload"] == {"text": "the tide comes in", "number": 1.5}
    assert told["refused"] == [409, "SEQUENCE_ERROR", 2]
    assert told["invalid"] == [422, "VALIDATION_ERROR", ["limit"]]
    assert told["listed"] is True
    assert told["missing"] == []
    assert told["traced"] == [1, {"message": 1}]


def bodies(description: Path) -> set[str]:
    """Return the formats of all bodies of requests, files included."""
    paths = json.loads(description.read_text())["paths"]
    operations = [each for path in paths.values() for each in path.values() if isinstance(each, dict)]
    return {name for each in operations for name in each.get("requestBody", {}).get("content", {})}


def test_a_generated_python_client_works(stack: RunningStack, description: Path, tmp_path: Path) -> None:
    """openapi-python-client knows JSON alone, of all the formats of bodies; nothing else is left out."""
    sources, venv = SOURCES / "python", tmp_path / "venv"
    run([sys.executable, "-m", "venv", venv], tmp_path, {})
    requirements = sources / "requirements.txt"
    run([venv / "bin" / "pip", "install", "--quiet", "--require-hashes", "-r", requirements], tmp_path, {})
    path = {"PATH": f"{venv / 'bin'}{os.pathsep}{os.environ['PATH']}"}  # it formats what it wrote with its own ruff
    client = tmp_path / "tidegate_generated"
    options = ["--path", description, "--output-path", client, "--meta", "none"]
    told = run([venv / "bin" / "openapi-python-client", "generate", *options], tmp_path, path)
    other_formats = {str(each) for each in BATCHES if each is not MediaType.JSON}
    left_out = set(re.findall(r"Unsupported content type (\S+)", told))
    assert other_formats <= left_out <= bodies(description) - {str(MediaType.JSON)}
    assert told.count("WARNING") == told.count("Unsupported content type")
    functions = [each for each in client.glob("api/*/*.py") if each.name != "__init__.py"]
    assert len(functions) == len(ROUTES)
    run([venv / "bin" / "python", "-m", "compileall", "-q", client], tmp_path, {})
    environ = settings(stack, f"generated-{secrets.token_hex(6)}")
    used = subprocess.run(
        [venv / "bin" / "python", sources / "use.py", tmp_path],
        env=os.environ | environ,
        capture_output=True,
        text=True,
        timeout=COMMAND_TIMEOUT_S,
        check=False,
    )
    assert used.returncode == 0, used.stderr
    check(json.loads(used.stdout))


def test_a_generated_typescript_client_works(stack: RunningStack, description: Path, tmp_path: Path) -> None:
    """Its types are strict: `use.ts` compiles, and says of each mistake in it that it must not."""
    node, npm = need("node", package="nodejs"), need("npm")
    folder = tmp_path / "typescript"
    shutil.copytree(SOURCES / "typescript", folder)
    run([npm, "ci", "--ignore-scripts"], folder, {})
    binaries = folder / "node_modules" / ".bin"
    run([binaries / "openapi-typescript", description, "-o", "api.ts"], folder, {})
    run([binaries / "tsc", "-p", "."], folder, {})
    told = run([node, "built/use.js"], folder, settings(stack, f"generated-{secrets.token_hex(6)}"))
    check(json.loads(told.splitlines()[-1]))
