"""What a run ran in, captured within the gateway's bound."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.client.environment import bounded, capture
from schemas.runs.rules import ENVIRONMENT_BYTES_MAX
from schemas.strictjson import decode
from tests.unit.gateway.client.fake_gateway import FakeGateway

ROOT = Path(__file__).parents[4]


def test_only_chosen_variables_are_captured(tmp_path: Path) -> None:
    environ = {"REGION": "north", "OTHER": "unseen", "API_TOKEN": "abc"}
    captured = capture(variables=["REGION", "API_TOKEN", "ABSENT"], model=None, environ=environ, folder=tmp_path)
    assert captured["variables"] == {"REGION": "north", "API_TOKEN": "***"}
    assert captured["git_commit"] is None
    assert "aiohttp" in captured["packages"]


def test_the_git_commit_is_captured(tmp_path: Path) -> None:
    def git(*words: str) -> str:
        command = ["git", "-c", "user.name=a", "-c", "user.email=a@example.org", *words]
        return subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True).stdout.strip()

    git("init")
    git("commit", "--allow-empty", "--message", "first")
    captured = capture(variables=[], model="none", environ={}, folder=tmp_path)
    assert captured["git_commit"] == git("rev-parse", "HEAD")
    assert (captured["git_remote"], captured["git_changes"]) == (None, False)


def test_the_git_remote_is_shown_without_its_credentials(tmp_path: Path) -> None:
    def git(*words: str) -> None:
        subprocess.run(["git", *words], cwd=tmp_path, check=True, capture_output=True)

    git("init")
    git("remote", "add", "origin", "https://ada:ghp_0123456789abcdefABCD@example.org/a/b.git")
    captured = capture(variables=[], model=None, environ={}, folder=tmp_path)
    assert captured["git_remote"] == "https://***@example.org/a/b.git"
    assert captured["git_commit"] is None, "nothing is committed"


def test_a_snapshot_is_within_what_the_gateway_takes(tmp_path: Path) -> None:
    """What is left out is counted; what is short comes first."""
    environ = {f"V{number:04}": "word " * 2000 for number in range(200)}
    captured = capture(variables=environ, model="m", environ=environ, folder=tmp_path)
    assert len(json.dumps(captured).encode()) <= ENVIRONMENT_BYTES_MAX
    variables = captured["variables"]
    assert isinstance(variables, dict)
    assert captured["left_out"] == {"variables": 200 - len(variables)}
    assert "V0000" in variables
    assert captured["packages"]


def test_packages_go_when_variables_are_not_enough() -> None:
    packages: dict[str, object] = {f"p{number}": "1" * 100 for number in range(100)}
    cut = bounded({"packages": packages, "variables": {"A": "b"}}, bytes_max=1000)
    assert cut["left_out"] == {"variables": 1, "packages": 100 - len(packages)}
    assert 0 < len(packages) < 10


def test_a_model_is_shown_without_a_key_in_its_address(tmp_path: Path) -> None:
    captured = capture(variables=[], model="https://host/v1?api_key=abc123&x=1", environ={}, folder=tmp_path)
    assert captured["model"] == "https://host/v1?***&x=1"


class Broken:
    """A package whose metadata cannot be read."""

    @property
    def name(self) -> str:
        raise OSError("Permission denied")

    version = name


class Package:
    def __init__(self, name: object, version: object) -> None:
        self.name = name
        self.version = version


def capture_packages(distributions: Callable[[], Any], tmp_path: Path) -> object:
    return capture(variables=[], model=None, environ={}, folder=tmp_path, distributions=distributions)["packages"]


def test_broken_metadata_costs_only_the_package(tmp_path: Path) -> None:
    found = [Package("good", "1"), Broken(), Package(None, "2"), Package("nameless", None), Package("\udcff\0", "3")]
    assert capture_packages(lambda: found, tmp_path) == {"good": "1", "nameless": "", "??": "3"}


def test_a_path_that_cannot_be_read_ends_the_list_of_packages(tmp_path: Path) -> None:
    def distributions() -> Iterator[Package]:
        yield Package("good", "1")
        raise PermissionError

    assert capture_packages(distributions, tmp_path) == {"good": "1"}


def test_nothing_is_known_of_packages_that_cannot_be_looked_for(tmp_path: Path) -> None:
    def distributions() -> Iterator[Package]:
        raise OSError

    assert capture_packages(distributions, tmp_path) == {}


class HostileEnviron(dict[str, str]):
    def __getitem__(self, name: str) -> str:
        raise ValueError(name)


@pytest.mark.parametrize("folder", [None, Path("/nowhere/at/all"), Path("a\0b"), Path("/dev/null")])
def test_no_folder_is_no_fault(folder: Path | None) -> None:
    captured = capture(variables=["A"], model=None, environ={"A": "b"}, folder=folder)
    assert (captured["git_commit"], captured["git_remote"], captured["git_changes"]) == (None, None, None)
    assert captured["variables"] == {"A": "b"}


def test_variables_that_are_no_text_are_no_fault(tmp_path: Path) -> None:
    environ = HostileEnviron(A="1") | {"BYTES": "\udcff\udc80", "B\udcff": "\0"}
    captured = capture(variables=["BYTES", "B\udcff", "ABSENT"], model="\ud83d", environ=environ, folder=tmp_path)
    assert captured["variables"] == {"BYTES": "??", "B?": "?"}
    assert captured["model"] == "?"
    decode(json.dumps(captured))
    hostile = capture(variables=["A"], model=None, environ=HostileEnviron(A="1"), folder=tmp_path)
    assert hostile["variables"] == {}


def test_a_repository_does_not_get_its_program_started(tmp_path: Path) -> None:
    subprocess.run(["git", "init"], cwd=tmp_path, check=True, capture_output=True)
    program = tmp_path / "monitor"
    program.write_text(f"#!/bin/sh\ntouch {tmp_path}/started\n")
    program.chmod(0o755)
    subprocess.run(["git", "config", "core.fsmonitor", str(program)], cwd=tmp_path, check=True, capture_output=True)
    capture(variables=[], model=None, environ={}, folder=tmp_path)
    assert not (tmp_path / "started").exists()


async def test_a_program_whose_working_folder_was_deleted_reports_its_run(gateway: FakeGateway, tmp_path: Path) -> None:
    program = (
        "import asyncio, os, sys\n"
        "from gateway.client import TidegateClient\n"
        "folder = sys.argv[2]\n"
        "os.mkdir(folder); os.chdir(folder); os.rmdir(folder)\n"
        "async def main():\n"
        "    async with TidegateClient(sys.argv[1], api_key='k', agent_id='a') as client:\n"
        "        async with client.run('run-1') as run:\n"
        "            await run.event('message', 1)\n"
        "asyncio.run(main())\n"
    )
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, gateway.url, str(tmp_path / "gone"), env=environ
    )
    assert await process.wait() == 0
    assert [event["payload"] for event in gateway.events["run-1"]] == [1]
    assert gateway.environments["run-1"]["git_commit"] is None
