"""A process starts another one with its own code, wherever that is and whatever the working directory is."""

import shutil
import subprocess
import sys
from pathlib import Path

from schemas.process import interpreter

TIMEOUT_S = 60.0
STARTS = """
import subprocess
from schemas.process.interpreter import module_command, module_environment
subprocess.run(module_command("schemas.started", "x"), env=module_environment(), cwd="/", check=True)
"""
JUDGES = """
import asyncio
from gateway.http.child.process import ParserProcess
from schemas.process.telemetry import OF_GATEWAY
from schemas.process.telemetry import Telemetry

async def main():
    async with ParserProcess({}, Telemetry(OF_GATEWAY)) as parser:
        await parser._process.wait()

asyncio.run(main())
"""


def copied(folder: Path, *packages: str) -> Path:
    """Return a checkout that is not installed."""
    for name in packages:
        shutil.copytree(interpreter.CODE / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def output(folder: Path, program: str) -> str:
    """Return what *program* prints that finds our packages in its working directory alone."""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=folder, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_new_process_runs_the_code_of_the_one_that_starts_it(tmp_path: Path) -> None:
    checkout = copied(tmp_path, "schemas")
    (checkout / "schemas/started.py").write_text("import sys; print(sys.argv[1], __file__)")
    assert output(checkout, STARTS) == f"x {checkout}/schemas/started.py"


def test_the_process_that_parses_bodies_is_the_gateways_own(tmp_path: Path) -> None:
    checkout = copied(tmp_path, "schemas", "gateway")
    (checkout / "gateway/body_worker.py").write_text("import pathlib; pathlib.Path('started').touch()")
    output(checkout, JUDGES)
    assert (checkout / "started").exists()
