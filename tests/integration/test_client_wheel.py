"""The client installed alone, in a clean virtual environment, beside a program that has a `schemas` of its own."""

import importlib.metadata
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.client.wheel import build
from deploy.examples.proof import read_rows
from tests.support.stack import RunningStack, wait_until

PROGRAM = """
import json, sys
import gateway, processors, schemas  # the program's own
from tidegate_client import SyncClient, traced

@traced
def double(number):
    return 2 * number

known = json.load(sys.stdin)
with SyncClient(known["url"], api_key=known["api_key"], agent_id=known["agent_id"], secret=known["secret"],
                strict=True, spool="spool") as client:
    with client.run() as run:
        run.event("message", {"text": schemas.GREETING, "id": 2**60, "score": 1.50})
        double(gateway.NUMBER)
modules = sorted({name.partition(".")[0] for name in sys.modules})
print(json.dumps({"run_id": run.id, "accepted": run.accepted_count, "modules": modules}))
"""


def needed(name: str) -> Iterator[importlib.metadata.Distribution]:
    """Yield a distribution of this environment, and what it needs."""
    found = importlib.metadata.distribution(name)
    yield found
    for requirement in found.requires or []:
        if "extra ==" in requirement or 'python_version < "3.11"' in requirement:
            continue
        word = re.split(r"[^\w.-]", requirement)[0]
        try:
            yield from needed(word)
        except importlib.metadata.PackageNotFoundError:  # for other systems or Pythons
            continue


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """
    Return a clean environment with the wheel and what it declares; packages come from this one, so no index is asked.
    """
    folder = tmp_path_factory.mktemp("clean")
    wheel = build(folder)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True)
    python = folder / "venv" / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", str(python)]
    subprocess.run([*pip, "install", "--quiet", "--no-index", "--no-deps", str(wheel)], check=True)
    [site] = (folder / "venv" / "lib").glob("python3*/site-packages")
    declared = [each.partition(">")[0] for each in declared_by(site)]
    for name in declared:
        for found in needed(name):
            for file in {Path(str(file)).parts[0] for file in found.files or []} - {"..", "__pycache__"}:
                if not (site / file).exists():
                    (site / file).symlink_to(Path(str(found.locate_file(file))))
    subprocess.run([*pip, "check"], check=True)
    return python


def declared_by(site: Path) -> list[str]:
    [found] = importlib.metadata.distributions(name="tidegate-client", path=[str(site)])
    return found.requires or []


def test_a_program_with_modules_of_the_same_names_reports_its_run(
    stack: RunningStack, python: Path, tmp_path: Path
) -> None:
    (tmp_path / "schemas.py").write_text('GREETING = "mine"\n')
    (tmp_path / "gateway.py").write_text("NUMBER = 21\n")
    (tmp_path / "processors.py").write_text("")
    (tmp_path / "program.py").write_text(PROGRAM)
    known = stack.addresses
    given = {
        "url": known.gateway,
        "api_key": known.api_key,
        "agent_id": known.agent_id,
        "secret": known.agent_secret,
    }
    done = subprocess.run(
        [python, "program.py"],
        cwd=tmp_path, input=json.dumps(given), env={}, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    said = json.loads(done.stdout)
    assert said["accepted"] == 3
    assert not set(said["modules"]) & {"faust", "confluent_kafka", "psycopg", "structlog", "deploy"}
    wait_until(
        lambda: len(read_rows(known.postgres, [said["run_id"]])) == 3, timeout_s=60, what="the events of the program"
    )
    rows = read_rows(known.postgres, [said["run_id"]])
    assert [row.type for row in rows] == ["message", "tool_call", "tool_result"]


def test_its_public_names_are_documented_and_typed(python: Path) -> None:
    script = (
        "import tidegate_client as c, pathlib\n"
        "assert all(getattr(c, name).__doc__ for name in c.__all__)\n"
        "assert (pathlib.Path(c.__file__).parent / 'py.typed').exists()\n"
        "assert 'with client.run' in c.TidegateClient.__doc__ and 'from tidegate_client' not in c.Run.__doc__\n"
    )
    subprocess.run([python, "-c", script], check=True)
